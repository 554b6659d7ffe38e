"""The audit of money rule 7: all that came in is somewhere.

It is available, reserved, locked, claimed, withdrawn, or was paid as fees.

`audit` is pure: it states everything twice, by the store and by the chain, says where the two
differ, adds up the equation on either side, and compares the store with Core Lightning's invoices.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lnliquid.audit import invoices as lightning
from lnliquid.audit.evidence import ChainPicture, Evidence, Fate
from lnliquid.audit.statements import Difference, Sides
from lnliquid.domain.ports import Invoice
from lnliquid.domain.swap import Outpoint, Tip
from lnliquid.store.survey import StoreFacts
from lnliquid.store.tables import Purpose


@dataclass(slots=True)
class Ledger:
    """One asset: what came in, and where it is now. Smallest unit."""

    came_in: int = 0
    wallet: int = 0
    locked: int = 0
    claimed: int = 0
    withdrawn: int = 0
    fees: int = 0
    elsewhere: int = 0
    """Paid by us to scripts of no wallet, HTLC or withdrawal. There should be none."""

    @property
    def gap(self) -> int:
        """What came in and is nowhere; 0 when the ledger balances."""
        here = self.wallet + self.locked + self.claimed + self.withdrawn
        return self.came_in - here - self.fees - self.elsewhere


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
        """True when all that was compared agrees."""
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
    seen = Evidence(store, chain)
    sides = Sides(store, seen, policy_asset)
    assets = _assets(store, seen, sides, policy_asset)
    differences = [Difference("unread", text) for text in chain.unread]
    differences += sides.problems()
    for statement in sides.statements():
        differences += statement.differences()
    differences += _sums(assets)
    for swap in store.swaps:
        if invoices and swap.swap_id in invoices:
            found = lightning.invoice_problems(swap, invoices[swap.swap_id])
            differences += (Difference("invoice", text) for text in found)
    notes = [f"{txid} is stored and not seen by the backend" for txid in sorted(seen.in_flight)]
    notes += [
        f"{txid} is stored and cannot confirm: {rival} spends its input; not abandoned yet"
        for txid, rival in sorted(seen.dead.items())
    ]
    notes += lightning.lost_invoices(store.swaps)
    if invoices is None:
        notes.append("Core Lightning was not asked; only store and chain were compared")
    return Report(
        tip=chain.tip,
        assets=assets,
        differences=tuple(differences),
        notes=tuple(notes),
        swaps=dict(Counter(s.state.name for s in store.swaps)),
        reservations=sum(s.is_waiting for s in store.swaps),
        fundings=len({outpoint.txid for outpoint in seen.htlcs}),
    )


def _assets(
    store: StoreFacts, seen: Evidence, sides: Sides, policy_asset: str
) -> tuple[AssetReport, ...]:
    """Both ledgers side by side, by asset id."""
    told, shown = _of_store(store, sides, policy_asset), _of_chain(seen)
    reserved: Counter[str] = Counter()
    for swap in store.swaps:
        if swap.is_waiting:
            reserved[swap.asset_id] += swap.asset_amount
            reserved[policy_asset] += swap.lbtc_sats
    sure: Counter[str] = Counter()
    for outpoint, stored in sides.coins.items():
        own = sides.living.get(outpoint.txid)
        is_sure = stored.coin.height is not None or (own and own.purpose is not Purpose.REFUND)
        if is_sure and sides.spender(outpoint) is None:
            sure[stored.coin.asset_id] += stored.coin.value
    return tuple(
        AssetReport(
            asset_id=asset_id,
            store=told[asset_id],
            chain=shown[asset_id],
            available=sure[asset_id] - reserved[asset_id],
            reserved=reserved[asset_id],
            unconfirmed=told[asset_id].wallet - sure[asset_id],
        )
        for asset_id in sorted({*told, *shown, *reserved})
    )


def _of_store(store: StoreFacts, sides: Sides, policy_asset: str) -> dict[str, Ledger]:
    ledgers: dict[str, Ledger] = defaultdict(Ledger)
    for outpoint, stored in sides.coins.items():
        is_new, is_here = outpoint.txid not in sides.living, sides.spender(outpoint) is None
        _add_coin(ledgers[stored.coin.asset_id], stored.coin.value, is_new, is_here)
    for swap in store.swaps:
        if swap.funding_txid in sides.living:
            for _, outpoint, asset_id, value in sides.outputs_of(swap):
                _add_htlc(ledgers[asset_id], value, sides.fate(outpoint))
    for withdrawal in store.withdrawals:
        if withdrawal.txid in sides.living:
            ledgers[withdrawal.order.asset_id].withdrawn += withdrawal.amount
    for own in sides.living.values():
        ledgers[policy_asset].fees += own.fee_sats
    return ledgers


def _of_chain(seen: Evidence) -> dict[str, Ledger]:
    ledgers: dict[str, Ledger] = defaultdict(Ledger)
    for outpoint in seen.wallet:
        asset_id, value = seen.explicit[outpoint]
        is_new, is_here = outpoint.txid not in seen.ours, seen.spender(outpoint) is None
        _add_coin(ledgers[asset_id], value, is_new, is_here)
    for out in seen.htlcs.values():
        _add_htlc(ledgers[out.asset_id], out.value, out.fate)
    for txid in seen.ours:
        for vout, output in enumerate(seen.transactions[txid].outputs):
            outpoint = Outpoint(txid, vout)
            if outpoint not in seen.explicit:
                continue  # blinded: it shows as a gap
            asset_id, value = seen.explicit[outpoint]
            if output.is_fee:
                ledgers[asset_id].fees += value
            elif outpoint in seen.withdrawn:
                ledgers[asset_id].withdrawn += value
            elif outpoint not in seen.wallet and outpoint not in seen.htlcs:
                ledgers[asset_id].elsewhere += value
    return ledgers


def _add_coin(ledger: Ledger, value: int, is_new: bool, is_here: bool) -> None:
    ledger.came_in += value if is_new else 0
    ledger.wallet += value if is_here else 0


def _add_htlc(ledger: Ledger, value: int, fate: Fate) -> None:
    ledger.locked += value if fate is Fate.LOCKED else 0
    ledger.claimed += value if fate is Fate.CLAIMED else 0


def _sums(assets: Iterable[AssetReport]) -> Iterator[Difference]:
    for report in assets:
        name = report.asset_id
        if report.available < 0:
            yield Difference(
                "reservation",
                f"{report.reserved} of {name} are reserved, {-report.available} more than the "
                "wallet's coins hold",
            )
        for column in ("came_in", "wallet", "locked", "claimed", "withdrawn", "fees"):
            told, shown = getattr(report.store, column), getattr(report.chain, column)
            if told != shown:
                what = column.replace("_", " ")
                sums = f"{what} {told} by the store, {shown} by the chain"
                yield Difference("ledger", f"{name}: {sums}")
        if report.chain.elsewhere:
            lost = (
                f"{report.chain.elsewhere} went to scripts that are neither ours nor a withdrawal's"
            )
            yield Difference("ledger", f"{name}: {lost}")
        for side, ledger in (("store", report.store), ("chain", report.chain)):
            if ledger.gap:
                yield Difference(
                    "ledger",
                    f"{name}: by the {side} {ledger.came_in} came in, and {ledger.gap} of it is "
                    "nowhere",
                )
