"""Swaps, requests, reservations, our transactions and the event log: what is done to them.

Every function works inside a transaction that the caller opened with `Database.write` or `.read`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, exists, insert, select, update
from sqlmodel import col

from lnliquid.store.creation import NEXT_SWAP as NEXT_SWAP
from lnliquid.store.creation import NewSwap as NewSwap
from lnliquid.store.creation import create as create
from lnliquid.store.creation import create_all as create_all
from lnliquid.store.creation import swap_of_request as swap_of_request
from lnliquid.store.creation import swaps_of_requests as swaps_of_requests
from lnliquid.store.rows import (
    FIELDS,
    among,
    event_of_row,
    event_values,
    reservation_values,
    swaps_where,
)
from lnliquid.store.rows import get as get
from lnliquid.store.rows import get_all as get_all
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import (
    EventRow,
    OwnTxRow,
    ReservationRow,
    SwapRow,
    TxState,
)
from lnliquid.swap import Event, InvoiceMark, State, Swap, path


def waiting(tx: Transaction, limit: int) -> list[Swap]:
    """Swaps that no funding transaction exists for, oldest first."""
    created = col(SwapRow.finished).is_(False) & (col(SwapRow.state) == State.CREATED)
    return swaps_where(tx, created, col(SwapRow.funding_txid).is_(None), limit=limit)


def everything(tx: Transaction) -> list[Swap]:
    """Every swap that there ever was, oldest first."""
    return swaps_where(tx)


def holds_none(tx: Transaction) -> bool:
    """True for a database in which there never was a swap."""
    return tx.execute(select(col(SwapRow.swap_id)).limit(1)).first() is None


def watched(tx: Transaction) -> list[Swap]:
    """Swaps with a funding transaction that are not final, oldest first."""
    return swaps_where(tx, col(SwapRow.finished).is_(False), col(SwapRow.funding_txid).is_not(None))


def final_fundings(tx: Transaction, swap_ids: Collection[str]) -> dict[str, str | None]:
    """Those of these swaps that are final, with the txids of their fundings, None without one."""
    columns = col(SwapRow.swap_id), col(SwapRow.funding_txid), col(SwapRow.finished)
    rows = tx.execute(select(*columns).where(among(col(SwapRow.swap_id), swap_ids)))
    return {swap_id: txid for swap_id, txid, finished in rows if finished}


def events(tx: Transaction, swap_id: str, after: int = 0) -> list[Event]:
    """The event log of one swap, oldest first, from after this sequence number."""
    rows = tx.scalars(
        select(EventRow)
        .where(col(EventRow.swap_id) == swap_id, col(EventRow.seq) > after)
        .order_by(col(EventRow.seq))
    )
    return [event_of_row(row) for row in rows]


@dataclass(frozen=True, slots=True)
class FundedSwap:
    """Where a swap's outputs are in its funding transaction, and its lock height."""

    swap_id: str
    refund_lock_height: int
    asset_vout: int
    subsidy_vout: int


def bind_funding(tx: Transaction, txid: str, funded: Sequence[FundedSwap]) -> None:
    """T2 for the swaps: they belong to this transaction; their amounts are now its inputs."""
    ids = [f.swap_id for f in funded]
    unfunded = col(SwapRow.funding_txid).is_(None)
    created = col(SwapRow.state) == State.CREATED
    wanted = col(SwapRow.swap_id).in_(ids)
    free = set(tx.scalars(select(col(SwapRow.swap_id)).where(wanted, created, unfunded)))
    for swap_id in ids:
        if swap_id not in free:
            raise RuntimeError(f"swap {swap_id} has a funding transaction already")
    tx.execute(
        update(SwapRow),
        [
            {
                "swap_id": f.swap_id,
                "funding_txid": txid,
                "refund_lock_height": f.refund_lock_height,
                "asset_vout": f.asset_vout,
                "subsidy_vout": f.subsidy_vout,
            }
            for f in funded
        ],
    )
    tx.execute(delete(ReservationRow).where(col(ReservationRow.swap_id).in_(ids)))


def held(tx: Transaction) -> list[Swap]:
    """Swaps back in CREATED whose funding was abandoned, oldest first."""
    abandoned = col(SwapRow.funding_txid) == col(OwnTxRow.txid)
    return swaps_where(
        tx,
        col(SwapRow.finished).is_(False),
        col(SwapRow.state) == State.CREATED,
        exists().where(abandoned, col(OwnTxRow.state) == TxState.ABANDONED),
    )


def let_go(tx: Transaction) -> set[str]:
    """Undo T2 for the `held` swaps, as far as that is safe now. Returns the ids of the changed.

    Amounts of those that wait for funding again are reserved again, whether coins are left or not.
    """
    changed: set[str] = set()
    for swap in held(tx):
        after = without_funding(swap)
        if after == swap:
            continue
        cause = "its funding cannot confirm any more, and its time is over"
        save(tx, swap, after, cause=cause, txid=swap.funding_txid)
        if after.state is State.CREATED and after.funding_txid is None:
            tx.execute(insert(ReservationRow), [reservation_values(after)])
        changed.add(swap.swap_id)
    return changed


def without_funding(swap: Swap) -> Swap:
    """What becomes of a `held` swap. The same one: it stays until its invoice is gone.

    One without an invoice waits for funding again. One for which a refund was signed, or which was
    paid and the operator closed, has nothing left and fails. One that was paid, or perhaps, is
    shown to the operator and never funded again by ourselves.
    """
    nowhere = replace(
        swap, funding_txid=None, asset_vout=None, subsidy_vout=None, refund_lock_height=None
    )
    if swap.invoice_mark is InvoiceMark.NONE:
        return nowhere
    is_closed = swap.invoice_mark is InvoiceMark.PAID and swap.forced_refund_reason is not None
    if swap.invoice_mark is InvoiceMark.REFUNDING or is_closed:
        return replace(nowhere, state=State.FAILED, finished=True, paid_unclaimed=False)
    if swap.invoice_mark >= InvoiceMark.PAID:
        return replace(swap, paid_unclaimed=True)
    return swap


def fail_waiting(tx: Transaction, swap: Swap, cause: str) -> bool:
    """Give up a swap that nothing was ever signed for; its reservation is released."""
    if swap.funding_txid is not None:
        raise ValueError(f"swap {swap.swap_id} has a funding transaction and may not fail")
    return save(tx, swap, replace(swap, state=State.FAILED, finished=True), cause=cause)


def funded_by(tx: Transaction, txid: str) -> list[Swap]:
    """Swaps of a funding transaction."""
    return with_outputs_in(tx, {txid})


def with_outputs_in(tx: Transaction, txids: set[str]) -> list[Swap]:
    """Swaps whose HTLC outputs are in one of these transactions."""
    return swaps_where(tx, col(SwapRow.funding_txid).in_(txids))


def save(
    tx: Transaction,
    before: Swap,
    after: Swap,
    *,
    cause: str = "",
    txid: str | None = None,
    height: int | None = None,
) -> bool:
    """Write a changed swap, with an event for every step its state took, and for becoming final.

    False, and nothing written, when the stored state is not `before`'s any more: the caller
    decided on an old picture and must look again. Raises `swap.IllegalTransition`.
    """
    row = tx.get(SwapRow, before.swap_id, populate_existing=True)
    if row is None or row.state != before.state or row.funding_txid != before.funding_txid:
        return False
    here = before.state
    for step in path(before.state, after.state):
        tx.add(EventRow(**event_values(tx, before.swap_id, here, step, cause, txid, height)))
        here = step
    if after.finished and not before.finished and after.final_height is not None:
        what = "claim" if here is State.CLAIMED else "refund"
        final = (f"{what} final", after.spend_txid, after.final_height)
        tx.add(EventRow(**event_values(tx, before.swap_id, here, here, *final)))
    for name in FIELDS:
        value = getattr(after, name)
        if getattr(before, name) != value:
            setattr(row, name, value)
    if after.state is State.FAILED:
        tx.execute(delete(ReservationRow).where(col(ReservationRow.swap_id) == after.swap_id))
    tx.flush()
    return True
