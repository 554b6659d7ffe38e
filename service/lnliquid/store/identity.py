"""Whose database it is: fingerprint of the wallet, network, and a random id of the database."""

import secrets
from dataclasses import dataclass

from sqlalchemy import inspect, select
from sqlmodel import col

from lnliquid.domain.swap import Swap
from lnliquid.store.database import Transaction
from lnliquid.store.rows import swaps_where
from lnliquid.store.tables import CoinRow, IdentityRow, OwnTxRow

WALLET, NETWORK, DATABASE_ID = "wallet", "network", "database_id"


@dataclass(frozen=True, slots=True)
class OwnCoin:
    """A coin of the wallet in a transaction of ours, whose bytes show its script."""

    raw: bytes
    vout: int
    branch: int
    key_index: int


def stored(tx: Transaction) -> dict[str, str]:
    """What is known, by name. Empty until `put`, and in a database of an older program."""
    if not inspect(tx.connection()).has_table(IdentityRow.__tablename__):
        return {}
    return {row.name: row.value for row in tx.scalars(select(IdentityRow))}


def put(tx: Transaction, wallet: str, network: str) -> None:
    """Store it, once, with a new id for the database."""
    values = {WALLET: wallet, NETWORK: network, DATABASE_ID: secrets.token_hex(16)}
    tx.add_all(IdentityRow(name=name, value=value) for name, value in values.items())


def first_swap(tx: Transaction) -> Swap | None:
    """The swap with the lowest key index: the wallet that made it made the database."""
    return next(iter(swaps_where(tx, limit=1)), None)


def own_coin(tx: Transaction) -> OwnCoin | None:
    """Any coin that a transaction of ours made, None when there is none."""
    made = select(
        col(OwnTxRow.raw), col(CoinRow.vout), col(CoinRow.branch), col(CoinRow.key_index)
    ).where(col(OwnTxRow.txid) == col(CoinRow.txid))
    row = tx.execute(made.order_by(col(OwnTxRow.created_at)).limit(1)).first()
    return None if row is None else OwnCoin(*row)
