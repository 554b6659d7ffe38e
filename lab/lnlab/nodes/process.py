"""Real nodes as processes: elementsd, a Liquid electrs and two lightningd found on PATH.

All of them listen on loopback only, on free ports, with data directories inside the lab's. Options
are those that worked in practice on elementsd 23.3 and Core Lightning 26.06; the chain must be
called ``liquid-regtest``, because lightningd knows no other Liquid regtest.
"""

import itertools
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lnlab.actors.faucet import SPLIT_SATS, Faucet
from lnlab.nodes.channel import Peer, open_channel, reconnect
from lnlab.nodes.children import check_alive, spawn
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.record import NodeProcess, NodesRecord
from lnlab.nodes.rpc import NodeRpc, NodeRpcError, NodeUnreachableError
from lnlab.nodes.seed import seed_chain, seed_fee_estimates, wake_chain
from lnlab.wait import wait_for

PROGRAMS = ("elementsd", "elements-cli", "electrs", "lightningd")
"""What must be on PATH; lightningd asks elementsd through elements-cli."""

RPC_USER = "lnlab"
START_TIMEOUT_SECS = 60.0
MOST_TRIES = 200


FIRST_PORT, LAST_PORT = 10_000, 32_000
"""Ports to choose from: below those that Linux gives to whoever does not mind (32768 and up), for
between the choice here and the program that listens nobody else may get it by chance."""


def _candidates() -> Iterator[int]:
    """Each port in turn, in every process from another one on, so that two do not meet."""
    span = LAST_PORT - FIRST_PORT
    first = os.getpid() * 7_919
    return (FIRST_PORT + (first + n) % span for n in itertools.count())


_next_ports = _candidates()


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


def free_ports(preferred: Mapping[str, int] | None = None) -> Ports:
    """Return ports that are free now: the ``preferred`` ones, by name, as far as they are."""
    wanted = preferred or {}
    with ExitStack() as held:
        return Ports(*(_free_port(held, wanted.get(name, 0)) for name in Ports.__annotations__))


def _free_port(held: ExitStack, preferred: int) -> int:
    one = held.enter_context(socket.socket())
    # Like servers do: the last connections of an earlier one are no reason for another port.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tries = itertools.islice(_next_ports, MOST_TRIES)
    for port in itertools.chain([preferred] if preferred else [], tries, [0]):
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            if not port:
                raise
        else:
            break
    return int(one.getsockname()[1])


class ProcessNodes:
    """Starts the real nodes in ``directory``; ``started`` grows as processes come up.

    The ports are the ``preferred`` ones (names as in ``Ports``) where those are free.
    """

    def __init__(
        self, directory: Path, started: list[NodeProcess], preferred: Mapping[str, int] | None
    ) -> None:
        self._programs = find_programs()
        self._directory = directory
        self._started = started
        self._ports = free_ports(preferred)
        self._password = secrets.token_hex(16)
        self._sockets = {
            name: str(directory / name / "lightning-rpc") for name in ("seller", "buyer")
        }

    async def launch(self, *, resume: bool = False) -> NodesRecord:
        """Start everything and return where it listens, a channel with money on both ends included.

        With ``resume`` chain and channel are those that the directory holds from an earlier run;
        the password is a new one. Raises NodeDiedError when a program ends early,
        WaitTimeoutError when one does not answer.
        """
        seller_at = Peer("127.0.0.1", self._ports.seller)
        rpc_url = f"http://127.0.0.1:{self._ports.rpc}/"
        electrum_url = f"tcp://127.0.0.1:{self._ports.electrum}"
        async with NodeRpc(rpc_url, RPC_USER, self._password) as rpc:
            self._spawn("elementsd", self._elementsd_options())
            await self._wait(partial(_rpc_answers, rpc), "elementsd answers")
            faucet = Faucet(rpc, self._directory)
            if resume:
                await wake_chain(rpc, faucet)
            else:
                await seed_chain(rpc, faucet)
                await seed_fee_estimates(rpc, faucet)
            self._spawn("electrs", self._electrs_options())
            for name in self._sockets:
                self._spawn(f"lightningd-{name}", self._lightningd_options(name))
            await self._wait(partial(_electrum_answers, electrum_url), "electrs answers")
            if resume:
                await reconnect(self._sockets, seller_at, self._wait)
            else:
                await open_channel(rpc, faucet, self._sockets, seller_at, self._wait)
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
            # A lab that slept for days is not in initial block download when it starts again.
            "-maxtipage=315360000",
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
