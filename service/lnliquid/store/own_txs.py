"""Our own transactions: kept whole before they are sent, followed, replaced, given up."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from sqlalchemy import delete, literal_column, or_, select, update
from sqlmodel import col

from lnliquid.store.rows import among
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import CursorRow, OutpointRow, OwnTxRow, Purpose, SwapRow, TxState

UNREAD = "own_tx_unread:"
"""Begins the names of cursors that stand for one transaction each; the txid follows."""


def add(
    tx: Transaction, *, txid: str, raw: bytes, purpose: Purpose, fee_sats: int, vsize: int,
    signed_height: int, replaces: str | None = None,
) -> None:  # fmt: skip
    """Keep the bytes of a transaction of ours; from the commit on only these are sent.

    One that is kept already is so because it was replaced by the very one that it replaces now: the
    older one confirmed, and a reorg took it out again. Its bytes stay as they are.
    """
    known = tx.get(OwnTxRow, txid, populate_existing=True)
    if known is not None:
        known.signed_height = signed_height
        tx.flush()
        return
    tx.add(
        OwnTxRow(
            txid=txid,
            purpose=int(purpose),
            raw=raw,
            fee_sats=fee_sats,
            vsize=vsize,
            created_at=tx.now,
            signed_height=signed_height,
            replaces=replaces,
        )
    )
    tx.flush()


def moving(tx: Transaction, above_height: int) -> list[OwnTxRow]:
    """Our transactions that may still change: signed, confirmed above this height, or unread."""
    confirmed = col(OwnTxRow.state) == TxState.CONFIRMED
    # SQLite has an index for each of these: the OR is flat, and IN is not of nothing.
    may_change = [
        col(OwnTxRow.state) == TxState.SIGNED,
        confirmed & (col(OwnTxRow.height) > above_height),
    ]
    if unread := unread_txids(tx):
        may_change.append(confirmed & col(OwnTxRow.txid).in_(unread))
    return list(
        tx.scalars(
            select(OwnTxRow)
            .where(or_(*may_change))
            .order_by(literal_column("rowid"))  # parents were stored before their children
        )
    )


def unread_txids(tx: Transaction) -> set[str]:
    """Transactions that were in a block when last read, and could not be read since."""
    names = select(col(CursorRow.name)).where(
        col(CursorRow.name).startswith(UNREAD, autoescape=True)
    )
    return {name.removeprefix(UNREAD) for name in tx.scalars(names)}


def set_unread(tx: Transaction, txids: AbstractSet[str]) -> None:
    """Make these the unread ones: each is looked at again, however deep it is by then."""
    before = unread_txids(tx)
    gone = [UNREAD + txid for txid in before - txids]
    tx.execute(delete(CursorRow).where(col(CursorRow.name).in_(gone)))
    tx.add_all([CursorRow(name=UNREAD + txid, value=1) for txid in sorted(txids - before)])
    tx.flush()


def open_funding_heights(tx: Transaction) -> dict[str, int]:
    """Heights, as last seen, of the confirmed fundings of swaps that are not final."""
    rows = tx.execute(
        select(col(OwnTxRow.txid), col(OwnTxRow.height))
        .join(SwapRow, col(SwapRow.funding_txid) == col(OwnTxRow.txid))
        .where(
            col(SwapRow.finished).is_(False),
            col(OwnTxRow.state) == TxState.CONFIRMED,
        )
        .distinct()
    )
    return {str(txid): height for txid, height in rows if height is not None}


def stuck(tx: Transaction, signed_up_to: int) -> list[OwnTxRow]:
    """Fundings and refunds that were signed at this tip height or before and are in no block."""
    return list(
        tx.scalars(
            select(OwnTxRow).where(
                col(OwnTxRow.state) == TxState.SIGNED,
                col(OwnTxRow.signed_height) <= signed_up_to,
                col(OwnTxRow.purpose).in_([int(Purpose.FUNDING), int(Purpose.REFUND)]),
            )
        )
    )


def known(tx: Transaction, txids: set[str]) -> set[str]:
    """Those of these transactions that are stored as ours."""
    return set(tx.scalars(select(col(OwnTxRow.txid)).where(col(OwnTxRow.txid).in_(txids))))


def superseded(tx: Transaction, txids: Collection[str]) -> frozenset[str]:
    """Those of these transactions of ours that were given up or replaced."""
    columns = col(OwnTxRow.txid), col(OwnTxRow.state)
    rows = tx.execute(select(*columns).where(among(col(OwnTxRow.txid), txids)))
    return frozenset(txid for txid, state in rows if state in (TxState.ABANDONED, TxState.REPLACED))


def replaced_by(tx: Transaction, txid: str) -> list[OwnTxRow]:
    """The transactions that this one replaced, all of them back to the first."""
    older: list[OwnTxRow] = []
    row = tx.get(OwnTxRow, txid)
    while row is not None and row.replaces is not None:
        row = tx.get(OwnTxRow, row.replaces)
        if row is not None:
            older.append(row)
    return older


def lost(tx: Transaction, txids: AbstractSet[str], buried_at: int) -> str | None:
    """One of these that is ours and that no block will ever hold; None when there is none.

    It was given up, or another one of those that replaced each other is in a block of height
    `buried_at` or below.
    """
    for row in tx.scalars(select(OwnTxRow).where(col(OwnTxRow.txid).in_(txids))):
        if row.state == TxState.ABANDONED:
            return row.txid
        if row.state == TxState.REPLACED and any(
            other.state == TxState.CONFIRMED
            and other.height is not None
            and other.height <= buried_at
            for other in _rivals(tx, row.txid)
        ):
            return row.txid
    return None


def _rivals(tx: Transaction, txid: str) -> list[OwnTxRow]:
    """All that replaced each other with this one, older and newer: one of them can confirm."""
    older = replaced_by(tx, txid)
    found = older[-1:]
    todo = [older[-1].txid if older else txid]
    while todo:
        newer = tx.scalars(select(OwnTxRow).where(col(OwnTxRow.replaces) == todo.pop())).all()
        found += newer
        todo += [row.txid for row in newer]
    return found


def point_to(tx: Transaction, old_txid: str, new_txid: str) -> None:
    """Let `new_txid` stand in the place of `old_txid`: its inputs and its swaps."""
    set_state(tx, old_txid, TxState.REPLACED)
    set_state(tx, new_txid, TxState.SIGNED)
    tx.execute(
        update(OutpointRow)
        .where(col(OutpointRow.owner_txid) == old_txid, col(OutpointRow.live).is_(True))
        .values(owner_txid=new_txid)
    )
    tx.execute(
        update(SwapRow).where(col(SwapRow.funding_txid) == old_txid).values(funding_txid=new_txid)
    )


def set_state(tx: Transaction, txid: str, state: TxState, height: int | None = None) -> None:
    """Note what became of a transaction of ours."""
    tx.execute(
        update(OwnTxRow).where(col(OwnTxRow.txid) == txid).values(state=int(state), height=height)
    )
