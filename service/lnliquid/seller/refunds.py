"""Signing refunds: the last gate before the seller takes coins back, and the batch itself."""

import asyncio
from collections.abc import Sequence

import structlog

from lnliquid.crashpoints import reach
from lnliquid.errors import BackendError
from lnliquid.liquid import wallet
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.ports import Chain
from lnliquid.seller.funder import fee_rate
from lnliquid.seller.inventory import NEXT_INDEX, Inventory
from lnliquid.seller.observe import witness_script
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import Purpose
from lnliquid.swap import Coin, Outpoint, Swap
from lnliquid.terms import MAX_AMOUNT

log = structlog.get_logger()

MAX_INPUTS = 600
"""HTLC outputs in one refund: 600 weigh about 56 kvB, well within a standard transaction."""
MAX_TOTAL = MAX_AMOUNT // 2
"""Units of all assets in a refund of several swaps. A transaction of `MAX_AMOUNT` is invalid, and
coins that top the fee up want room."""


class Refunds:
    """Builds, stores and sends refunds for swaps that passed the gate of money rule 4."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        inventory: Inventory,
        keys: Keychain,
        settings: Settings,
    ) -> None:
        self._database = database
        self._chain = chain
        self._inventory = inventory
        self._keys = keys
        self._settings = settings

    async def refund(self, wanted: Sequence[tuple[Swap, tuple[Outpoint, ...]]]) -> None:
        """Sign one transaction for all these outputs but those a refund of ours already takes.

        The caller has just read chain, mempool and invoice of every one of these swaps. Raises
        `NotEnoughCoins`, and `CoinsGone` when it is to be planned anew.
        """
        async with self._inventory.spending:
            everything = [o for _, outpoints in wanted for o in outpoints]
            taken = await self._database.read(
                lambda session: coin_store.bound_outpoints(session, everything)
            )
            inputs: list[wallet.RefundInput] = []
            owners: set[str] = set()
            lock_height = total = 0
            for swap, outpoints in wanted:
                fresh = [self._input(swap, o) for o in outpoints if o not in taken]
                total += sum(i.value for i in fresh)
                if inputs and (len(inputs) + len(fresh) > MAX_INPUTS or total > MAX_TOTAL):
                    break  # the next round takes the others
                if fresh:
                    inputs += fresh
                    owners.add(swap.swap_id)
                    lock_height = max(lock_height, swap.refund_lock_height or 0)
            if not inputs:
                return
            raw = await self._plan_and_store(inputs, owners, lock_height)
        try:
            await self._chain.broadcast(raw)
            reach("refund.sent")
        except BackendError as error:
            log.warning("refund not sent yet", reason=error.message)

    def _input(self, swap: Swap, outpoint: Outpoint) -> wallet.RefundInput:
        is_asset = outpoint == swap.asset_outpoint
        return wallet.RefundInput(
            outpoint,
            swap.asset_id if is_asset else self._keys.network.policy_asset,
            swap.asset_amount if is_asset else swap.subsidy_sats,
            swap.key_index,
            witness_script(swap),
        )

    async def _plan_and_store(
        self,
        inputs: list[wallet.RefundInput],
        owners: set[str],
        lock_height: int,
    ) -> bytes:
        policy_asset = self._keys.network.policy_asset
        assets = len({i.asset_id for i in inputs if i.asset_id != policy_asset}) + 1

        def look(session: Transaction) -> tuple[int, list[Coin]]:
            coins = coin_store.available_coins(session)
            return (
                coin_store.cursor(session, NEXT_INDEX[CHANGE]),
                [c for c in coins if c.asset_id == policy_asset and c.height is not None],
            )

        first, top_up = await self._database.read(look)
        tip = await self._chain.tip()
        plan = await asyncio.to_thread(
            wallet.plan_refund,
            inputs,
            keys=self._keys,
            lock_height=lock_height,
            change_indexes=range(first, first + assets),
            policy_asset=policy_asset,
            rate_sats_per_kvb=await fee_rate(self._chain, self._settings),
            top_up=top_up,
        )

        def write(session: Transaction) -> None:
            signed = plan.signed
            own_tx_store.add(
                session,
                txid=signed.txid,
                raw=signed.raw,
                purpose=Purpose.REFUND,
                fee_sats=signed.fee_sats,
                vsize=signed.vsize,
                signed_height=tip.height,
            )
            coin_store.take_indexes(session, NEXT_INDEX[CHANGE], first, assets)
            coin_store.bind_outpoints(session, [i.outpoint for i in inputs], signed.txid)
            coin_store.bind_coins(session, plan.topped_up, signed.txid)
            coin_store.add_own_coins(session, plan.payouts)

        reach("refund.planned")
        await self._database.write(write)
        reach("refund.stored")
        log.info(
            "refund signed",
            txid=plan.signed.txid,
            swaps=len(owners),
            fee_sats=plan.signed.fee_sats,
            lock_height=lock_height,
        )
        return plan.signed.raw
