"""The proxies: each fault does to a connection what its name says, and ends when it is cleared."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lnlab.faults.orders import Fault, FaultError
from lnlab.faults.proxy import Proxy
from lnlab.servers import close_server

TIP = "blockchain.headers.subscribe"
HISTORY = "blockchain.scripthash.get_history"
SOON_SECS = 0.2


class FakeElectrum:
    """Answers every request with its tip; announces a new one to all clients on order."""

    def __init__(self) -> None:
        self.height = 1
        self.writers: list[asyncio.StreamWriter] = []
        self.asked: list[str] = []

    async def start(self) -> str:
        """Listen and return the URL."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"tcp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop."""
        await close_server(self.server)
        for writer in self.writers:
            writer.close()
        await self.server.wait_closed()

    def announce(self, height: int) -> None:
        """Tell every client of a block."""
        self.height = height
        line = json.dumps({"method": TIP, "params": [{"height": height}]}).encode() + b"\n"
        for writer in self.writers:
            writer.write(line)

    def _result(self, method: str) -> Any:
        heights = [0, *range(1, self.height + 1)]  # one unconfirmed, one in each block
        return [{"height": h} for h in heights] if method == HISTORY else {"height": self.height}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        async for line in reader:
            message = json.loads(line)
            one_or_more = message if isinstance(message, list) else [message]
            self.asked += [one["method"] for one in one_or_more]
            answers = [
                {"id": one["id"], "result": self._result(one["method"])} for one in one_or_more
            ]
            answer = answers if isinstance(message, list) else answers[0]
            writer.write(json.dumps(answer).encode() + b"\n")


class Client:
    """One connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: Proxy) -> "Client":
        """Connect. Raises OSError."""
        place = urlsplit(proxy.endpoint)
        return cls(*await asyncio.open_connection(place.hostname, place.port))

    def send(self, *methods: str) -> None:
        """Send one request, or several as an array."""
        messages = [{"id": number, "method": name} for number, name in enumerate(methods)]
        text = json.dumps(messages if len(messages) > 1 else messages[0])
        self.writer.write(text.encode() + b"\n")

    async def read(self, timeout_secs: float = 5) -> Any:
        """The next message. Raises TimeoutError, and EOFError when the connection ended."""
        line = await asyncio.wait_for(self.reader.readline(), timeout_secs)
        if not line.endswith(b"\n"):
            raise EOFError(line)
        return json.loads(line)

    async def ask(self, method: str = TIP) -> Any:
        """One request and its answer."""
        self.send(method)
        return (await self.read())["result"]


@pytest.fixture
async def server() -> AsyncIterator[FakeElectrum]:
    """What the proxy stands in front of."""
    server = FakeElectrum()
    yield server
    await server.close()


@pytest.fixture
async def proxy(server: FakeElectrum) -> AsyncIterator[Proxy]:
    """A proxy for Electrum."""
    proxy = Proxy("electrum", await server.start())
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    """A connection that works before anything goes wrong."""
    client = await Client.connect(proxy)
    assert await client.ask() == {"height": 1}
    yield client
    client.writer.close()


async def test_refuse(proxy: Proxy, client: Client) -> None:
    """Open connections end, new ones are refused; afterwards the port is the same."""
    endpoint = proxy.endpoint
    await proxy.set_fault(Fault.REFUSE)
    with pytest.raises(EOFError):
        await client.read()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(proxy)
    await proxy.set_fault(Fault.NONE)
    assert proxy.endpoint == endpoint
    again = await Client.connect(proxy)
    assert await again.ask() == {"height": 1}
    again.writer.close()


async def test_hang(proxy: Proxy, client: Client, server: FakeElectrum) -> None:
    """Nothing reaches the server and nothing comes back until it ends; then it goes on."""
    server.asked.clear()
    await proxy.set_fault(Fault.HANG)
    client.send(TIP)
    with pytest.raises(TimeoutError):
        await client.read(SOON_SECS)
    assert not server.asked
    await proxy.set_fault(Fault.NONE)
    assert (await client.read())["result"] == {"height": 1}


async def test_delay(proxy: Proxy, client: Client) -> None:
    """Answers come later by so much, not one after the other by so much each."""
    await proxy.set_fault(Fault.DELAY, 0.3)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        client.send(TIP)
    for _ in range(4):
        await client.read()
        assert loop.time() - began >= 0.3
    assert loop.time() - began < 1.0


async def test_cut(proxy: Proxy, client: Client, server: FakeElectrum) -> None:
    """The request arrives, half of the answer comes back."""
    server.asked.clear()
    await proxy.set_fault(Fault.CUT)
    client.send("broadcast")
    with pytest.raises(EOFError) as half:
        await client.read()
    assert half.value.args[0].startswith(b'{"id": 0')
    assert server.asked == ["broadcast"]


@pytest.mark.parametrize(
    ("fault", "heights"),
    [
        (Fault.NONE, [2, 3]),
        (Fault.DROP, []),
        (Fault.DUPLICATE, [2, 2, 3, 3]),
        (Fault.LAG, []),
        (Fault.BEHIND, []),
    ],
)
async def test_notifications(
    proxy: Proxy, client: Client, server: FakeElectrum, fault: Fault, heights: list[int]
) -> None:
    """They are passed on, lost or doubled; answers come in any case."""
    await proxy.set_fault(fault)
    server.announce(2)
    server.announce(3)
    client.send("blockchain.estimatefee")
    seen = []
    while "id" not in (message := await client.read()):
        seen.append(message["params"][0]["height"])
    assert seen == heights
    assert message["result"] == {"height": 3}


async def test_lag(proxy: Proxy, client: Client, server: FakeElectrum) -> None:
    """The tip is the one last seen, on new connections and in arrays too; the rest is as it is."""
    server.announce(2)
    assert (await client.read())["params"] == [{"height": 2}]
    await proxy.set_fault(Fault.LAG)
    server.announce(5)
    assert await client.ask() == {"height": 2}
    other = await Client.connect(proxy)
    other.send(TIP, "server.banner")
    assert [one["result"] for one in await other.read()] == [{"height": 2}, {"height": 5}]
    await proxy.set_fault(Fault.NONE)
    assert await other.ask() == {"height": 5}
    other.writer.close()


async def test_behind(proxy: Proxy, client: Client, server: FakeElectrum) -> None:
    """Tip and histories end below the tip that was seen last, and nothing is unconfirmed."""
    for height in (2, 4):
        server.announce(height)
        assert (await client.read())["params"] == [{"height": height}]
    await proxy.set_fault(Fault.BEHIND)
    server.announce(5)
    other = await Client.connect(proxy)
    assert await other.ask() == {"height": 2}
    assert await other.ask(HISTORY) == [{"height": 1}, {"height": 2}]
    await proxy.set_fault(Fault.NONE)
    assert await other.ask() == {"height": 5}
    assert [item["height"] for item in await other.ask(HISTORY)] == [0, 1, 2, 3, 4, 5]
    other.writer.close()


async def test_unix_socket(tmp_path: Path) -> None:
    """A unix proxy passes bytes, and knows no faults of Electrum."""
    target = tmp_path / "node"
    echo = await asyncio.start_unix_server(_echo, target)
    proxy = Proxy("lightning", str(target), tmp_path / "faulty")
    await proxy.start()
    try:
        reader, writer = await asyncio.open_unix_connection(proxy.endpoint)
        writer.write(b"no line end")
        assert await reader.readexactly(11) == b"no line end"
        writer.close()
        await proxy.set_fault(Fault.REFUSE)
        with pytest.raises(OSError, match="refused"):
            await asyncio.open_unix_connection(proxy.endpoint)
        await proxy.set_fault(Fault.NONE)
        reader, writer = await asyncio.open_unix_connection(proxy.endpoint)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"
        writer.close()
        with pytest.raises(FaultError, match="Electrum"):
            await proxy.set_fault(Fault.LAG)
        with pytest.raises(FaultError, match="seconds"):
            await proxy.set_fault(Fault.DELAY)
    finally:
        await proxy.close()
        echo.close()
        await echo.wait_closed()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(100):
            writer.write(data)
    finally:
        writer.close()
