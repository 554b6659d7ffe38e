"""Lists and totals for the operator."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlmodel import col

from lnliquid.domain.swap import Event, State, Swap
from lnliquid.store.database import Transaction
from lnliquid.store.rows import event_of_row, swaps_where
from lnliquid.store.tables import EventRow, SwapRow


@dataclass(frozen=True, slots=True)
class Filter:
    """Which swaps to list: all states when none is named, times in unix seconds."""

    states: tuple[State, ...] = ()
    paid_unclaimed: bool = False
    unfinished: bool = False
    created_from: int | None = None
    created_before: int | None = None


def listed(tx: Transaction, wanted: Filter, limit: int) -> list[Swap]:
    """Swaps, newest first."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.states:
        conditions.append(col(SwapRow.state).in_(wanted.states))
    if wanted.paid_unclaimed:
        conditions.append(col(SwapRow.paid_unclaimed).is_(True))
    if wanted.unfinished:
        conditions.append(col(SwapRow.finished).is_(False))
    if wanted.created_from is not None:
        conditions.append(col(SwapRow.created_at) >= wanted.created_from)
    if wanted.created_before is not None:
        conditions.append(col(SwapRow.created_at) < wanted.created_before)
    return swaps_where(tx, *conditions, order=[col(SwapRow.key_index).desc()], limit=limit)


def next_to_refund(tx: Transaction, limit: int) -> list[Swap]:
    """Swaps that hold locked coins, lowest lock height first."""
    return swaps_where(
        tx,
        col(SwapRow.finished).is_(False),
        col(SwapRow.state).in_((State.CREATED, State.FUNDED)),
        col(SwapRow.refund_lock_height).is_not(None),
        order=[col(SwapRow.refund_lock_height), col(SwapRow.key_index)],
        limit=limit,
    )


def last_event(tx: Transaction) -> int:
    """Number of the newest event, 0 when there is none."""
    return int(tx.scalar(select(func.max(col(EventRow.seq)))) or 0)


def newest_events(tx: Transaction, after: int, limit: int) -> list[Event]:
    """The newest events of all swaps after this number, oldest first."""
    query = (
        select(EventRow)
        .where(col(EventRow.seq) > after)
        .order_by(col(EventRow.seq).desc())
        .limit(limit)
    )
    return [event_of_row(row) for row in reversed(tx.scalars(query).all())]


def funding_secs(tx: Transaction, after: int, upto: int) -> list[int]:
    """Seconds from creation to FUNDED for each such event with after < number <= upto.

    A swap that a reorg brings back to FUNDED counts once more.
    """
    rows = tx.execute(
        select(col(EventRow.at), col(SwapRow.created_at))
        .join(SwapRow, col(SwapRow.swap_id) == col(EventRow.swap_id))
        .where(
            col(EventRow.seq) > after,
            col(EventRow.seq) <= upto,
            col(EventRow.from_state) == State.CREATED,
            col(EventRow.to_state) == State.FUNDED,
        )
    )
    return [max(0, int(at) - int(created_at)) for at, created_at in rows]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many swaps of each kind there are; the lowest lock height of one that may be refunded."""

    by_state: dict[State, int]
    unfinished: int
    paid_unclaimed: int
    next_lock_height: int | None


def counts(tx: Transaction) -> Counts:
    """Count all swaps."""
    by_state = tx.execute(select(col(SwapRow.state), func.count()).group_by(col(SwapRow.state)))
    unfinished = select(func.count()).where(col(SwapRow.finished).is_(False))
    unclaimed = select(func.count()).where(col(SwapRow.paid_unclaimed).is_(True))
    lock = select(func.min(col(SwapRow.refund_lock_height))).where(
        col(SwapRow.finished).is_(False),
        col(SwapRow.state) == State.FUNDED,
        col(SwapRow.paid_unclaimed).is_(False),
    )
    return Counts(
        {State(state): int(number) for state, number in by_state},
        int(tx.scalar(unfinished) or 0),
        int(tx.scalar(unclaimed) or 0),
        tx.scalar(lock),
    )


def to_refund(tx: Transaction) -> int:
    """Number of swaps whose HTLC may have to be taken back, those that wait for funding too."""
    states = (State.CREATED, State.FUNDED)
    may = col(SwapRow.finished).is_(False), col(SwapRow.state).in_(states)
    return int(tx.scalar(select(func.count()).where(*may)) or 0)


def locked(tx: Transaction) -> tuple[int, int]:
    """(asset, L-BTC) in HTLCs that are neither claimed nor refunded, sent or about to be."""
    row = tx.execute(
        select(
            func.coalesce(func.sum(col(SwapRow.asset_amount)), 0),
            func.coalesce(func.sum(col(SwapRow.subsidy_sats)), 0),
        ).where(
            col(SwapRow.finished).is_(False),
            col(SwapRow.funding_txid).is_not(None),
            col(SwapRow.state).in_((State.CREATED, State.FUNDED)),
        )
    ).one()
    return int(row[0]), int(row[1])
