"""One interface over a running lab, whatever its nodes are: endpoints, mining, waiting, the faucet.

A lab lives in a directory: ``nodes.json`` says where it listens and which processes it is, beside
it are the nodes' data and logs. ``Lab.start`` makes one, ``Lab.attach`` opens a running one from
any process, ``Lab.stop`` ends it.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from lnlab.actors.faucet import Faucet
from lnlab.faults.orders import endpoints_of_proxies
from lnlab.lab_directory import (
    LabDirectoryError,
    absolute,
    check_nothing_runs,
    end_lab,
    prepare_directory,
    running_processes,
    starting,
)
from lnlab.nodes import record
from lnlab.nodes.children import check_alive, end, nudge, spawn
from lnlab.nodes.compose import ComposeNodes, end_containers
from lnlab.nodes.compose_containers import SELLER, Containers
from lnlab.nodes.compose_project import project_name
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.embedded import launch as embedded
from lnlab.nodes.process import ProcessNodes
from lnlab.nodes.record import NodeProcess, NodesRecord, NoLabError
from lnlab.nodes.rpc import NodeRpc
from lnlab.nodes.seed import mine, mine_without
from lnlab.wait import wait_for

__all__ = [
    "Kind",
    "Lab",
    "LabDirectoryError",
    "Tip",
    "absolute",
    "end_lab",
    "prepare_directory",
    "running_processes",
]

Kind = Literal["embedded", "process", "compose"]

CATCH_UP_TIMEOUT_SECS = 30.0


class Tip(NamedTuple):
    """The newest block of the active chain."""

    height: int
    block_hash: str


class Lab:
    """An open lab. Use as an async context manager to have the connections closed at the end."""

    def __init__(self, directory: Path, nodes: NodesRecord) -> None:
        self.directory = directory
        self.nodes = nodes
        self.rpc = NodeRpc(nodes.rpc_url, nodes.rpc_user, nodes.rpc_password)
        self.faucet = Faucet(self.rpc, directory)
        self.containers = Containers(project_name(directory)) if nodes.kind == "compose" else None
        """Those of a compose lab, to be paused, killed or cut off."""

    @classmethod
    async def start(
        cls,
        directory: Path | str,
        *,
        kind: Kind = "embedded",
        block_every_secs: float | None = None,
        proxies: bool = False,
        resume: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> "Lab":
        """Start a fresh lab in ``directory``, which is emptied, and open it.

        With ``block_every_secs`` a child process mines a block that often; with ``proxies`` there
        are endpoints that misbehave on demand (see ``start_proxies``). With ``resume`` nothing is
        emptied: the lab that was ended there (see ``end_lab``) goes on. ``tell``
        hears of progress. Whatever goes wrong, a Ctrl-C included, no process and no container is
        left. Raises LabDirectoryError, MissingProgramError, ComposeError, NodeDiedError,
        WaitTimeoutError.
        """
        path = absolute(directory)
        with starting(path):
            if resume:
                check_nothing_runs(path)
                if kind != record.stopped_kind(path):
                    raise LabDirectoryError(f"{path} holds no stopped lab with {kind} nodes")
            else:
                prepare_directory(path)
            started: list[NodeProcess] = []
            try:
                if kind == "compose":
                    nodes = await ComposeNodes(path, tell).launch(resume=resume)
                elif kind == "process":
                    ports = record.stopped_ports(path)
                    nodes = await ProcessNodes(path, started, ports).launch(resume=resume)
                else:
                    nodes = await embedded.launch(path, started)
                record.save(path, nodes)
                lab = cls(path, nodes)
                try:
                    await lab.wait_until_caught_up()
                    if block_every_secs is not None:
                        lab.start_miner(block_every_secs)
                        started = list(lab.nodes.processes)
                    if proxies:
                        await lab.start_proxies()
                        started = list(lab.nodes.processes)
                except BaseException:
                    await lab.close()
                    raise
            except BaseException:
                end(started)
                end_containers(path)
                record.remove(path)
                raise
            (path / record.STOPPED_NAME).unlink(missing_ok=True)
            return lab

    @classmethod
    async def attach(cls, directory: Path | str) -> "Lab":
        """Open the lab that runs in ``directory``.

        Raises NoLabError when there is none, NodeDiedError when one of its processes is dead.
        """
        path = absolute(directory)
        lab = cls(path, record.load(path))
        lab.check_alive()
        return lab

    async def close(self) -> None:
        """Close the connections; the nodes go on."""
        await self.rpc.close()
        if self.containers is not None:
            self.containers.close()

    async def stop(self) -> None:
        """End all processes of the lab and close the connections. Data and logs stay."""
        await self.close()
        await asyncio.to_thread(end, self._recorded().processes)
        if self.containers is not None:
            await asyncio.to_thread(end_containers, self.directory)
        record.remove(self.directory)

    async def __aenter__(self) -> Self:
        """Return the lab itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections; the nodes go on."""
        await self.close()

    @property
    def electrum_url(self) -> str:
        """Where the Electrum server listens, as ``tcp://127.0.0.1:port``."""
        return self.nodes.electrum_url

    @property
    def lightning(self) -> dict[str, str]:
        """Paths of the Lightning nodes' JSON-RPC sockets: ``seller`` and ``buyer``."""
        return dict(self.nodes.lightning)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name; containers have none here."""
        return {process.name: process.pid for process in self.nodes.processes}

    def check_alive(self) -> None:
        """Raise NodeDiedError, with its last log lines, when a node of the lab is dead.

        The seller daemon is no node: whoever killed it to see what follows goes on with the lab.
        """
        check_alive([one for one in self.nodes.processes if one.name != SELLER])
        if self.containers is not None:
            self.containers.check_alive()

    async def tip(self) -> Tip:
        """Return height and hash of the active chain's newest block, as elementsd has them."""
        block_hash = str(await self.rpc.call("getbestblockhash"))
        header = await self.rpc.call("getblockheader", block_hash)
        return Tip(int(header["height"]), block_hash)

    async def mine(self, count: int = 1, *, without: Collection[str] = ()) -> list[str]:
        """Mine ``count`` blocks and return their hashes once the Electrum server has them too.

        Transactions ``without``, and what spends from them, are left in the mempool.
        """
        if without:
            hashes = await mine_without(self.rpc, count, without)
        else:
            hashes = await mine(self.rpc, count)
        self._hold_electrs(hold=False)
        await self.wait_until_caught_up()
        return hashes

    async def invalidate(self, block_hash: str) -> None:
        """Take a block and all after it out of the chain; ``mine`` next.

        A real electrs ends with a failed assertion when the tip goes back to a block it knows
        (``new_index/schema.rs``, Indexer::update), so it is held still until blocks are mined.
        """
        self._hold_electrs(hold=True)
        await self.rpc.call("invalidateblock", block_hash)

    async def reorg(
        self, depth: int, new_blocks: int | None = None, *, without: Collection[str] = ()
    ) -> list[str]:
        """Replace the newest ``depth`` blocks by ``new_blocks``, one more than that by default.

        What the old blocks held goes to the mempool (for up to 10 blocks, as in elementsd) and from
        there into the new ones; transactions ``without`` stay in the mempool. Returns the hashes of
        the new blocks.
        """
        height = (await self.tip()).height
        await self.invalidate(await self.rpc.call("getblockhash", height - depth + 1))
        return await self.mine(depth + 1 if new_blocks is None else new_blocks, without=without)

    async def wait_until_caught_up(self) -> None:
        """Wait until the Electrum server's tip is elementsd's."""
        await self.wait_for(
            self._electrum_has_tip,
            timeout_secs=CATCH_UP_TIMEOUT_SECS,
            message="the Electrum server catches up with elementsd",
        )

    def nudge_electrum(self) -> None:
        """Make a real electrs look at the mempool now, not at the next turn of its 5 s loop."""
        if self.containers is not None:
            self.containers.signal("electrs", "SIGUSR1")
        self._signal_electrs(signal.SIGUSR1)

    async def _electrum_has_tip(self) -> bool:
        self.nudge_electrum()
        header = await electrum_call(self.electrum_url, "blockchain.headers.subscribe")
        best = await self.rpc.call("getbestblockhash")
        return bool(header["hex"] == await self.rpc.call("getblockheader", best, False))

    def _hold_electrs(self, *, hold: bool) -> None:
        if self.containers is not None:
            (self.containers.pause if hold else self.containers.unpause)("electrs")
        self._signal_electrs(signal.SIGSTOP if hold else signal.SIGCONT)

    def _signal_electrs(self, number: signal.Signals) -> None:
        for process in self.nodes.processes:
            if process.name == "electrs":
                nudge(process, number)

    async def wait_for(
        self,
        predicate: Callable[[], Any],
        *,
        timeout_secs: float = 10.0,
        message: str = "",
    ) -> Any:
        """Wait for ``predicate`` as ``lnlab.wait.wait_for`` does; a dead node ends the wait."""
        return await wait_for(
            predicate, timeout_secs=timeout_secs, message=message, check_alive=self.check_alive
        )

    def start_miner(self, every_secs: float) -> None:
        """Start a child process that mines a block every ``every_secs`` until the lab ends."""
        directory = str(self.directory)
        command = [sys.executable, "-m", "lnlab.actors.miner", "--dir", directory, "--every"]
        self._enrol(spawn("miner", [*command, str(every_secs)], self.directory / "miner.log"), {})

    async def start_proxies(self) -> dict[str, str]:
        """Start proxies that misbehave on demand, and return their endpoints by name.

        The names: ``electrum`` (``tcp://…``), ``lightning-seller``, ``lightning-buyer`` (sockets).
        See ``lnlab.faults.orders`` for what they can do and how to tell them.
        """
        if not self.nodes.proxied:
            command = [sys.executable, "-m", "lnlab.faults.proxy", "--dir", str(self.directory)]
            proxies = spawn("faults", command, self.directory / "faults.log")
            self._enrol(proxies, {})
            proxied = await self.wait_for(
                partial(endpoints_of_proxies, self.directory), message="the proxies answer"
            )
            self._enrol(None, proxied)
        return dict(self.nodes.proxied)

    def _enrol(self, process: NodeProcess | None, proxied: dict[str, str]) -> None:
        """Add to the record, here and on disk."""
        more = [] if process is None else [process]

        def added(nodes: NodesRecord) -> NodesRecord:
            return replace(
                nodes, processes=[*nodes.processes, *more], proxied=proxied or nodes.proxied
            )

        record.save(self.directory, added(self._recorded()))
        self.nodes = added(self.nodes)

    def _recorded(self) -> NodesRecord:
        """Return the record on disk, to which another process may have added, else our own."""
        try:
            return record.load(self.directory)
        except NoLabError:
            return self.nodes
