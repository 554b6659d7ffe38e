"""Swaps and their event log: what is done to them.

Every function works inside a transaction that the caller opened with `Database.write` or `.read`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import compress
from typing import Any

from sqlalchemy import Update, bindparam, exists, insert, select, update
from sqlmodel import col

from lnliquid.domain.swap import Event, IllegalTransition, InvoiceMark, State, Swap, path
from lnliquid.store.creation import NEXT_SWAP as NEXT_SWAP
from lnliquid.store.creation import NewSwap as NewSwap
from lnliquid.store.creation import create as create
from lnliquid.store.creation import create_all as create_all
from lnliquid.store.creation import swap_of_request as swap_of_request
from lnliquid.store.creation import swaps_of_requests as swaps_of_requests
from lnliquid.store.database import Transaction
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
from lnliquid.store.tables import (
    EventRow,
    OwnTxRow,
    SwapRow,
    TxState,
)


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
    values = [
        {
            _ID: f.swap_id,
            _STATE: State.CREATED,
            _FUNDING: None,
            "funding_txid": txid,
            "refund_lock_height": f.refund_lock_height,
            "asset_vout": f.asset_vout,
            "subsidy_vout": f.subsidy_vout,
        }
        for f in funded
    ]
    names = ("funding_txid", "refund_lock_height", "asset_vout", "subsidy_vout")
    done = tx.connection().execute(_update_of(names), values)
    if done.rowcount != len(funded):
        raise RuntimeError(f"a swap of {txid} has a funding transaction already")


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
    cause = "its funding cannot confirm any more"
    changes: list[Change] = []
    for swap in held(tx):
        height = tx.get_one(OwnTxRow, swap.funding_txid).height
        after = without_funding(swap, height)
        if after != swap:
            changes.append(Change(swap, after, cause, swap.funding_txid, height))
    save_all(tx, changes)
    return {change.before.swap_id for change in changes}


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


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a swap, with cause, txid and height of its events."""

    before: Swap
    after: Swap
    cause: str = ""
    txid: str | None = None
    height: int | None = None


def save(
    tx: Transaction,
    before: Swap,
    after: Swap,
    *,
    cause: str = "",
    txid: str | None = None,
    height: int | None = None,
) -> bool:
    """`save_all` for one."""
    [saved] = save_all(tx, [Change(before, after, cause, txid, height)])
    return saved


def save_all(tx: Transaction, changes: Sequence[Change]) -> list[bool]:
    """Write changed swaps, each with an event for every step its state took, and for being final.

    False for one, of which nothing is written, when the stored state or funding is not `before`'s
    any more: the caller decided on an old picture and must look again. Raises
    `swap.IllegalTransition`, also when the state of a final swap is to be another: that one has to
    be reopened first.
    """
    for change in changes:
        here = change.before
        if here.finished and change.after.state is not here.state:
            raise IllegalTransition(f"swap {here.swap_id} is final and {here.state.name}")
    columns = col(SwapRow.swap_id), col(SwapRow.state), col(SwapRow.funding_txid)
    ids = [change.before.swap_id for change in changes]
    stored = {
        swap_id: (state, funding_txid)
        for swap_id, state, funding_txid in tx.execute(
            select(*columns).where(among(col(SwapRow.swap_id), ids))
        )
    }
    saved = [
        stored.get(c.before.swap_id) == (c.before.state, c.before.funding_txid) for c in changes
    ]
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    events: list[dict[str, Any]] = []
    for change in compress(changes, saved):
        before, after = change.before, change.after
        names = tuple(name for name in FIELDS if getattr(before, name) != getattr(after, name))
        if names:
            key = {_ID: before.swap_id, _STATE: before.state, _FUNDING: before.funding_txid}
            rows[names].append({name: getattr(after, name) for name in names} | key)
        events += _events_of(tx, change)
    connection = tx.connection()
    for names, values in rows.items():
        done = connection.execute(_update_of(names), values)
        if done.rowcount != len(values):
            raise RuntimeError(f"{len(values)} swaps were to be written, {done.rowcount} were")
    if events:
        connection.execute(insert(EventRow), events)
    return saved


_ID, _STATE, _FUNDING = "stored_id", "stored_state", "stored_funding"


@cache
def _update_of(names: tuple[str, ...]) -> Update:
    """Made once for each set of columns: that takes longer than to carry it out."""
    as_read = (
        col(SwapRow.swap_id) == bindparam(_ID),
        col(SwapRow.state) == bindparam(_STATE),
        col(SwapRow.funding_txid).is_not_distinct_from(bindparam(_FUNDING)),
    )
    return update(SwapRow).where(*as_read).values({name: bindparam(name) for name in names})


def _events_of(tx: Transaction, change: Change) -> Iterator[dict[str, Any]]:
    before, after = change.before, change.after
    here = before.state
    for step in path(before.state, after.state):
        cause = (change.cause, change.txid, change.height)
        yield event_values(tx, before.swap_id, here, step, *cause)
        here = step
    settled = (State.CLAIMED, State.REFUNDED)
    if after.finished and not before.finished and after.state in settled:
        what = "claim" if here is State.CLAIMED else "refund"
        final = (f"{what} final", after.spend_txid, after.final_height)
        yield event_values(tx, before.swap_id, here, here, *final)
