"""Lists and totals for the operator."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import col

from lnliquid.store.rows import swap_of_row
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import SwapRow
from lnliquid.swap import State, Swap


def listed(
    tx: Transaction, states: Sequence[State], paid_unclaimed: bool, limit: int
) -> list[Swap]:
    """Swaps, newest first; all states when none is named."""
    query = select(SwapRow).order_by(col(SwapRow.key_index).desc()).limit(limit)
    if states:
        query = query.where(col(SwapRow.state).in_([int(s) for s in states]))
    if paid_unclaimed:
        query = query.where(col(SwapRow.paid_unclaimed).is_(True))
    return [swap_of_row(row) for row in tx.scalars(query)]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many swaps there are of each kind, and the lowest lock height of a funded one."""

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
        col(SwapRow.state) == State.FUNDED
    )
    return Counts(
        {State(state): int(number) for state, number in by_state},
        int(tx.scalar(unfinished) or 0),
        int(tx.scalar(unclaimed) or 0),
        tx.scalar(lock),
    )


def locked(tx: Transaction) -> tuple[int, int]:
    """(asset, L-BTC) in HTLCs that are neither claimed nor refunded, sent or about to be."""
    row = tx.execute(
        select(
            func.coalesce(func.sum(col(SwapRow.asset_amount)), 0),
            func.coalesce(func.sum(col(SwapRow.subsidy_sats)), 0),
        ).where(
            col(SwapRow.funding_txid).is_not(None),
            col(SwapRow.state).in_([int(State.CREATED), int(State.FUNDED)]),
        )
    ).one()
    return int(row[0]), int(row[1])
