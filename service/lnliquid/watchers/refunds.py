"""Signing refunds: what passed the gate, batched, stored and sent."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Coin, Outpoint, Swap
from lnliquid.domain.terms import MAX_AMOUNT
from lnliquid.liquid import coin_selection
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.store import coins as coin_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose
from lnliquid.watchers.funding import fee_rate
from lnliquid.watchers.observe import witness_script
from lnliquid.watchers.outbox import Outbox, ToStore
from lnliquid.watchers.refund_gate import Passed
from lnliquid.watchers.wallet import NEXT_INDEX, Inventory

log = structlog.get_logger()

MAX_INPUTS = 600
"""HTLC outputs in one refund: 600 weigh about 56 kvB, well within a standard transaction."""
MAX_TOTAL = MAX_AMOUNT // 2
"""Units of all assets in a refund of several swaps. A transaction of `MAX_AMOUNT` is invalid, and
coins that top the fee up want room."""


@dataclass(eq=False)
class Refunds:
    """Builds, stores and sends refunds for swaps that passed the gate of money rule 4."""

    database: Database
    chain: Chain
    inventory: Inventory
    outbox: Outbox
    keys: Keychain
    settings: Settings

    async def refund(self, passed: Sequence[Passed]) -> None:
        """Sign one transaction for all these outputs but those a refund of ours already takes.

        Raises `NotEnoughCoins`, and `CoinsGone` when it is to be planned anew.
        """
        async with self.inventory.spending:
            everything = [o for p in passed for o in p.outpoints]
            taken = await self.database.read(
                lambda session: coin_store.bound_outpoints(session, everything)
            )
            inputs: list[coin_selection.RefundInput] = []
            owners: set[str] = set()
            lock_height = total = 0
            for item in passed:
                fresh = [self._input(item.swap, o) for o in item.outpoints if o not in taken]
                total += sum(i.value for i in fresh)
                if inputs and (len(inputs) + len(fresh) > MAX_INPUTS or total > MAX_TOTAL):
                    break  # the next round takes the others
                if fresh:
                    inputs += fresh
                    owners.add(item.swap.swap_id)
                    lock_height = max(lock_height, item.swap.refund_lock_height or 0)
            if not inputs:
                return
            plan = await self._plan(inputs, lock_height)
            reach("refund.planned")
            to_store = ToStore(
                plan.signed,
                Purpose.REFUND,
                coins=plan.topped_up,
                change=plan.payouts,
                indexes=plan.indexes,
                outpoints=tuple(i.outpoint for i in inputs),
            )
            await self.outbox.store([to_store], passed[0].tip.height)
        reach("refund.stored")
        log.info(
            "refund signed",
            txid=plan.signed.txid,
            swaps=len(owners),
            fee_sats=plan.signed.fee_sats,
            lock_height=lock_height,
        )
        if await self.outbox.first_send(plan.signed):
            reach("refund.sent")

    def _input(self, swap: Swap, outpoint: Outpoint) -> coin_selection.RefundInput:
        is_asset = outpoint == swap.asset_outpoint
        return coin_selection.RefundInput(
            outpoint,
            swap.asset_id if is_asset else self.keys.network.policy_asset,
            swap.asset_amount if is_asset else swap.subsidy_sats,
            swap.key_index,
            witness_script(swap),
        )

    async def _plan(
        self, inputs: list[coin_selection.RefundInput], lock_height: int
    ) -> coin_selection.RefundPlan:
        policy_asset = self.keys.network.policy_asset
        assets = len({i.asset_id for i in inputs if i.asset_id != policy_asset}) + 1

        def look(session: Transaction) -> tuple[int, list[Coin]]:
            coins = coin_store.available_coins(session)
            return (
                coin_store.cursor(session, NEXT_INDEX[CHANGE]),
                [c for c in coins if c.asset_id == policy_asset and c.height is not None],
            )

        first, top_up = await self.database.read(look)
        return await asyncio.to_thread(
            coin_selection.plan_refund,
            inputs,
            keys=self.keys,
            lock_height=lock_height,
            change_indexes=range(first, first + assets),
            policy_asset=policy_asset,
            rate_sats_per_kvb=await fee_rate(self.chain, self.settings),
            top_up=top_up,
        )
