"""A server that is stopped hangs up on everybody, on who connects at that moment too."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.electrum import ElectrumServer
from lnlab.nodes.embedded.lightning import LightningNetwork
from lnlab.nodes.embedded.rpc import NodeRpcServer

Stop = Callable[[], Awaitable[None]]
SOON_SECS = 2.0


async def electrum(_: Path) -> tuple[socket.socket, Any, Stop]:
    """A socket, the address, and how to stop the server there."""
    chain = Chain()
    rpc = NodeRpcServer(chain, user="u", password="p", on_stop=lambda: None)
    server = ElectrumServer(chain, rpc.node)
    return socket.socket(), ("127.0.0.1", await server.start()), server.close


async def lightning(folder: Path) -> tuple[socket.socket, Any, Stop]:
    """The same for a Lightning node."""
    network, path = LightningNetwork(block_height=lambda: 1), folder / "rpc"
    network.add_node("seller", path)
    await network.start()
    return socket.socket(socket.AF_UNIX), str(path), network.stop


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("server", [electrum, lightning])
async def test_who_connects_while_a_server_stops_is_hung_up_on(
    server: Callable[[Path], Awaitable[tuple[socket.socket, Any, Stop]]],
    turns: int,
    tmp_path: Path,
) -> None:
    """However far the event loop has come with taking the connection."""
    client, address, stop = await server(tmp_path)
    with client:
        client.settimeout(SOON_SECS)
        client.connect(address)
        for _ in range(turns):
            await asyncio.sleep(0)
        await stop()
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
