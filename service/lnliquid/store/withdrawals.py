"""Withdrawals in the store: each is named by its request id, and pays by one family."""

from sqlalchemy import ColumnElement, select, true
from sqlmodel import col

from lnliquid.domain.errors import RequestConflict
from lnliquid.domain.withdrawal import Order, Withdrawal
from lnliquid.store.database import Transaction
from lnliquid.store.tables import OwnTxRow, TxState, WithdrawalRow


def add(tx: Transaction, order: Order, *, amount: int, script_pubkey: bytes, txid: str) -> None:
    """Store a withdrawal; its transaction is stored in the same write, before it."""
    tx.add(
        WithdrawalRow(
            request_id=order.request_id,
            asset_id=order.asset_id,
            amount=amount,
            is_all=order.amount is None,
            address=order.address,
            script_pubkey=script_pubkey,
            family=txid,
            created_at=tx.now,
        )
    )
    tx.flush()


def of_order(tx: Transaction, order: Order) -> Withdrawal | None:
    """The withdrawal that this request id names, None if it is new. Raises `RequestConflict`."""
    found = _read(tx, col(WithdrawalRow.request_id) == order.request_id, limit=1)
    if not found:
        return None
    [known] = found
    changed = [
        name
        for name in ("asset_id", "amount", "address")
        if getattr(known.order, name) != getattr(order, name)
    ]
    if changed:
        raise RequestConflict(order.request_id, tuple(changed), "withdrawal")
    return known


def listed(tx: Transaction, limit: int) -> list[Withdrawal]:
    """The newest ones, newest first."""
    return _read(tx, true(), limit=limit)


def everything(tx: Transaction) -> list[Withdrawal]:
    """All of them, newest first."""
    return _read(tx, true(), limit=None)


def _read(tx: Transaction, condition: ColumnElement[bool], limit: int | None) -> list[Withdrawal]:
    rows = tx.execute(
        select(WithdrawalRow, OwnTxRow)
        .join(OwnTxRow, col(OwnTxRow.family) == col(WithdrawalRow.family))
        .where(condition, col(OwnTxRow.state) != TxState.REPLACED)
        .order_by(col(WithdrawalRow.created_at).desc(), col(WithdrawalRow.request_id))
        .limit(limit)
    )
    return [
        Withdrawal(
            Order(row.request_id, row.asset_id, None if row.is_all else row.amount, row.address),
            row.amount,
            row.script_pubkey,
            own.txid,
            own.fee_sats,
            own.height if own.state == TxState.CONFIRMED else None,
            own.state == TxState.ABANDONED,
            row.created_at,
        )
        for row, own in rows
    ]


def scripts_of(tx: Transaction, family: str) -> set[bytes]:
    """What the withdrawal of this family pays; empty when it is none."""
    of_family = col(WithdrawalRow.family) == family
    return set(tx.scalars(select(col(WithdrawalRow.script_pubkey)).where(of_family)))
