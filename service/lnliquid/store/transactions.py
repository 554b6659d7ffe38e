"""Our own transactions: kept whole before they are sent, followed, replaced, given up.

Those that replace one another for one purpose are a *family*: one of its versions at most can
confirm. One of them is current; the others are REPLACED, until the chain shows otherwise.
"""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from sqlalchemy import ColumnElement, literal_column, or_, select, update
from sqlalchemy.orm import aliased
from sqlmodel import col

from lnliquid.store.database import Transaction
from lnliquid.store.rows import among
from lnliquid.store.tables import (
    LIVING,
    PENDING,
    OutpointRow,
    OwnTxRow,
    Purpose,
    SwapRow,
    TxState,
)


def add(
    tx: Transaction, *, txid: str, raw: bytes, purpose: Purpose, fee_sats: int, vsize: int,
    signed_height: int, replaces: str | None = None,
) -> None:  # fmt: skip
    """Keep the bytes of a transaction of ours; from the commit on only these are sent.

    It joins the family of the one that it `replaces`. Where the same fee gave the same bytes again
    they are kept already, and stay.
    """
    known = tx.get(OwnTxRow, txid, populate_existing=True)
    if known is not None:
        known.signed_height = signed_height
        tx.flush()
        return
    older = tx.get(OwnTxRow, replaces) if replaces is not None else None
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
            family=older.family if older is not None else txid,
        )
    )
    tx.flush()


def moving(tx: Transaction, above_height: int) -> list[OwnTxRow]:
    """Every version of the families that may still change.

    That is while a version is to confirm, has confirmed above this height, or could not be read.
    """
    confirmed = col(OwnTxRow.state) == TxState.CONFIRMED
    # SQLite has an index for each of these: the OR is flat, and of partial indexes it takes none.
    unread = aliased(OwnTxRow)
    may_change = [
        *(col(OwnTxRow.state) == state for state in PENDING),
        confirmed & (col(OwnTxRow.height) > above_height),
        col(OwnTxRow.txid).in_(select(col(unread.txid)).where(col(unread.unread).is_(True))),
    ]
    families = select(col(OwnTxRow.family)).where(or_(*may_change))
    return _in_order(tx, col(OwnTxRow.family).in_(families))


def _in_order(tx: Transaction, *conditions: ColumnElement[bool]) -> list[OwnTxRow]:
    """As they were stored: parents before their children, older versions before newer ones."""
    return list(tx.scalars(select(OwnTxRow).where(*conditions).order_by(literal_column("rowid"))))


def versions(tx: Transaction, txid: str) -> list[OwnTxRow]:
    """The family of this transaction, the first version first; empty when it is not stored."""
    family = select(col(OwnTxRow.family)).where(col(OwnTxRow.txid) == txid).scalar_subquery()
    return _in_order(tx, col(OwnTxRow.family) == family)


def unread_txids(tx: Transaction) -> set[str]:
    """Transactions that were in a block when last read, and could not be read since."""
    return set(tx.scalars(select(col(OwnTxRow.txid)).where(col(OwnTxRow.unread).is_(True))))


def set_unread(tx: Transaction, txids: AbstractSet[str]) -> None:
    """Make these the unread ones: each is looked at again, however deep it is by then."""
    before = unread_txids(tx)
    for changed, unread in ((before - txids, False), (txids - before, True)):
        if changed:
            tx.execute(
                update(OwnTxRow).where(col(OwnTxRow.txid).in_(changed)).values(unread=unread)
            )


def open_funding_heights(tx: Transaction) -> dict[str, int]:
    """Heights, as last seen, of the confirmed fundings of swaps that are not final."""
    is_funding = col(SwapRow.funding_txid) == col(OwnTxRow.txid)
    confirmed = col(OwnTxRow.state) == TxState.CONFIRMED
    rows = tx.execute(
        select(col(OwnTxRow.txid), col(OwnTxRow.height))
        .join(SwapRow, is_funding)
        .where(col(SwapRow.finished).is_(False), confirmed)
        .distinct()
    )
    return {str(txid): height for txid, height in rows if height is not None}


def pending(tx: Transaction) -> list[OwnTxRow]:
    """Those that are to confirm, one of each family, parents before their children."""
    return _in_order(tx, col(OwnTxRow.state).in_(PENDING))


def signs_pending(tx: Transaction) -> bool:
    """True while a transaction that we signed is to confirm."""
    to_confirm = col(OwnTxRow.state).in_(PENDING), col(OwnTxRow.purpose) != Purpose.DEPOSIT
    return tx.execute(select(col(OwnTxRow.txid)).where(*to_confirm).limit(1)).first() is not None


def refused(tx: Transaction, txids: Collection[str]) -> dict[str, Purpose]:
    """Those of these that stand for their families and that a node refused, with their purposes."""
    columns = col(OwnTxRow.txid), col(OwnTxRow.purpose)
    is_refused = col(OwnTxRow.state) == TxState.REFUSED
    rows = tx.execute(select(*columns).where(among(col(OwnTxRow.txid), txids), is_refused))
    return {txid: Purpose(purpose) for txid, purpose in rows}


def known(tx: Transaction, txids: Collection[str]) -> set[str]:
    """Those of these transactions that are stored."""
    return set(tx.scalars(select(col(OwnTxRow.txid)).where(col(OwnTxRow.txid).in_(txids))))


def superseded(tx: Transaction, txids: Collection[str]) -> frozenset[str]:
    """Those of these transactions of ours that were given up or replaced."""
    columns = col(OwnTxRow.txid), col(OwnTxRow.state)
    rows = tx.execute(select(*columns).where(among(col(OwnTxRow.txid), txids)))
    return frozenset(txid for txid, state in rows if state in (TxState.ABANDONED, TxState.REPLACED))


def point_to(tx: Transaction, old_txid: str, new_txid: str) -> None:
    """Let `new_txid` stand in the place of `old_txid`: its inputs and its swaps.

    It also keeps those inputs that it does not spend: an older version may confirm after all.
    """
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


def abandoned_above(tx: Transaction, height: int) -> list[OwnTxRow]:
    """Those that were abandoned because of blocks up to this height or above."""
    is_abandoned = col(OwnTxRow.state) == TxState.ABANDONED
    return _in_order(tx, is_abandoned, col(OwnTxRow.height) >= height)


def standing_for(tx: Transaction, txids: Collection[str]) -> dict[str, str]:
    """For those of these that are stored and whose family lives: the version that stands for it."""
    if not txids:
        return {}  # SQLite would look through all for IN of nothing
    current = aliased(OwnTxRow)
    rows = tx.execute(
        select(col(OwnTxRow.txid), current.txid)  # type: ignore[call-overload]
        .join(current, current.family == col(OwnTxRow.family))
        .where(col(OwnTxRow.txid).in_(txids), col(current.state).in_(LIVING))
    )
    return {str(txid): str(stands) for txid, stands in rows}


def mark_sent(tx: Transaction, txid: str, state: TxState) -> None:
    """Note a node's answer to a broadcast of one that is to confirm."""
    tx.execute(
        update(OwnTxRow)
        .where(
            col(OwnTxRow.txid) == txid,
            col(OwnTxRow.state).in_(PENDING),
            col(OwnTxRow.state) != int(state),  # the same again is no change to be committed
        )
        .values(state=int(state))
    )
