"""The funder: the only one that spends the wallet's coins for swaps.

Group commit: every swap that waits when a round begins goes into that round's one transaction;
those that come meanwhile are the next round's. Nobody waits on a timer.
"""

import asyncio
import contextlib

import structlog

from lnliquid.crashpoints import reach
from lnliquid.errors import BackendError, BackendRejected
from lnliquid.liquid import wallet
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.ports import Chain
from lnliquid.seller.inventory import NEXT_INDEX, Inventory
from lnliquid.seller.notices import Notices
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, StoreFailure, Transaction
from lnliquid.store.tables import Purpose
from lnliquid.swap import Coin, Swap
from lnliquid.terms import MAX_SWAPS_PER_FUNDING

log = structlog.get_logger()

FEE_TARGET_BLOCKS = 2
RETRY_SECS = 5.0


async def fee_rate(chain: Chain, settings: Settings) -> int:
    """The backend's estimate between the floor and the cap; the floor when there is none."""
    try:
        estimate = await chain.fee_rate_sats_per_kvb(FEE_TARGET_BLOCKS)
    except BackendRejected:
        estimate = None
    floor, cap = settings.fee_floor_sats_per_kvb, settings.fee_cap_sats_per_kvb
    return min(cap, max(floor, estimate or floor))


class Funder:
    """Turns reservations into funding transactions."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        inventory: Inventory,
        keys: Keychain,
        settings: Settings,
        notices: Notices,
    ) -> None:
        self._database = database
        self._chain = chain
        self._inventory = inventory
        self._keys = keys
        self._settings = settings
        self._notices = notices
        self._wanted = asyncio.Event()
        self._wanted.set()  # swaps may be waiting from before a restart

    def wake(self) -> None:
        """Swaps are waiting."""
        self._wanted.set()

    async def run(self) -> None:
        """Fund until cancelled. A round that fails is tried again; the swaps stay reserved."""
        while True:
            # The timer is for a wake-up that got lost; nobody waits for it otherwise.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self._settings.poll_interval_secs)
            self._wanted.clear()
            try:
                while await self.fund_waiting():
                    pass
            except (BackendError, StoreFailure) as error:
                log.warning("funding delayed", reason=str(error), retry_secs=RETRY_SECS)
                asyncio.get_running_loop().call_later(RETRY_SECS, self.wake)
            except Exception:  # reservations wait: keep trying and keep saying so
                log.exception("funding failed")
                asyncio.get_running_loop().call_later(RETRY_SECS, self.wake)

    async def fund_waiting(self) -> int:
        """Fund every waiting swap, at most one transaction full. Returns how many."""
        async with self._inventory.spending:
            plan, batch = await self._plan_and_store()
        if plan is None:
            return 0
        log.info(
            "funding signed",
            txid=plan.signed.txid,
            swaps=len(batch),
            fee_sats=plan.signed.fee_sats,
            vsize=plan.signed.vsize,
        )
        self._notices.swaps_changed(s.swap_id for s in batch)
        await self._send(plan)
        return len(batch)

    async def _plan_and_store(self) -> tuple[wallet.FundingPlan | None, list[Swap]]:
        def look(session: Transaction) -> tuple[list[Swap], list[Coin], int]:
            return (
                swap_store.waiting(session, MAX_SWAPS_PER_FUNDING),
                coin_store.available_coins(session),
                coin_store.cursor(session, NEXT_INDEX[CHANGE]),
            )

        swaps, coins, next_change = await self._database.read(look)
        if not swaps:
            return None, []
        tip = await self._chain.tip()
        refund_lock_height = tip.height + self._settings.refund_delta_blocks
        # One asset a transaction keeps plan and change simple; the next round takes the others.
        batch = [s for s in swaps if s.asset_id == swaps[0].asset_id]
        rate = await fee_rate(self._chain, self._settings)
        plan = None
        while plan is None:
            try:
                plan = await asyncio.to_thread(
                    wallet.plan_funding,
                    batch,
                    coins,
                    keys=self._keys,
                    refund_lock_height=refund_lock_height,
                    change_indexes=range(next_change, next_change + 2),
                    policy_asset=self._keys.network.policy_asset,
                    rate_sats_per_kvb=rate,
                )
            except (wallet.NotEnoughCoins, wallet.TooLarge) as error:
                if len(batch) == 1:
                    await self._cannot_fund(batch[0], error)
                    return None, []
                batch = batch[: len(batch) - max(1, len(batch) // 16)]  # the oldest first

        def write(session: Transaction) -> None:
            """T2: bytes, coins and swaps in one commit, before anything is sent (rule 1)."""
            signed = plan.signed
            swap_store.store_own_tx(
                session,
                txid=signed.txid,
                raw=signed.raw,
                purpose=Purpose.FUNDING,
                fee_sats=signed.fee_sats,
                vsize=signed.vsize,
            )
            coin_store.take_indexes(session, NEXT_INDEX[CHANGE], next_change, 2)
            coin_store.bind_outpoints(session, [c.outpoint for c in plan.inputs], signed.txid)
            coin_store.add_own_coins(session, plan.change)
            swap_store.bind_funding(
                session,
                signed.txid,
                [
                    swap_store.FundedSwap(s.swap_id, refund_lock_height, *plan.vouts[s.swap_id])
                    for s in batch
                ],
            )

        reach("fund.planned")
        await self._database.write(write)
        reach("fund.stored")
        return plan, batch

    async def _cannot_fund(self, swap: Swap, error: Exception) -> None:
        """Coins that were there at T1 are gone: wait for others a while, then give the swap up."""
        log.warning("a swap cannot be funded", swap_id=swap.swap_id, reason=str(error))
        asyncio.get_running_loop().call_later(RETRY_SECS, self.wake)

        def fail(session: Transaction) -> bool:
            late = session.now - swap.created_at > self._settings.create_slack_secs
            return late and swap_store.fail_waiting(session, swap, "the inventory is gone")

        if self._inventory.synced and await self._database.write(fail):
            self._notices.swaps_changed([swap.swap_id])

    async def _send(self, plan: wallet.FundingPlan) -> None:
        """First broadcast. The watcher sends the same bytes again until they confirm."""
        try:
            await self._chain.broadcast(plan.signed.raw)
            reach("fund.sent")
        except BackendError as error:
            log.warning("funding not sent yet", txid=plan.signed.txid, reason=str(error))
