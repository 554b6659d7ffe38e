"""Mending rows that no money hangs on, for `lnliquid audit --fix`.

Every function works inside a transaction that the caller opened.
"""

from sqlalchemy import delete, update
from sqlmodel import col

from lnliquid.store.rows import event_values
from lnliquid.store.sqlite import Transaction
from lnliquid.store.survey import Reservation
from lnliquid.store.tables import EventRow, OwnTxRow, RequestRow, ReservationRow
from lnliquid.swap import Request, State


def set_reservation(tx: Transaction, swap_id: str, wanted: Reservation | None) -> None:
    """Make this the swap's only reservation; None leaves it without."""
    tx.execute(delete(ReservationRow).where(col(ReservationRow.swap_id) == swap_id))
    if wanted is not None:
        tx.add(
            ReservationRow(
                swap_id=swap_id,
                asset_id=wanted.asset_id,
                asset_amount=wanted.asset_amount,
                lbtc_sats=wanted.lbtc_sats,
            )
        )
        tx.flush()


def add_event(tx: Transaction, swap_id: str, before: State | None, after: State) -> None:
    """Append the event that a log lacks at its end."""
    cause = "added by `lnliquid audit --fix`"
    tx.add(EventRow(**event_values(tx, swap_id, before, after, cause, None, None)))
    tx.flush()


def add_request(tx: Transaction, request: Request, swap_id: str) -> None:
    """Add the request that a swap answers."""
    tx.add(
        RequestRow(
            request_id=request.request_id, parameter_hash=request.parameter_hash, swap_id=swap_id
        )
    )
    tx.flush()


def set_fee(tx: Transaction, txid: str, fee_sats: int) -> None:
    """Correct the stored fee of a transaction of ours."""
    tx.execute(update(OwnTxRow).where(col(OwnTxRow.txid) == txid).values(fee_sats=fee_sats))
