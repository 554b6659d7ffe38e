"""Proxies that misbehave on demand: ``python -m lnlab.faults.proxy --dir DIR``.

One stands in front of the Electrum server (TCP), one in front of each Lightning node's JSON-RPC
(unix socket). Whoever uses the proxied endpoints meets the fault that is set; the lab itself keeps
to the direct ones. Faults are set over ``DIR/faults.sock``: a JSON line
``{"proxy": …, "fault": …, "secs": …}`` is answered by a line with the state of all proxies, or with
``{"error": …}``; ``{}`` only asks. SIGTERM ends the process with exit code 0.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lnlab.faults.electrum_lines import LINE_LIMIT_BYTES, ElectrumLines, PlainBytes, SeenTips, Sight
from lnlab.faults.orders import CONTROL_SOCKET, Fault, FaultError
from lnlab.nodes import record
from lnlab.servers import close_server

CHUNK_BYTES = 64 * 1024

log = logging.getLogger("lnlab.faults")


ELECTRUM_ONLY = frozenset({Fault.DROP, Fault.DUPLICATE, Fault.LAG, Fault.FROZEN, Fault.BEHIND})
NOTIFICATIONS = {
    Fault.DROP: 0,
    Fault.LAG: 0,
    Fault.FROZEN: 0,
    Fault.BEHIND: 0,
    Fault.DUPLICATE: 2,
}
"""How often each notification comes, where it is not once."""
SIGHTS = {Fault.LAG: Sight.OLD_TIP, Fault.FROZEN: Sight.FROZEN, Fault.BEHIND: Sight.BEHIND}


def _bound(port: int) -> socket.socket:
    """A socket on a loopback port, 0 for a free one. Connections are refused until it listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class Proxy:
    """Passes connections on to ``target`` (``tcp://host:port`` or a socket path), or does not.

    ``listen_path`` is where a unix proxy listens; a TCP proxy takes a free loopback port and keeps
    it. Use ``start``, ``set_fault``, ``close``.
    """

    def __init__(self, name: str, target: str, listen_path: Path | None = None) -> None:
        self.name = name
        self.fault = Fault.NONE
        self.endpoint = "" if listen_path is None else str(listen_path)
        self._target = target
        self._listen_path = listen_path
        self._port = 0
        self._secs = 0.0
        self._server: asyncio.Server | None = None
        self._kept: socket.socket | None = None
        """Bound but not listening, while a TCP proxy refuses: nobody else gets the port."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._tips = SeenTips()

    async def start(self) -> None:
        """Begin to listen."""
        if self._listen_path is not None:
            self._server = await asyncio.start_unix_server(
                self._connected, self._listen_path, limit=LINE_LIMIT_BYTES
            )
            return
        bound, self._kept = self._kept or _bound(self._port), None
        self._server = await asyncio.start_server(
            self._connected, sock=bound, limit=LINE_LIMIT_BYTES
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{self._port}"

    async def close(self) -> None:
        """Stop listening and close all connections."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        if self._server is not None:
            await close_server(self._server)
            await self._server.wait_closed()
            self._server = None
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def set_fault(self, fault: Fault, secs: float = 0.0) -> None:
        """Behave so from now on, on open connections too. Raises ``FaultError``."""
        if fault in ELECTRUM_ONLY and self._listen_path is not None:
            raise FaultError(f"{fault} is a fault of the Electrum proxy only, not of {self.name}")
        if fault is Fault.DELAY and secs <= 0:
            raise FaultError("a delay needs a number of seconds")
        self.fault, self._secs = fault, secs
        self._tips.older_secs = int(secs) if fault is Fault.FROZEN else 0
        if fault is Fault.REFUSE:
            await self.close()
            if self._listen_path is None:
                self._kept = _bound(self._port)
        elif self._server is None:
            await self.start()
        if fault is Fault.HANG:
            self._flowing.clear()
        else:
            self._flowing.set()
        log.info("%s: %s", self.name, fault)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
                await self._relay(reader, writer)
        except asyncio.CancelledError:
            pass  # closed by ``close``; asyncio's own callback would log it as a fault
        finally:
            self._connections.discard(task)
            await _closed(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until one side ends."""
        upstream, upstream_writer = await self._dial()
        is_electrum = self._listen_path is None
        stream = ElectrumLines(self._tips) if is_electrum else PlainBytes()
        ways = [
            asyncio.create_task(self._requests(reader, upstream_writer, stream)),
            asyncio.create_task(self._answers(upstream, writer, stream)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            upstream_writer.close()  # at once: this may be cancelled while it waits
            await asyncio.gather(*ways, return_exceptions=True)
            await _closed(upstream_writer)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._listen_path is not None:
            return await asyncio.open_unix_connection(self._target)
        place = urlsplit(self._target)
        return await asyncio.open_connection(place.hostname, place.port, limit=LINE_LIMIT_BYTES)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stream: ElectrumLines | PlainBytes,
    ) -> None:
        while data := await self._read(reader):
            await self._flowing.wait()
            stream.asked(data)
            writer.write(data)
            await writer.drain()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stream: ElectrumLines | PlainBytes,
    ) -> None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def receive() -> None:
            try:
                while data := await self._read(reader):
                    arrived.put_nowait((loop.time(), data))
            finally:
                arrived.put_nowait((loop.time(), b""))

        receiving = asyncio.create_task(receive())
        try:
            while (item := await arrived.get())[1]:
                at, data = item
                await self._flowing.wait()
                if self.fault is Fault.DELAY:
                    await asyncio.sleep(max(0.0, at + self._secs - loop.time()))
                if self.fault is Fault.CUT:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    return
                for piece in stream.answered(
                    data,
                    notifications=NOTIFICATIONS.get(self.fault, 1),
                    sight=SIGHTS.get(self.fault, Sight.WHOLE),
                ):
                    writer.write(piece)
                await writer.drain()
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        if self._listen_path is None:
            return await reader.readline()
        return await reader.read(CHUNK_BYTES)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class ControlDoor:
    """Takes orders for proxies on a unix socket."""

    def __init__(self, proxies: Sequence[Proxy]) -> None:
        self._proxies = {proxy.name: proxy for proxy in proxies}
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Begin to listen at ``path``."""
        self._server = await asyncio.start_unix_server(self._connected, path)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            answer = await self._carry_out(json.loads(await reader.readline()))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            if order:
                proxy = self._proxies.get(order["proxy"])
                if proxy is None:
                    have = ", ".join(self._proxies)
                    raise FaultError(f"no proxy {order['proxy']!r}; there are: {have}")
                await proxy.set_fault(Fault(order["fault"]), float(order.get("secs", 0)))
        except (FaultError, KeyError, ValueError, OSError) as error:
            return {"error": str(error)}
        return {
            name: {"endpoint": proxy.endpoint, "fault": proxy.fault.value}
            for name, proxy in self._proxies.items()
        }


async def serve(directory: Path) -> None:
    """Run the proxies of the lab in ``directory`` until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    nodes = record.load(directory)
    proxies = [Proxy("electrum", nodes.electrum_url)]
    sockets = {name: directory / f"faulty-{name}.sock" for name in nodes.lightning}
    for name, path in nodes.lightning.items():
        proxies.append(Proxy(f"lightning-{name}", path, sockets[name]))
    door = ControlDoor(proxies)
    try:
        for proxy in proxies:
            await proxy.start()
        await door.start(directory / CONTROL_SOCKET)
        log.info("ready")
        await stop.wait()
    finally:
        await door.close()
        for proxy in proxies:
            await proxy.close()
        # Only now: a proxy that refuses keeps its socket's file, as a dead node does.
        for socket_path in (directory / CONTROL_SOCKET, *sockets.values()):
            socket_path.unlink(missing_ok=True)


def main() -> int:
    """Run the proxies; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lnlab.faults.proxy", description=__doc__)
    parser.add_argument("--dir", required=True, type=Path, help="directory of the lab")
    directory: Path = parser.parse_args().dir
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(directory.resolve()))
    except record.NoLabError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
