"""The audit of money rule 7: what came in = available + reserved + locked + claimed + fees.

`audit` is pure: it computes the equation from the store and from the chain, compares the two
output by output, compares the store with Core Lightning's invoices, and says in words what does not
fit. Nothing is mended here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lnliquid.ports import Invoice
from lnliquid.seller import audit_lightning
from lnliquid.seller.audit_rows import Difference as Difference
from lnliquid.seller.audit_rows import bindings, own_txs, reservations
from lnliquid.seller.books import AssetReport, StoreBooks
from lnliquid.seller.money import ChainPicture, Money
from lnliquid.seller.observe import output_script
from lnliquid.store.survey import StoreFacts
from lnliquid.store.tables import Purpose, TxState
from lnliquid.swap import Outpoint, State, Swap, Tip


@dataclass(frozen=True, slots=True)
class Report:
    """What the audit found. `notes` are facts worth knowing that are no differences."""

    tip: Tip
    assets: tuple[AssetReport, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    swaps: dict[str, int]
    """Number of swaps by state."""
    reservations: int
    fundings: int
    """Transactions of ours, on the chain or about to be, that hold HTLC outputs."""

    @property
    def is_exact(self) -> bool:
        """True when store and chain agree in everything."""
        return not self.differences


def audit(
    store: StoreFacts,
    chain: ChainPicture,
    policy_asset: str,
    invoices: Mapping[str, Invoice] | None = None,
) -> Report:
    """Compare the store with the chain and with the invoices, by swap id.

    All must have been read while store and chain did not change. Without `invoices` Lightning is
    left out, and a note says so.
    """
    money = Money(store, chain)
    books = StoreBooks(store, money, policy_asset)
    assets = books.reports()
    differences = [
        *(Difference("unread", text) for text in chain.unread),
        *reservations(assets),
        *bindings(store, money),
        *own_txs(store, money),
        *_unknown(money),
        *_swaps(store, money, books, policy_asset),
        *_coins(store, money, books),
        *_ledgers(assets),
        *_invoices(store, invoices or {}),
    ]
    notes = [f"{txid} is stored and not seen by the backend" for txid in sorted(money.in_flight)]
    notes += [
        f"{txid} is stored and cannot confirm: {rival} spends its input; not given up yet"
        for txid, rival in sorted(money.dead.items())
    ]
    notes += audit_lightning.lost_invoices({s.swap_id: s for s in store.swaps})
    if invoices is None:
        notes.append("Core Lightning was not asked; only store and chain were compared")
    return Report(
        tip=chain.tip,
        assets=assets,
        differences=tuple(differences),
        notes=tuple(notes),
        swaps=dict(Counter(s.state.name for s in store.swaps)),
        reservations=sum(s.is_waiting for s in store.swaps),
        fundings=len({outpoint.txid for outpoint in money.htlcs}),
    )


def _invoices(store: StoreFacts, invoices: Mapping[str, Invoice]) -> Iterator[Difference]:
    for swap in store.swaps:
        if swap.swap_id in invoices:
            for text in audit_lightning.invoice_problems(swap, invoices[swap.swap_id]):
                yield Difference(audit_lightning.RULE, text)


def _unknown(money: Money) -> Iterator[Difference]:
    for txid in sorted(money.ours - set(money.stored)):
        yield Difference("unknown tx", f"{txid} spends our coins and is not in the store")
    for outpoint, spenders in money.spenders.items():
        if len(spenders) > 1:
            yield Difference("unknown tx", f"{outpoint} is spent by {', '.join(sorted(spenders))}")


def _swaps(
    store: StoreFacts, money: Money, books: StoreBooks, policy_asset: str
) -> Iterator[Difference]:
    last_states = dict(store.last_states)
    fundings: dict[str, set[str]] = defaultdict(set)
    for outpoint, out in money.htlcs.items():
        fundings[out.swap.swap_id].add(outpoint.txid)
    taken: Counter[Outpoint] = Counter()
    for swap in store.swaps:
        if last_states.get(swap.swap_id) is not swap.state:
            last = last_states.get(swap.swap_id)
            yield Difference(
                "swap",
                f"swap {swap.swap_id} is {swap.state.name}, its event log ends with "
                f"{last.name if last else 'nothing'}",
            )
        if swap.funding_txid is None:
            if swap.state not in (State.CREATED, State.FAILED):
                yield Difference(
                    "swap", f"swap {swap.swap_id} is {swap.state.name} without a funding"
                )
            continue
        txids = fundings[swap.swap_id]
        if len(txids) > 1:
            listed = ", ".join(sorted(txids))
            yield Difference("funding", f"swap {swap.swap_id} is funded more than once: {listed}")
        taken.update(o for o in (swap.asset_outpoint, swap.subsidy_outpoint) if o)
        yield from _funding(swap, money, policy_asset)
        yield from _fates(swap, money, books)
    for outpoint, count in taken.items():
        if count > 1:
            yield Difference("funding", f"{outpoint} belongs to {count} swaps")


def _funding(swap: Swap, money: Money, policy_asset: str) -> Iterator[Difference]:
    txid = swap.funding_txid or ""
    own = money.stored.get(txid)
    is_open = swap.state in (State.CREATED, State.FAILED)
    if own is not None and own.state is TxState.ABANDONED and is_open:
        return  # nothing is locked, and nothing may be locked again
    if own is None or own.purpose is not Purpose.FUNDING or not own.is_living:
        what = "not stored" if own is None else f"{own.purpose.name}, {own.state.name}"
        yield Difference("funding", f"swap {swap.swap_id} is funded by {txid}: {what}")
    if txid in money.dead:
        return  # a note; the swap waits until it is given up
    if swap.state is not State.CREATED and money.height(txid) is None:
        yield Difference(
            "funding", f"swap {swap.swap_id} is {swap.state.name}, its funding is in no block"
        )
    outputs = money.transactions[txid].outputs if txid in money.transactions else ()
    script = output_script(swap)
    for what, vout, asset_id, value in (
        ("asset", swap.asset_vout, swap.asset_id, swap.asset_amount),
        ("subsidy", swap.subsidy_vout, policy_asset, swap.subsidy_sats),
    ):
        found = outputs[vout] if vout is not None and vout < len(outputs) else None
        if found is None:
            yield Difference(
                "funding", f"{txid}:{vout}, the {what} of {swap.swap_id}, is not there"
            )
        elif found.script_pubkey != script:
            yield Difference("funding", f"{txid}:{vout} does not pay the HTLC of {swap.swap_id}")
        elif (found.asset_id, found.value) != (asset_id, value):
            yield Difference(
                "funding",
                f"{txid}:{vout}, the {what} of {swap.swap_id}, holds {found.value} of "
                f"{found.asset_id}, not {value} of {asset_id}",
            )


def _fates(swap: Swap, money: Money, books: StoreBooks) -> Iterator[Difference]:
    mine = {swap.asset_outpoint: "asset", swap.subsidy_outpoint: "subsidy"}
    for outpoint, what in mine.items():
        out = money.htlcs.get(outpoint) if outpoint else None
        if out is None or outpoint is None:
            continue
        told = books.fate(out, outpoint)
        if told is not out.fate:
            yield Difference(
                "swap",
                f"the {what} of {swap.swap_id} ({swap.state.name}) is {told.value} by the store "
                f"and {out.fate.value} by the chain",
            )
        if out.odd_witness:
            yield Difference("swap", f"{outpoint} was spent by neither branch of its script")
        if what == "asset" and out.spender != swap.spend_txid and swap.state.is_settled:
            yield Difference(
                "swap", f"{outpoint} is spent by {out.spender}, stored is {swap.spend_txid}"
            )


def _coins(store: StoreFacts, money: Money, books: StoreBooks) -> Iterator[Difference]:
    for outpoint, stored in books.coins.items():
        coin, held = stored.coin, money.wallet.get(outpoint)
        if held is None:
            yield Difference(
                "coin", f"{outpoint} ({coin.value} of {coin.asset_id}) is stored, not on the chain"
            )
            continue
        if (held.asset_id, held.value) != (coin.asset_id, coin.value):
            yield Difference(
                "coin",
                f"{outpoint} is stored as {coin.value} of {coin.asset_id} and holds {held.value} "
                f"of {held.asset_id}",
            )
        told, seen = books.spender(outpoint), money.spender(outpoint)
        if told != seen:
            yield Difference(
                "coin", f"{outpoint} is spent by {told} as stored, by {seen} on the chain"
            )
        if coin.height != money.height(outpoint.txid):
            yield Difference(
                "coin",
                f"{outpoint} is stored at height {coin.height}, it is at "
                f"{money.height(outpoint.txid)}",
            )
    for outpoint, held in money.wallet.items():
        if outpoint not in books.coins:
            yield Difference(
                "coin", f"{outpoint} ({held.value} of {held.asset_id}) is ours and not stored"
            )


def _ledgers(assets: tuple[AssetReport, ...]) -> Iterator[Difference]:
    for report in assets:
        for name in ("came_in", "wallet", "locked", "claimed", "fees"):
            told, seen = getattr(report.store, name), getattr(report.chain, name)
            if told != seen:
                yield Difference(
                    "ledger",
                    f"{report.asset_id}: {name.replace('_', ' ')} {told} by the store, "
                    f"{seen} by the chain",
                )
        if report.chain.elsewhere:
            yield Difference(
                "ledger",
                f"{report.asset_id}: {report.chain.elsewhere} went to scripts that are not ours",
            )
        for side, ledger in (("store", report.store), ("chain", report.chain)):
            if ledger.gap:
                yield Difference(
                    "ledger",
                    f"{report.asset_id}: by the {side} {ledger.came_in} came in, and "
                    f"{ledger.gap} of it is nowhere",
                )
