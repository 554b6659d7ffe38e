"""An embedded chain behind its RPC and Electrum servers, on real sockets, for tests of the lab."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lnlab.actors.faucet import Faucet
from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.electrum import ElectrumServer
from lnlab.nodes.embedded.rpc import NodeRpcServer
from lnlab.nodes.record import POLICY_ASSET
from lnlab.nodes.rpc import NodeRpc

USER, PASSWORD = "user", "secret"


@dataclass
class ServedChain:
    """A chain with its two servers, a client of the RPC, and a faucet with small coins."""

    chain: Chain
    rpc: NodeRpc
    faucet: Faucet
    rpc_url: str
    electrum_port: int
    stop_requests: list[str]

    @property
    def electrum_url(self) -> str:
        """Where the Electrum server listens."""
        return f"tcp://127.0.0.1:{self.electrum_port}"

    async def pay(self, script: bytes, sats: int = 5000) -> str:
        """Pay L-BTC to a script and leave it in the mempool."""
        return await self.faucet.fund(script, [(POLICY_ASSET, sats)])


def script_of(number: int) -> bytes:
    """Return a P2WPKH script that nothing else uses."""
    return b"\x00\x14" + number.to_bytes(20, "big")


def scripthash_of(script: bytes) -> str:
    """Return the Electrum name of a script: reversed sha256, hex."""
    return hashlib.sha256(script).digest()[::-1].hex()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedChain]:
    """A chain of two blocks with the free coins split."""
    chain = Chain()
    stop_requests: list[str] = []
    rpc_server = NodeRpcServer(
        chain, user=USER, password=PASSWORD, on_stop=lambda: stop_requests.append("stop")
    )
    url = f"http://127.0.0.1:{await rpc_server.start()}/"
    electrum = ElectrumServer(chain, rpc_server.node)
    port = await electrum.start()
    async with NodeRpc(url, USER, PASSWORD) as rpc:
        faucet = Faucet(rpc, tmp_path)
        chain.generate()
        await faucet.split()
        chain.generate()
        yield ServedChain(chain, rpc, faucet, url, port, stop_requests)
    await electrum.close()
    await rpc_server.close()
