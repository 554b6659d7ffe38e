"""The audit's checks of rows: reservations, bound outputs, our own transactions. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from lnliquid.seller.books import AssetReport
from lnliquid.seller.money import Money
from lnliquid.store.survey import OwnTx, StoreFacts
from lnliquid.store.tables import TxState
from lnliquid.swap import Outpoint


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that should not be. `rule` names the check, `text` says what was found."""

    rule: str
    text: str


def reservations(assets: tuple[AssetReport, ...]) -> Iterator[Difference]:
    """The wallet's coins hold what is reserved for the swaps that wait for funding."""
    for report in assets:
        if report.available < 0:
            yield Difference(
                "reservation",
                f"{report.reserved} of {report.asset_id} are reserved, {-report.available} more "
                "than the wallet's coins hold",
            )


def bindings(store: StoreFacts, money: Money) -> Iterator[Difference]:
    """Each output that a living transaction of ours spends is bound to it alone."""
    live = [b for b in store.bindings if b.live]
    for outpoint, count in Counter(b.outpoint for b in live).items():
        if count > 1:
            owners = ", ".join(sorted(b.owner_txid for b in live if b.outpoint == outpoint))
            yield Difference("binding", f"{outpoint} is bound {count} times: {owners}")
    owned: dict[str, set[Outpoint]] = defaultdict(set)
    for binding in live:
        owned[binding.owner_txid].add(binding.outpoint)
    for txid in owned:
        own = money.stored.get(txid)
        if own is None or not own.is_living:
            what = "not stored" if own is None else own.state.name
            yield Difference("binding", f"{len(owned[txid])} outputs are bound to {txid}: {what}")
    families: dict[str, set[Outpoint]] = defaultdict(set)
    for own in store.own_txs:
        families[own.family] |= {i.outpoint for i in money.parsed[own.txid].inputs}
    for own in (o for o in store.own_txs if o.txid not in money.dead):
        inputs = {i.outpoint for i in money.parsed[own.txid].inputs}
        # What an older version spends stays bound too: that one may confirm after all.
        if own.is_living and not inputs <= owned[own.txid] <= families[own.family]:
            odd = ", ".join(str(o) for o in sorted(inputs ^ owned[own.txid], key=str))
            yield Difference(
                "binding", f"inputs of {own.txid} and what is bound to it differ: {odd}"
            )


def own_txs(store: StoreFacts, money: Money) -> Iterator[Difference]:
    """Our transactions are what their bytes and the chain say."""
    for own in store.own_txs:
        transaction = money.parsed[own.txid]
        if transaction.txid != own.txid:
            yield Difference("own tx", f"the bytes stored as {own.txid} are {transaction.txid}")
        if transaction.fee_sats != own.fee_sats:
            yield Difference(
                "own tx", f"{own.txid} pays {transaction.fee_sats} sat, stored are {own.fee_sats}"
            )
        wrong = _wrong_state(own, money)
        if wrong:
            yield Difference("own tx", f"{own.txid} is stored as {own.state.name}; {wrong}")


def _wrong_state(own: OwnTx, money: Money) -> str | None:
    seen = money.chain.transactions.get(own.txid)
    if own.state is TxState.CONFIRMED:
        if seen is None:
            return "the chain does not have it"
        return None if seen.height == own.height else f"{own.height} is stored, {seen.height} is so"
    if seen is None or (own.is_living and seen.height is None):
        return None
    return "the mempool has it" if seen.height is None else f"it is in block {seen.height}"
