"""Where the money is as the store tells it, beside what the chain shows. Pure."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from lnliquid.seller.money import Fate, HtlcOutput, Ledger, Money
from lnliquid.store.survey import StoreFacts
from lnliquid.store.tables import Purpose
from lnliquid.swap import Outpoint, State, Swap


@dataclass(frozen=True, slots=True)
class AssetReport:
    """Both ledgers of one asset. The store's wallet = available + reserved + unconfirmed."""

    asset_id: str
    store: Ledger
    chain: Ledger
    available: int
    reserved: int
    unconfirmed: int
    """Seen, but not yet sure enough to be sold: deposits and refunds without a block."""


class StoreBooks:
    """The equation as the store's tables tell it."""

    def __init__(self, store: StoreFacts, money: Money, policy_asset: str) -> None:
        self._store = store
        self._money = money
        self._policy_asset = policy_asset
        self._living = {
            o.txid: o for o in store.own_txs if o.is_living and o.txid not in money.dead
        }
        own = {o.txid for o in store.own_txs}
        self.bound = {
            b.outpoint: b.owner_txid
            for b in store.bindings
            if b.live and b.owner_txid not in money.dead
        }
        """Outputs that a living transaction of ours spends, with that transaction."""
        self.coins = {
            c.coin.outpoint: c
            for c in store.coins
            if c.coin.outpoint.txid not in own or c.coin.outpoint.txid in self._living
        }
        """Stored coins without those that only dead transactions would make."""

    def spender(self, outpoint: Outpoint) -> str | None:
        """What spends a stored coin, as the store has it."""
        return self.bound.get(outpoint) or self.coins[outpoint].spent_txid

    def fate(self, out: HtlcOutput, outpoint: Outpoint) -> Fate:
        """Where an HTLC output's money is by the store.

        Of the subsidy the store says only whether a transaction of ours takes it back, and that it
        is not locked any more once the swap is final; for the rest the chain is believed.
        """
        swap = out.swap
        if outpoint == swap.asset_outpoint:
            if swap.state is State.CLAIMED:
                return Fate.CLAIMED
            back = swap.state is State.REFUNDED or outpoint in self.bound
            return Fate.REFUNDED if back else Fate.LOCKED
        if outpoint in self.bound:
            return Fate.REFUNDED
        if swap.finished or out.fate is Fate.CLAIMED:
            return Fate.CLAIMED
        return Fate.LOCKED

    def reports(self) -> tuple[AssetReport, ...]:
        """Both ledgers side by side, by asset id."""
        books: dict[str, Ledger] = defaultdict(Ledger)
        sure: Counter[str] = Counter()
        reserved: Counter[str] = Counter()
        for outpoint, stored in self.coins.items():
            book = books[stored.coin.asset_id]
            if outpoint.txid not in self._living:
                book.came_in += stored.coin.value
            if self.spender(outpoint) is None:
                book.wallet += stored.coin.value
                own = self._living.get(outpoint.txid)
                if stored.coin.height is not None or (own and own.purpose is not Purpose.REFUND):
                    sure[stored.coin.asset_id] += stored.coin.value
        for swap in self._store.swaps:
            if swap.funding_txid in self._living:
                self._add_swap(books, swap)
        for own in self._living.values():
            books[self._policy_asset].fees += own.fee_sats
        for swap in self._store.swaps:
            if swap.is_waiting:
                reserved[swap.asset_id] += swap.asset_amount
                reserved[self._policy_asset] += swap.lbtc_sats
        chain = self._money.ledgers()
        return tuple(
            AssetReport(
                asset_id=asset_id,
                store=books[asset_id],
                chain=chain.get(asset_id, Ledger()),
                available=sure[asset_id] - reserved[asset_id],
                reserved=reserved[asset_id],
                unconfirmed=books[asset_id].wallet - sure[asset_id],
            )
            for asset_id in sorted({*books, *chain, *reserved})
        )

    def _add_swap(self, books: dict[str, Ledger], swap: Swap) -> None:
        for outpoint, asset_id, value in (
            (swap.asset_outpoint, swap.asset_id, swap.asset_amount),
            (swap.subsidy_outpoint, self._policy_asset, swap.subsidy_sats),
        ):
            out = self._money.htlcs.get(outpoint) if outpoint else None
            fate = self.fate(out, outpoint) if out and outpoint else Fate.LOCKED
            if fate is Fate.LOCKED:
                books[asset_id].locked += value
            elif fate is Fate.CLAIMED:
                books[asset_id].claimed += value
