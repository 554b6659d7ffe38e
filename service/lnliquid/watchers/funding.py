"""The funder: the only one that spends the wallet's coins for swaps.

Group commit: every swap that waits when a round begins goes into that round's one transaction, as
far as it holds them; those that come meanwhile are the next round's. Nobody waits on a timer.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain.errors import (
    BackendError,
    BackendRejected,
    ReplicaFailure,
    StoreFailure,
)
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Coin, Swap
from lnliquid.domain.terms import MAX_SWAPS_PER_FUNDING
from lnliquid.liquid import coin_selection, lanes
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.liquid.mempool_limits import Chains
from lnliquid.metrics.instruments import Instruments
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose
from lnliquid.watchers.outbox import Outbox, ToStore
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import NEXT_INDEX, Inventory

log = structlog.get_logger()

FEE_TARGET_BLOCKS = 2
FUNDING = "funding"
RETRY_SECS = 5.0
GATHER_SECS = 1.0
LANE_SWAPS = 50
"""A lane of L-BTC holds at least what this many swaps reserve of it."""


async def fee_rate(chain: Chain, settings: Settings) -> int:
    """The backend's estimate between the floor and the cap; the floor when there is none."""
    try:
        estimate = await chain.fee_rate_sats_per_kvb(FEE_TARGET_BLOCKS)
    except BackendRejected:
        estimate = None
    floor, cap = settings.fee_floor_sats_per_kvb, settings.fee_cap_sats_per_kvb
    return min(cap, max(floor, estimate or floor))


def _needs_no_less(swap: Swap, other: Swap) -> bool:
    return swap.asset_amount >= other.asset_amount and swap.subsidy_sats >= other.subsidy_sats


@dataclass(eq=False)
class Funder:
    """Turns reservations into funding transactions, and keeps the lanes even when idle."""

    database: Database
    chain: Chain
    inventory: Inventory
    outbox: Outbox
    keys: Keychain
    settings: Settings
    notices: Notices
    instruments: Instruments = field(default_factory=Instruments)
    _look_at: float = field(default=0.0, init=False)
    """When the loop looks without being woken, in its time."""
    _at_once: int = field(default=MAX_SWAPS_PER_FUNDING, init=False)
    """Swaps in the next transaction; less after one that the store had no room for."""
    _wanted: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        """Swaps may be waiting from before a restart."""
        self._wanted.set()

    def wake(self) -> None:
        """Swaps are waiting, or a block came that may let them through."""
        self._wanted.set()

    def _look_in(self, secs: float) -> None:
        self._look_at = asyncio.get_running_loop().time() + secs

    async def run(self) -> None:
        """Fund until cancelled. A round that fails is tried again; the swaps stay reserved."""
        await self.notices.caught_up.wait()  # what was stored before goes out first
        while True:
            # (Not `wait_for`: before Python 3.12 it loses a cancellation that meets the wake-up.)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at):
                    await self._wanted.wait()
            self._wanted.clear()
            self._look_in(self.settings.poll_interval_secs)  # should a wake-up be lost
            try:
                await self._gather()
                if await self.fund_waiting():
                    self.wake()  # others may wait
                else:
                    await self.even_lanes()
                self.inventory.work.done(FUNDING)
            except coin_selection.MustWait as error:
                log.info("funding waits for a block", reason=str(error))
            except coin_store.CoinsGone as error:
                log.info("funding is planned anew", reason=str(error))
                self.inventory.work.failed(FUNDING, str(error))
                self.wake()
            except (BackendError, StoreFailure) as error:
                log.warning("funding delayed", reason=str(error), retry_secs=RETRY_SECS)
                self.inventory.work.failed(FUNDING, str(error))
                self._look_in(RETRY_SECS)
            except Exception as error:  # reservations wait: keep trying and keep saying so
                log.exception("funding failed")
                self.inventory.work.failed(FUNDING, type(error).__name__)
                self._look_in(RETRY_SECS)

    async def _gather(self) -> None:
        """Let requests that are on their way to T1 get there, so that they share a transaction.

        Nobody waits when none is; a stream of requests that never ends is cut after a moment.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECS):
                await self.notices.none_creating.wait()

    async def fund_waiting(self) -> int:
        """Fund waiting swaps, at most one transaction full. Returns how many.

        Raises `MustWait` when a block is needed first, `CoinsGone` when it is to be planned anew,
        `BackendError` and `StoreFailure`, also without a replica, when it cannot be done now.
        """
        self.database.require_replica()
        async with self.inventory.spending:
            plan = await self._plan_and_store()
        self._at_once = min(MAX_SWAPS_PER_FUNDING, 2 * self._at_once)
        if plan is None:
            return 0
        self.instruments.batch_swaps.observe(len(plan.swaps))
        log.info(
            "funding signed",
            txid=plan.signed.txid,
            swaps=len(plan.swaps),
            fee_sats=plan.signed.fee_sats,
            vsize=plan.signed.vsize,
        )
        self.notices.swaps_changed(s.swap_id for s in plan.swaps)
        if await self.outbox.first_send(plan.signed):
            reach("fund.sent")
        elif plan.signed.txid in self.outbox.underpaid:
            self.notices.wake_watcher()  # which raises its fee
        return len(plan.swaps)

    async def _plan_and_store(self) -> coin_selection.FundingPlan | None:
        def look(session: Transaction) -> tuple[list[Swap], list[Coin], list[Coin], Chains, int]:
            return (
                swap_store.waiting(session, self._at_once),
                coin_store.available_coins(session),
                coin_store.unsure_coins(session),
                Chains(coin_store.pending_own_txs(session)),
                coin_store.cursor(session, NEXT_INDEX[CHANGE]),
            )

        swaps, coins, later, chains, next_change = await self.database.read(look)
        if not swaps:
            return None
        tip = await self.chain.tip()
        lock_height = tip.height + self.settings.refund_delta_blocks
        planner = coin_selection.FundingPlanner(
            coins,
            chains,
            keys=self.keys,
            refund_lock_height=lock_height,
            change_indexes=range(next_change, next_change + 2),
            rate_sats_per_kvb=await fee_rate(self.chain, self.settings),
            later=later,
        )
        plan = await self._plan(planner, swaps)
        if plan is None:
            return None
        reach("fund.planned")
        txid = plan.signed.txid
        funded = [
            swap_store.FundedSwap(s.swap_id, lock_height, *plan.vouts[s.swap_id])
            for s in plan.swaps
        ]
        indexes = (next_change, 2)
        to_store = ToStore(plan.signed, Purpose.FUNDING, plan.inputs, plan.change, indexes)
        try:
            await self.outbox.store(
                [to_store], tip.height, lambda s: swap_store.bind_funding(s, txid, funded)
            )
        except ReplicaFailure:
            raise
        except StoreFailure:
            self._at_once = max(1, len(funded) // 2)
            raise
        reach("fund.stored")
        return plan

    async def _plan(
        self, planner: coin_selection.FundingPlanner, swaps: list[Swap]
    ) -> coin_selection.FundingPlan | None:
        """A plan for the oldest swaps that can be funded; None when none can.

        One that cannot keeps nobody waiting behind it but those that need as much.
        """
        while swaps:
            first = swaps[0]
            # One asset a transaction keeps plan and change simple; the next round takes the others.
            batch = [s for s in swaps if s.asset_id == first.asset_id]
            try:
                return await asyncio.to_thread(planner.plan, batch)
            except coin_selection.NotEnoughCoins as error:
                unfundable = [s for s in batch if _needs_no_less(s, first)]
                await self._cannot_fund(unfundable, error)
                swaps = [s for s in swaps if s not in unfundable]
        return None

    async def _cannot_fund(self, swaps: list[Swap], error: Exception) -> None:
        """The coins do not do, as they did at T1: wait for others a while, then give up."""
        log.warning("a swap cannot be funded", **swaps[0].ids, swaps=len(swaps), reason=str(error))
        self._look_in(RETRY_SECS)

        def fail(session: Transaction) -> list[str]:
            deadline = session.now - self.settings.create_slack_secs
            return [
                s.swap_id
                for s in swaps
                if s.created_at < deadline
                and swap_store.fail_waiting(session, s, "the inventory cannot pay for it")
            ]

        if self.inventory.synced:
            self.notices.swaps_changed(await self.database.write(fail))

    async def even_lanes(self) -> bool:
        """Split or merge coins when nothing waits and nothing is unconfirmed. True if it did."""
        s = self.settings
        if s.lanes == 1 or not self.inventory.synced or self.database.replica_problem:
            return False

        def look(session: Transaction) -> tuple[list[Coin], int]:
            is_idle = not swap_store.waiting(session, 1) and not tx_store.signs_pending(session)
            coins = coin_store.available_coins(session) if is_idle else []
            return coins, coin_store.cursor(session, NEXT_INDEX[CHANGE])

        async with self.inventory.spending:
            coins, next_change = await self.database.read(look)
            if not coins:
                return False
            tip = await self.chain.tip()
            plan = await asyncio.to_thread(
                lanes.plan_lanes,
                coins,
                asset_id=s.asset_id,
                lanes=s.lanes,
                least_asset=s.least_swap_amount,
                least_lbtc_sats=LANE_SWAPS * s.lbtc_per_swap_sats,
                keys=self.keys,
                next_change=next_change,
                rate_sats_per_kvb=s.fee_floor_sats_per_kvb,  # there is no hurry
            )
            if plan is None:
                return False
            reach("lanes.planned")
            indexes = (next_change, len(plan.outputs))
            to_store = ToStore(plan.signed, Purpose.LANES, plan.inputs, plan.outputs, indexes)
            await self.outbox.store([to_store], tip.height)
            reach("lanes.stored")
        log.info(
            "lanes rearranged",
            txid=plan.signed.txid,
            coins=len(plan.inputs),
            lanes=len(plan.outputs),
            fee_sats=plan.signed.fee_sats,
        )
        if await self.outbox.first_send(plan.signed):
            reach("lanes.sent")
        return True
