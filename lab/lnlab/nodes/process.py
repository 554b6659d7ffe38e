"""Real nodes as processes: elementsd, a Liquid electrs and two lightningd found on PATH.

All of them listen on loopback only, on free ports, with data directories inside the lab's. Options
are those that worked in practice on elementsd 23.3 and Core Lightning 26.06; the chain must be
called ``liquid-regtest``, because lightningd knows no other Liquid regtest.
"""

import secrets
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from embit.script import address_to_scriptpubkey

from lnlab.faucet import SPLIT_SATS, Faucet
from lnlab.nodes.children import check_alive, spawn
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.lightning import LightningRpcError, lightning_call
from lnlab.nodes.record import POLICY_ASSET, NodeProcess, NodesRecord
from lnlab.nodes.rpc import NodeRpc, NodeRpcError, NodeUnreachableError
from lnlab.nodes.seed import mine, seed_chain, seed_fee_estimates
from lnlab.wait import wait_for

PROGRAMS = ("elementsd", "elements-cli", "electrs", "lightningd")
"""What must be on PATH; lightningd asks elementsd through elements-cli."""

RPC_USER = "lnlab"
START_TIMEOUT_SECS = 60.0
CHANNEL_SATS = 1_000_000_000
PUSH_SATS = CHANNEL_SATS // 2
CHANNEL_CONFIRMATIONS = 6


class MissingProgramError(Exception):
    """A program that the lab needs is not on PATH."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the real nodes."""

    rpc: int
    electrum: int
    electrs_http: int
    electrs_metrics: int
    seller: int
    buyer: int


def find_programs() -> dict[str, str]:
    """Return the path of each needed program. Raises MissingProgramError naming the missing."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        raise MissingProgramError(
            f"not found on PATH: {', '.join(missing)} (nodes `process` need {', '.join(PROGRAMS)})"
        )
    return {name: str(path) for name, path in found.items()}


def free_ports() -> Ports:
    """Return ports that are free now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in Ports.__dataclass_fields__]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return Ports(*(int(one.getsockname()[1]) for one in sockets))


class ProcessNodes:
    """Starts the real nodes in ``directory``; ``started`` grows as processes come up."""

    def __init__(self, directory: Path, started: list[NodeProcess]) -> None:
        self._programs = find_programs()
        self._directory = directory
        self._started = started
        self._ports = free_ports()
        self._password = secrets.token_hex(16)
        self._sockets = {
            name: str(directory / name / "lightning-rpc") for name in ("seller", "buyer")
        }

    async def launch(self) -> NodesRecord:
        """Start everything and return where it listens, a channel with money on both ends included.

        Raises NodeDiedError when a program ends early, WaitTimeoutError when one does not answer.
        """
        rpc_url = f"http://127.0.0.1:{self._ports.rpc}/"
        electrum_url = f"tcp://127.0.0.1:{self._ports.electrum}"
        async with NodeRpc(rpc_url, RPC_USER, self._password) as rpc:
            self._spawn("elementsd", self._elementsd_options())
            await self._wait(partial(_rpc_answers, rpc), "elementsd answers")
            faucet = Faucet(rpc, self._directory)
            await seed_chain(rpc, faucet)
            await seed_fee_estimates(rpc, faucet)
            self._spawn("electrs", self._electrs_options())
            for name in self._sockets:
                self._spawn(f"lightningd-{name}", self._lightningd_options(name))
            await self._wait(partial(_electrum_answers, electrum_url), "electrs answers")
            await self._open_channel(rpc, faucet)
        return NodesRecord(
            kind="process",
            rpc_url=rpc_url,
            rpc_user=RPC_USER,
            rpc_password=self._password,
            electrum_url=electrum_url,
            lightning=self._sockets,
            processes=list(self._started),
        )

    def _spawn(self, name: str, options: list[str]) -> None:
        program = self._programs[name.partition("-")[0]]
        log = self._directory / f"{name}.log"
        self._started.append(spawn(name, [program, *options], log))

    async def _wait(self, predicate: Callable[[], Any], message: str) -> None:
        await wait_for(
            predicate,
            timeout_secs=START_TIMEOUT_SECS,
            message=message,
            check_alive=lambda: check_alive(self._started),
            interval_secs=0.05,
        )

    def _data_directory(self, name: str) -> Path:
        path = self._directory / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _elementsd_options(self) -> list[str]:
        return [
            f"-datadir={self._data_directory('elementsd')}",
            "-chain=liquid-regtest",
            "-server",
            "-txindex",
            "-validatepegin=0",
            "-blindedaddresses=0",
            # electrs stops at a genesis block with free coins on this chain: it knows the outpoint
            # that their issuance "spends" for the other regtest name only (util/transaction.rs).
            "-initialfreecoins=0",
            f"-con_blocksubsidy={SPLIT_SATS}",
            "-listen=0",
            "-dnsseed=0",
            "-disablewallet",
            "-printtoconsole",
            "-nodebuglogfile",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            f"-rpcport={self._ports.rpc}",
            f"-rpcuser={RPC_USER}",
            f"-rpcpassword={self._password}",
            "-rpcthreads=8",
        ]

    def _electrs_options(self) -> list[str]:
        elementsd = self._data_directory("elementsd")
        return [
            *("--network", "liquidregtest", "--parent-network", "regtest", "--jsonrpc-import"),
            *("--cookie", f"{RPC_USER}:{self._password}"),
            *("--daemon-dir", str(elementsd), "--db-dir", str(self._data_directory("electrs"))),
            *("--daemon-rpc-addr", f"127.0.0.1:{self._ports.rpc}"),
            *("--electrum-rpc-addr", f"127.0.0.1:{self._ports.electrum}"),
            *("--http-addr", f"127.0.0.1:{self._ports.electrs_http}"),
            *("--monitoring-addr", f"127.0.0.1:{self._ports.electrs_metrics}"),
        ]

    def _lightningd_options(self, name: str) -> list[str]:
        port = self._ports.seller if name == "seller" else self._ports.buyer
        return [
            f"--lightning-dir={self._data_directory(name)}",
            "--network=liquid-regtest",
            f"--rpc-file={self._sockets[name]}",
            f"--bind-addr=127.0.0.1:{port}",
            f"--alias={name}",
            f"--bitcoin-cli={self._programs['elements-cli']}",
            f"--bitcoin-datadir={self._data_directory('elementsd')}",
            "--bitcoin-rpcconnect=127.0.0.1",
            f"--bitcoin-rpcport={self._ports.rpc}",
            f"--bitcoin-rpcuser={RPC_USER}",
            f"--bitcoin-rpcpassword={self._password}",
            "--developer",
            "--dev-fast-gossip",
            "--dev-bitcoind-poll=1",
            "--disable-dns",
        ]

    async def _open_channel(self, rpc: NodeRpc, faucet: Faucet) -> None:
        """Open a channel from buyer to seller that holds half of its capacity on each side."""
        seller, buyer = self._sockets["seller"], self._sockets["buyer"]
        for name, path in self._sockets.items():
            await self._wait(partial(_lightning_answers, path), f"{name}'s node answers")
        address = (await lightning_call(buyer, "newaddr", addresstype="bech32"))["bech32"]
        script = bytes(address_to_scriptpubkey(address).data)
        await faucet.fund(script, [(POLICY_ASSET, 2 * CHANNEL_SATS)])
        await mine(rpc)
        await self._wait(partial(_has_confirmed_funds, buyer), "buyer's node sees its L-BTC")
        seller_id = (await lightning_call(seller, "getinfo"))["id"]
        await lightning_call(
            buyer, "connect", id=seller_id, host="127.0.0.1", port=self._ports.seller
        )
        await lightning_call(
            buyer, "fundchannel", id=seller_id, amount=CHANNEL_SATS, push_msat=PUSH_SATS * 1000
        )
        await mine(rpc, CHANNEL_CONFIRMATIONS)
        for name, path in self._sockets.items():
            await self._wait(partial(_channel_is_usable, path), f"{name}'s channel opens")


async def _rpc_answers(rpc: NodeRpc) -> bool:
    try:
        await rpc.call("getblockcount")
    except (NodeUnreachableError, NodeRpcError):  # not up yet, or warming up
        return False
    return True


async def _electrum_answers(url: str) -> bool:
    try:
        await electrum_call(url, "server.version", "lnlab", "1.4")
    except OSError:
        return False
    return True


async def _lightning_answers(path: str) -> bool:
    """Tell whether the node is up and has caught up with the chain."""
    try:
        info = await lightning_call(path, "getinfo")
    except (OSError, LightningRpcError):
        return False
    return not any(name.startswith("warning_") for name in info)


async def _has_confirmed_funds(path: str) -> bool:
    funds = await lightning_call(path, "listfunds")
    return any(output["status"] == "confirmed" for output in funds["outputs"])


async def _channel_is_usable(path: str) -> bool:
    answer = await lightning_call(path, "listpeerchannels")
    return any(
        channel["state"] == "CHANNELD_NORMAL" and channel["peer_connected"]
        for channel in answer["channels"]
    )
