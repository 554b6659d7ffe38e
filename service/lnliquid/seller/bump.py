"""Fee bumping: a transaction of ours that stays unconfirmed is replaced by one that pays more.

The replacement (BIP125) spends the same inputs and makes the same outputs, but for the L-BTC that
returns to the wallet, which pays. Should the older one confirm after all, the swaps are pointed
back to it: both lock the same outputs under the same scripts.
"""

from collections.abc import Set as AbstractSet
from dataclasses import replace

import structlog

from lnliquid.errors import BackendError
from lnliquid.liquid import tx
from lnliquid.liquid.chains import Chains
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.ports import Chain
from lnliquid.seller import journal
from lnliquid.seller.funder import fee_rate
from lnliquid.seller.inventory import NEXT_INDEX, Inventory
from lnliquid.seller.journal import RescueJournal
from lnliquid.seller.notices import Notices
from lnliquid.seller.observe import witness_script
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import OwnTxRow, Purpose
from lnliquid.swap import Coin, Outpoint, Swap, Tip
from lnliquid.terms import fee_sats

log = structlog.get_logger()

RATE_FACTOR = 1.5
INCREMENT_SATS_PER_KVB = 100
"""A replacement pays for its own relay on top of what the older one paid (BIP125 rule 4)."""


class Bumper:
    """Replaces fundings and refunds that wait too long for a block."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        inventory: Inventory,
        rescue: RescueJournal,
        keys: Keychain,
        settings: Settings,
        notices: Notices,
    ) -> None:
        self._database = database
        self._chain = chain
        self._inventory = inventory
        self._rescue = rescue
        self._keys = keys
        self._settings = settings
        self._notices = notices

    async def bump_stuck(self, tip: Tip, unconfirmed: AbstractSet[str]) -> None:
        """Replace every transaction that is stuck, nothing is built on, and can pay more.

        `unconfirmed` are those that were found in no block under this tip. What could not be read
        may be in one, whatever is stored of it, and its replacement would never come to be.
        """
        limit = tip.height - self._settings.bump_after_blocks

        def look(session: Transaction) -> list[OwnTxRow]:
            chains = Chains(coin_store.pending_own_txs(session))
            return [
                row
                for row in own_tx_store.stuck(session, limit)
                if row.txid in unconfirmed and not chains.has_child(row.txid)
            ]

        for row in await self._database.read(look):
            rate = await self._next_rate(row)
            if rate is not None:
                async with self._inventory.spending:
                    await self._replace(row, rate, tip)

    async def _next_rate(self, row: OwnTxRow) -> int | None:
        paid = -(-row.fee_sats * 1000 // row.vsize)
        least = paid + INCREMENT_SATS_PER_KVB
        estimate = await fee_rate(self._chain, self._settings)
        wanted = max(estimate, int(paid * RATE_FACTOR), least)
        rate = min(wanted, self._settings.fee_cap_sats_per_kvb)
        if rate < least:
            log.warning("stuck at the fee cap", txid=row.txid, rate_sats_per_kvb=paid)
            return None
        return rate

    async def _replace(self, row: OwnTxRow, rate: int, tip: Tip) -> None:
        old = tx.parse(row.raw)
        if await self._database.read(lambda s: coin_store.live_children(s, row.txid)):
            return  # a funding was built on its change while the lock was waited for

        def look(session: Transaction) -> tuple[list[Swap], list[Coin], dict[Outpoint, Coin]]:
            return (
                swap_store.with_outputs_in(session, {o.outpoint.txid for o in old.inputs})
                if row.purpose == Purpose.REFUND
                else swap_store.funded_by(session, row.txid),
                coin_store.coins_of(session, {row.txid}),
                {
                    c.outpoint: c
                    for c in coin_store.coins_of(session, {o.outpoint.txid for o in old.inputs})
                },
            )

        swaps, change, wallet_inputs = await self._database.read(look)
        next_change = await self._database.read(
            lambda session: coin_store.cursor(session, NEXT_INDEX[CHANGE])
        )
        try:
            spends = [self._spend(i.outpoint, swaps, wallet_inputs) for i in old.inputs]
        except LookupError as error:
            # A deposit that it spends left the chain: a higher fee would not help.
            log.warning("stuck on a coin that is gone", txid=row.txid, reason=str(error))
            return
        payer = next(
            (c for c in reversed(change) if c.asset_id == self._keys.network.policy_asset), None
        )
        fee = fee_sats(old.vsize, rate)
        if payer is None or payer.value - (fee - old.fee_sats) < tx.DUST_SATS:
            log.warning("stuck, and it has no change that could pay more", txid=row.txid)
            return
        outputs = [
            tx.Output(o.script_pubkey, o.asset_id or "", o.value or 0)
            for o in old.outputs
            if not o.is_fee
        ]
        vout = payer.outpoint.vout
        outputs[vout] = replace(outputs[vout], value=payer.value - (fee - old.fee_sats))
        signed = tx.sign(
            spends,
            outputs,
            policy_asset=self._keys.network.policy_asset,
            fee=fee,
            lock_time=old.lock_time,
        )
        new_change = [
            replace(
                c,
                outpoint=Outpoint(signed.txid, c.outpoint.vout),
                value=outputs[c.outpoint.vout].value,
            )
            for c in change
        ]
        if row.purpose == Purpose.FUNDING:
            line = journal.tx_line(
                signed.txid, signed.raw, next_change_index=next_change, replaces=row.txid
            )
            funded = [replace(s, funding_txid=signed.txid) for s in swaps]
            self._rescue.append([line, *journal.lines_of(funded)])

        def write(session: Transaction) -> None:
            own_tx_store.add(
                session,
                txid=signed.txid,
                raw=signed.raw,
                purpose=Purpose(row.purpose),
                fee_sats=signed.fee_sats,
                vsize=signed.vsize,
                signed_height=tip.height,
                replaces=row.txid,
            )
            own_tx_store.point_to(session, row.txid, signed.txid)
            coin_store.drop_coins_of(session, row.txid)
            coin_store.add_own_coins(session, new_change)

        await self._database.write(write)
        log.info(
            "fee bumped", txid=signed.txid, replaces=row.txid, fee_sats=fee, purpose=row.purpose
        )
        self._notices.swaps_changed(s.swap_id for s in swaps)
        try:
            await self._chain.broadcast(signed.raw)
        except BackendError as error:
            log.warning("not sent yet", txid=signed.txid, reason=str(error))

    def _spend(
        self, outpoint: Outpoint, swaps: list[Swap], wallet_inputs: dict[Outpoint, Coin]
    ) -> tx.Spend:
        coin = wallet_inputs.get(outpoint)
        if coin is not None:
            key = self._keys.wallet_key(coin.branch, coin.index)
            return tx.wallet_spend(outpoint, coin.value, key)
        for swap in swaps:
            if outpoint in (swap.asset_outpoint, swap.subsidy_outpoint):
                is_asset = outpoint == swap.asset_outpoint
                return tx.refund_spend(
                    outpoint,
                    swap.asset_amount if is_asset else swap.subsidy_sats,
                    self._keys.refund_key(swap.key_index),
                    witness_script(swap),
                )
        raise LookupError(f"nothing is known of the input {outpoint}")
