"""Can a new swap be taken now? Asked before T1, so that a refusal leaves no row."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from lnliquid.config import Settings
from lnliquid.domain.errors import BackendError, NotReady, StoreFailure
from lnliquid.domain.ports import Chain, Clock, NodeInfo, SellerLightning
from lnliquid.domain.swap import Tip
from lnliquid.seller.node_options import lightning_problem
from lnliquid.store import coins as coin_store
from lnliquid.store import prices as price_store
from lnliquid.store.database import STALL_SECS, Database, Transaction
from lnliquid.store.paths import directory_refusal
from lnliquid.threads import Look
from lnliquid.watchers import chain_incidents
from lnliquid.watchers.wallet import Inventory

PAUSED = "paused"
FRESH_SECS = 2.0
"""How long an answer of Lightning is good for; a burst of requests asks once."""
ANSWER_SECS = 5.0
"""A Lightning node that takes longer to say how it is cannot serve an order now."""
LOOK_SECS = 5.0
"""How often it is tried whether the store can be written, while it can."""
WRITE_PROBES, PROBE_SECS = "write_probes", 1.0
"""Cursor that is counted up to see whether a store that failed can write again, and how often."""


class TipBreaker:
    """Trips when the backend's tip goes back, or is old: it may be cut off from the network.

    Only new swaps are refused; running ones are watched on. The age of a tip is that of its header.
    One whose header is ahead of the clock counts from when it was first seen.
    """

    def __init__(self, stall_secs: int, clock: Clock) -> None:
        self._stall_secs = stall_secs
        self._clock = clock
        self._best = -1
        self._best_at = 0

    def problem(self, tip: Tip) -> str | None:
        """What is wrong with this tip, None when nothing is."""
        now = self._clock.now()
        if tip.height > self._best:
            self._best, self._best_at = tip.height, min(now, tip.time)
        age = now - self._best_at
        if age > self._stall_secs:
            return (
                f"the Liquid backend has shown no block above {self._best}, which is {age} s old: "
                "it may be cut off from the network, or this machine's clock may be wrong"
            )
        if tip.height < self._best:
            return f"the Liquid backend's tip went back from {self._best} to {tip.height}"
        return None


class Readiness:
    """Asks the backends; answers are kept for a short time."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        lightning: SellerLightning,
        inventory: Inventory,
        settings: Settings,
        clock: Clock,
        locks_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`locks_problem`: which of the files that keep a second daemon away is out of place."""
        self.clock = clock
        self._locks_problem = locks_problem
        self._database = database
        self._chain = chain
        self._lightning = lightning
        self._inventory = inventory
        self._settings = settings
        self._breaker = TipBreaker(settings.stall_after_secs, clock)
        self._probed_at = self._looked_at = float("-inf")
        self._store_problem: str | None = None
        self._ask_paths = Look(self._probe_paths, STALL_SECS, "readiness")
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._info: NodeInfo | None = None
        self._receivable_msat = 0
        self._problem: str | None = "Lightning was not asked yet"
        self.chain_problem: str | None = "the Liquid backend was not asked yet"
        """Why the Liquid backend stops new swaps, as last asked; None when it does not."""

    async def node_id(self) -> str:
        """Public key of the Lightning node, empty until it has answered once; it is asked then."""
        if self._info is None:
            await self._ask_lightning()
        return self._info.node_id if self._info else ""

    async def tip_height(self) -> int | None:
        """Height of the chain, None while that is not known."""
        try:
            return (await self._chain.tip()).height
        except BackendError:
            return None

    @property
    def lightning_problem(self) -> str | None:
        """Why the Lightning node stops new swaps, as last asked; None when it does not."""
        return self._problem

    async def problem(self) -> str | None:
        """Why no new swap can be taken now, None when one can: funded, paid and refunded.

        It answers within seconds, whatever hangs.
        """
        await self._look()
        if (problem := self._store_problem or self._database.file_problem) is not None:
            return problem
        try:
            async with asyncio.timeout(STALL_SECS):
                refused = await self._database.read(self._refused_by_operator)
        except StoreFailure:
            return "the store cannot be read"
        except TimeoutError:
            return "the store cannot be read: its disk does not answer"
        if refused is not None:
            return refused
        if (reason := await self._write_problem()) is not None:
            return f"the store cannot be written: {reason}"
        if (reason := self._database.replica_problem) is not None:
            return f"the replica of the database fails: {reason}"
        try:
            tip = await self._chain.tip()
            self.chain_problem = self._breaker.problem(tip)
        except BackendError:
            self.chain_problem = "the Liquid backend cannot be reached"
        if self.chain_problem is not None:
            return self.chain_problem
        if not self._inventory.synced:
            return "the wallet is still being read from the Liquid backend"
        await self._ask_lightning(tip.height)
        return self._problem or self._inventory.work.problem

    def _refused_by_operator(self, session: Transaction) -> str | None:
        s = self._settings
        price = price_store.at_present(session, s.asset_id, s.price_msat_per_asset_unit)
        if (reason := _pause_reason(session)) is None and price.is_stale(session.now):
            return "the time of the price that was set is over: set a new one, or clear it"
        return reason

    async def _look(self) -> None:
        """Try whether what the next order must write can be written, before it comes."""
        every_secs = LOOK_SECS if self._store_problem is None else PROBE_SECS
        if time.monotonic() - self._looked_at >= every_secs:
            self._looked_at = time.monotonic()
            try:
                self._store_problem = await self._ask_paths()
            except TimeoutError:
                self._store_problem = "the disk of the database does not answer"

    def _probe_paths(self) -> str | None:
        problem = self._database.content_problem() or self._locks_problem()
        if problem is not None:
            return problem
        # Its directory alone: SQLite's own file must not be opened beside SQLite.
        refusal = directory_refusal(self._settings.database.parent, fill=True)
        return None if refusal is None else f"the store cannot be written: {refusal}"

    async def _write_problem(self) -> str | None:
        """Why some kind of write fails. It is tried again here: no such write may come."""
        if self._database.stalled_secs:
            return "a commit does not end, its disk does not answer"
        if self._database.failed and time.monotonic() - self._probed_at >= PROBE_SECS:
            self._probed_at = time.monotonic()
            with contextlib.suppress(StoreFailure, TimeoutError):
                async with asyncio.timeout(STALL_SECS):
                    await self._database.write(_probe)
                    await self._database.rehearse()
        return self._database.failures.reason

    async def refusals(self, prices_msat: Sequence[int]) -> list[NotReady | None]:
        """For each price why a swap that costs so much cannot be taken now, None when it can."""
        problem = await self.problem()
        return [self._refusal(problem, price_msat) for price_msat in prices_msat]

    def _refusal(self, problem: str | None, price_msat: int) -> NotReady | None:
        if problem is not None:
            return NotReady(problem)
        if self._receivable_msat < price_msat:
            return NotReady(
                f"the Lightning channels can receive {self._receivable_msat} msat and the swap "
                f"needs {price_msat}",
                retry_after_secs=60,
            )
        return None

    async def _ask_lightning(self, tip_height: int | None = None) -> None:
        """Ask the node how it is; one that does not answer in time is asked on behind our back."""
        if self._asking is None:
            if time.monotonic() - self._asked_at < FRESH_SECS:
                return
            self._asking = asyncio.create_task(self._asked(tip_height))
            self._asking.add_done_callback(self._told)
        try:
            async with asyncio.timeout(ANSWER_SECS):
                await asyncio.shield(self._asking)
        except TimeoutError:
            self._problem = f"the Lightning node does not answer within {ANSWER_SECS:g} s"

    async def _asked(self, tip_height: int | None) -> None:
        try:
            self._info = await self._lightning.info()
            self._receivable_msat = await self._lightning.receivable_msat()
            self._problem = lightning_problem(
                self._settings, self._info, await self._lightning.options(), tip_height
            )
            if self._problem is None and not self._receivable_msat:
                self._problem = "no Lightning channel can receive anything now"
        except BackendError:
            self._problem = "the Lightning node cannot be reached"
        self._asked_at = time.monotonic()

    def _told(self, task: "asyncio.Task[None]") -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # counts as read: the caller that waited has it


def _pause_reason(session: Transaction) -> str | None:
    by_operator = coin_store.cursor(session, PAUSED)
    by_chain = chain_incidents.pause_reason(session)
    return by_chain or ("the operator has paused new swaps" if by_operator else None)


def _probe(session: Transaction) -> None:
    # Another value each time: SQLite writes nothing when a row stays what it was.
    coin_store.set_cursor(session, WRITE_PROBES, coin_store.cursor(session, WRITE_PROBES) + 1)
