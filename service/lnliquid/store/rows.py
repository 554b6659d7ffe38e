"""Between rows and the domain: swaps out of the table, and the values of rows that go with them."""

import json
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Mapped
from sqlmodel import col

from lnliquid.domain.swap import Event, InvoiceMark, State, Swap
from lnliquid.store.database import Transaction
from lnliquid.store.tables import EventRow, SwapRow

FIELDS = [f.name for f in fields(Swap)]
_ALL = select(*(getattr(SwapRow, name) for name in FIELDS))
"""Columns, not row objects: half the cost. Made once, because making it costs as much again."""

WAITING = (
    col(SwapRow.finished).is_(False)
    & (col(SwapRow.state) == State.CREATED)
    & col(SwapRow.funding_txid).is_(None)
)
"""The swap waits for funding: its amounts are reserved, and no coin is bound to it yet."""


def among(column: ColumnElement[str] | Mapped[str], values: Collection[str]) -> ColumnElement[bool]:
    """True for these values, however many: they are one parameter, not one each."""
    each = func.json_each(json.dumps(sorted(values))).table_valued("value")
    return column.in_(select(each.c.value))


def swaps_where(
    tx: Transaction,
    *conditions: ColumnElement[bool],
    order: Sequence[ColumnElement[Any] | Mapped[Any]] = (col(SwapRow.key_index),),
    limit: int | None = None,
) -> list[Swap]:
    """The swaps for which this holds, oldest first if no other order is given."""
    query = _ALL.where(*conditions).order_by(*order).limit(limit)
    return [_swap(row) for row in tx.execute(query)]


def _swap(row: Row[Any]) -> Swap:
    values = dict(zip(FIELDS, row, strict=True))
    values["state"] = State(values["state"])
    values["invoice_mark"] = InvoiceMark(values["invoice_mark"])
    return Swap(**values)


def event_of_row(row: EventRow) -> Event:
    """The domain's event of a row."""
    return Event(
        row.seq or 0,
        row.swap_id,
        None if row.from_state is None else State(row.from_state),
        State(row.to_state),
        row.cause,
        row.txid,
        row.height,
        row.at,
    )


def get(tx: Transaction, swap_id: str) -> Swap | None:
    """One swap."""
    return get_all(tx, {swap_id}).get(swap_id)


def get_all(tx: Transaction, swap_ids: Collection[str]) -> dict[str, Swap]:
    """Those of these swaps that there are."""
    return {s.swap_id: s for s in swaps_where(tx, col(SwapRow.swap_id).in_(swap_ids))}


def event_values(
    tx: Transaction,
    swap_id: str,
    before: State | None,
    after: State,
    cause: str,
    txid: str | None,
    height: int | None,
) -> dict[str, Any]:
    """A row of the event log, now."""
    return {
        "swap_id": swap_id,
        "from_state": None if before is None else int(before),
        "to_state": int(after),
        "cause": cause,
        "txid": txid,
        "height": height,
        "at": tx.now,
    }
