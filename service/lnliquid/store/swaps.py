"""Swaps and their event log: what is done to them.

Every function works inside a transaction that the caller opened with `Database.write` or `.read`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import exists, select, update
from sqlmodel import col

from lnliquid.store.creation import NEXT_SWAP as NEXT_SWAP
from lnliquid.store.creation import NewSwap as NewSwap
from lnliquid.store.creation import create as create
from lnliquid.store.creation import create_all as create_all
from lnliquid.store.creation import swap_of_request as swap_of_request
from lnliquid.store.creation import swaps_of_requests as swaps_of_requests
from lnliquid.store.rows import (
    FIELDS,
    WAITING,
    among,
    event_of_row,
    event_values,
    swaps_where,
)
from lnliquid.store.rows import get as get
from lnliquid.store.rows import get_all as get_all
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import (
    EventRow,
    OwnTxRow,
    SwapRow,
    TxState,
)
from lnliquid.swap import Event, IllegalTransition, InvoiceMark, State, Swap, path


def waiting(tx: Transaction, limit: int) -> list[Swap]:
    """Swaps that no funding transaction exists for, oldest first."""
    return swaps_where(tx, WAITING, limit=limit)


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


def held(tx: Transaction) -> list[Swap]:
    """Unfinished swaps with nothing locked whose funding was abandoned, oldest first."""
    abandoned = col(SwapRow.funding_txid) == col(OwnTxRow.txid)
    return swaps_where(
        tx,
        col(SwapRow.finished).is_(False),
        col(SwapRow.state).in_((State.CREATED, State.FAILED)),
        exists().where(abandoned, col(OwnTxRow.state) == TxState.ABANDONED),
    )


def fail_held(tx: Transaction) -> set[str]:
    """Fail the `held` swaps, as far as that is safe now. Returns the ids of the changed."""
    changed: set[str] = set()
    for swap in held(tx):
        funding = tx.get_one(OwnTxRow, swap.funding_txid)
        after = without_funding(swap, funding.height)
        if after == swap:
            continue
        cause = "its funding cannot confirm any more"
        save(tx, swap, after, cause=cause, txid=swap.funding_txid, height=funding.height)
        changed.add(swap.swap_id)
    return changed


def without_funding(swap: Swap, height: int | None) -> Swap:
    """What becomes of a `held` swap. The same one: it stays until its invoice is gone.

    It is never funded a second time: a reorg below `height`, at or below which its funding was
    spent away, may bring that funding back. One that nobody can have paid fails, and so does a paid
    one that the operator closed. One that was paid, or perhaps, is shown to the operator.
    """
    is_closed = swap.invoice_mark is InvoiceMark.PAID and swap.forced_refund_reason is not None
    if swap.invoice_mark in (InvoiceMark.NONE, InvoiceMark.REFUNDING) or is_closed:
        return replace(
            swap, state=State.FAILED, finished=True, paid_unclaimed=False, final_height=height
        )
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
    decided on an old picture and must look again. Raises `swap.IllegalTransition`, also when the
    state of a final swap is to be another: that one has to be reopened first.
    """
    if before.finished and after.state is not before.state:
        raise IllegalTransition(f"swap {before.swap_id} is final and {before.state.name}")
    row = tx.get(SwapRow, before.swap_id, populate_existing=True)
    if row is None or row.state != before.state or row.funding_txid != before.funding_txid:
        return False
    here = before.state
    for step in path(before.state, after.state):
        tx.add(EventRow(**event_values(tx, before.swap_id, here, step, cause, txid, height)))
        here = step
    settled = (State.CLAIMED, State.REFUNDED)
    if after.finished and not before.finished and after.state in settled:
        what = "claim" if here is State.CLAIMED else "refund"
        final = (f"{what} final", after.spend_txid, after.final_height)
        tx.add(EventRow(**event_values(tx, before.swap_id, here, here, *final)))
    for name in FIELDS:
        value = getattr(after, name)
        if getattr(before, name) != value:
            setattr(row, name, value)
    tx.flush()
    return True
