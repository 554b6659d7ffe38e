"""What our transactions spend: an outpoint has one live owner at most (money rule 2).

The owner is the version that stands for its family; it keeps what any version of that spends.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import select, update
from sqlmodel import col

from lnliquid.domain.swap import Outpoint, Pending
from lnliquid.store.database import Transaction
from lnliquid.store.tables import PENDING, OutpointRow, OwnTxRow

_LIVE = col(OutpointRow.live).is_(True)
_OUTPOINT = (col(OutpointRow.txid), col(OutpointRow.vout))


def bind_outpoints(tx: Transaction, outpoints: Iterable[Outpoint], owner_txid: str) -> None:
    """Give outpoints to a transaction of ours, whether the wallet has them or not.

    Those that it has already stay. The UNIQUE index refuses a coin that another live transaction
    has (money rule 2).
    """
    has = select(*_OUTPOINT).where(_LIVE, col(OutpointRow.owner_txid) == owner_txid)
    known = {Outpoint(txid, vout) for txid, vout in tx.execute(has)}
    new = [o for o in outpoints if o not in known]
    tx.add_all([OutpointRow(txid=o.txid, vout=o.vout, owner_txid=owner_txid) for o in new])
    tx.flush()


def take_outpoints(tx: Transaction, outpoints: Collection[Outpoint], owner_txid: str) -> None:
    """Give outpoints to the transaction that the chain shows to spend them.

    What else was to spend one of them cannot confirm beside it, and will be found dead.
    """
    of_these = col(OutpointRow.txid).in_({o.txid for o in outpoints})
    for row in tx.scalars(select(OutpointRow).where(_LIVE, of_these)).all():
        if Outpoint(row.txid, row.vout) in outpoints and row.owner_txid != owner_txid:
            row.live = False
    tx.flush()
    bind_outpoints(tx, outpoints, owner_txid)


def keep_outpoints(tx: Transaction, owner_txid: str, spent: Collection[Outpoint]) -> None:
    """Free what a buried transaction was bound to and does not spend, as older versions did."""
    owned = col(OutpointRow.owner_txid) == owner_txid
    for row in tx.scalars(select(OutpointRow).where(_LIVE, owned)).all():
        row.live = Outpoint(row.txid, row.vout) in spent
    tx.flush()


def free_outpoints(tx: Transaction, owner_txid: str) -> None:
    """Take the coins of a transaction that can no longer confirm away from it."""
    tx.execute(
        update(OutpointRow).where(col(OutpointRow.owner_txid) == owner_txid).values(live=False)
    )


def bound_outpoints(
    tx: Transaction, outpoints: Iterable[Outpoint], but_by: str = ""
) -> set[Outpoint]:
    """Those of these outpoints that a live transaction of ours, another than this one, spends."""
    wanted = set(outpoints)
    of_these = col(OutpointRow.txid).in_({o.txid for o in wanted})
    rows = tx.execute(
        select(*_OUTPOINT).where(_LIVE, col(OutpointRow.owner_txid) != but_by, of_these)
    )
    return wanted & {Outpoint(txid, vout) for txid, vout in rows}


def live_children(tx: Transaction, txid: str) -> set[str]:
    """Live transactions of ours that spend an output of this one."""
    spends = col(OutpointRow.txid) == txid
    return set(tx.scalars(select(col(OutpointRow.owner_txid)).where(_LIVE, spends)))


def pending_own_txs(tx: Transaction) -> list[Pending]:
    """Our transactions that are not in a block, each with those that it spends from."""
    rows = select(col(OwnTxRow.txid), col(OwnTxRow.vsize)).where(col(OwnTxRow.state).in_(PENDING))
    sizes: dict[str, int] = {str(txid): vsize for txid, vsize in tx.execute(rows)}
    parents: dict[str, set[str]] = {txid: set() for txid in sizes}
    edges = select(col(OutpointRow.owner_txid), col(OutpointRow.txid))
    for owner, parent in tx.execute(edges.where(_LIVE, col(OutpointRow.owner_txid).in_(sizes))):
        if parent in sizes:
            parents[owner].add(parent)
    return [Pending(txid, vsize, frozenset(parents[txid])) for txid, vsize in sizes.items()]
