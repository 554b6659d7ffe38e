"""The wallet's coins and what of them is spoken for.

A coin is *spendable* when no transaction is known to spend it, no live transaction of ours has it
as an input, and it is sure to stay. What can be reserved is the sum of the spendable coins, and of
those that just were signed, less the amounts of the swaps that wait for funding.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Update,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlmodel import col

from lnliquid.domain.swap import Coin, Outpoint
from lnliquid.store.database import Transaction
from lnliquid.store.outpoints import bind_outpoints as bind_outpoints
from lnliquid.store.outpoints import bound_outpoints as bound_outpoints
from lnliquid.store.outpoints import free_outpoints as free_outpoints
from lnliquid.store.outpoints import keep_outpoints as keep_outpoints
from lnliquid.store.outpoints import live_children as live_children
from lnliquid.store.outpoints import pending_own_txs as pending_own_txs
from lnliquid.store.outpoints import take_outpoints as take_outpoints
from lnliquid.store.rows import WAITING
from lnliquid.store.tables import (
    LIVING,
    CoinRow,
    CursorRow,
    OutpointRow,
    OwnTxRow,
    Purpose,
    SwapRow,
    TxState,
)


class CoinsGone(Exception):
    """A coin was to be bound that may not be spent any more: nothing of the write is there."""


@dataclass(frozen=True, slots=True)
class SeenCoin:
    """A wallet output as the chain shows it now, with what spends it."""

    outpoint: Outpoint
    asset_id: str
    value: int
    height: int | None
    spent_txid: str | None
    spent_height: int | None


def _bound() -> ColumnElement[bool]:
    return exists().where(
        col(OutpointRow.txid) == col(CoinRow.txid),
        col(OutpointRow.vout) == col(CoinRow.vout),
        col(OutpointRow.live).is_(True),
    )


BURIED_HEIGHT = "buried_height"
"""Cursor: what is in a block of this height or below has `final_confs` confirmations."""

_NODE_HAS = (TxState.ACCEPTED, TxState.CONFIRMED)
_OF_WALLET_COINS = [int(p) for p in (Purpose.FUNDING, Purpose.LANES, Purpose.WITHDRAWAL)]


def _spendable(of_ours: Collection[TxState] = _NODE_HAS) -> ColumnElement[bool]:
    """Unspent, not bound, and sure to stay: buried, or made by a transaction of ours.

    A deposit may be undone by its sender until it is buried; what is built on it would die with it.
    A refund of ours may lose against a claim until it is in a block. What spends nothing but the
    wallet's coins counts in the states `of_ours`: nothing is built on what the node has not taken.
    """
    of_purpose = col(OwnTxRow.purpose).in_(_OF_WALLET_COINS)
    ours = exists().where(
        col(OwnTxRow.txid) == col(CoinRow.txid),
        (of_purpose & col(OwnTxRow.state).in_(of_ours))
        | ((col(OwnTxRow.purpose) == Purpose.REFUND) & (col(OwnTxRow.state) == TxState.CONFIRMED)),
    )
    buried = select(col(CursorRow.value)).where(col(CursorRow.name) == BURIED_HEIGHT)
    is_buried = col(CoinRow.height) <= buried.scalar_subquery()
    return col(CoinRow.spent_txid).is_(None) & ~_bound() & (is_buried | ours)


def available_coins(tx: Transaction) -> list[Coin]:
    """Coins that a new transaction may spend, confirmed ones first, largest first."""
    return [coin_of_row(row) for row in tx.execute(_available())]


def unsure_coins(tx: Transaction) -> list[Coin]:
    """Unspent coins that may be spent later: not buried yet, or of what no node has taken yet."""
    return [coin_of_row(row) for row in tx.execute(_unsure())]


# Statements are made once: that takes SQLAlchemy longer than SQLite to carry them out.


@cache
def _available() -> Select[Any]:
    return _largest_first(_spendable())


@cache
def _unsure() -> Select[Any]:
    ours = exists().where(col(OwnTxRow.txid) == col(CoinRow.txid), col(OwnTxRow.state).in_(LIVING))
    free = col(CoinRow.spent_txid).is_(None) & ~_bound()
    return _largest_first(free & (col(CoinRow.height).is_not(None) | ours) & ~_spendable())


def _largest_first(condition: ColumnElement[bool]) -> Select[Any]:
    order = (col(CoinRow.height).is_(None), col(CoinRow.value).desc())
    return select(*_COIN).where(condition).order_by(*order)


_COIN = [
    getattr(CoinRow, name)
    for name in ("txid", "vout", "asset_id", "value", "branch", "key_index", "height")
]


def coin_of_row(row: CoinRow | Row[Any]) -> Coin:
    """The domain's coin of a row."""
    return Coin(
        Outpoint(row.txid, row.vout), row.asset_id, row.value, row.branch, row.key_index, row.height
    )


def reservable(tx: Transaction, asset_id: str) -> int:
    """How much of an asset could be reserved now."""
    asset = {"asset": asset_id}
    return _sum(tx, _held(), asset) - _sum(tx, _reserved_asset(), asset)


def reservable_lbtc(tx: Transaction, policy_asset: str) -> int:
    """How much L-BTC could be reserved for subsidies and fees now, in sat."""
    return _sum(tx, _held(), {"asset": policy_asset}) - _sum(tx, _reserved_lbtc(), {})


def _sum(tx: Transaction, query: Select[Any], values: Mapping[str, str]) -> int:
    return int(tx.execute(query, values).scalar_one())


@cache
def _held() -> Select[Any]:
    # One that was signed a moment ago counts: its answer is under way. One that was refused may
    # never be, and with it what it pays back.
    spendable = _spendable((*_NODE_HAS, TxState.SIGNED))
    of_asset = col(CoinRow.asset_id) == bindparam("asset")
    return select(_total(CoinRow.value)).where(of_asset, spendable)


@cache
def _reserved_asset() -> Select[Any]:
    of_asset = col(SwapRow.asset_id) == bindparam("asset")
    return select(_total(SwapRow.asset_amount)).where(WAITING, of_asset)


@cache
def _reserved_lbtc() -> Select[Any]:
    return select(_total(SwapRow.subsidy_sats) + _total(SwapRow.fee_share_sats)).where(WAITING)


def _total(column: int) -> ColumnElement[int]:
    return func.coalesce(func.sum(col(column)), 0)


def bind_coins(tx: Transaction, coins: Iterable[Coin], owner_txid: str) -> None:
    """Give coins of the wallet, which were available when they were chosen, to a transaction.

    Raises `CoinsGone` when one is not any more: while the transaction was planned its own may
    have been given up, or a reorg have come, and what is built on it would never be.
    """
    wanted = {c.outpoint for c in coins}
    columns = col(CoinRow.txid), col(CoinRow.vout)
    of_these = col(CoinRow.txid).in_({o.txid for o in wanted})
    rows = tx.execute(select(*columns).where(_spendable(), of_these))
    gone = wanted - {Outpoint(txid, vout) for txid, vout in rows}
    if gone:
        raise CoinsGone(f"{min(gone)} is gone or spoken for")
    bind_outpoints(tx, wanted, owner_txid)


def add_own_coins(tx: Transaction, coins: Sequence[Coin]) -> None:
    """Record outputs of a transaction of ours that pay the wallet, before it is sent."""
    rows = [
        {
            "txid": c.outpoint.txid,
            "vout": c.outpoint.vout,
            "asset_id": c.asset_id,
            "value": c.value,
            "branch": c.branch,
            "key_index": c.index,
        }
        for c in coins
    ]
    if rows:
        tx.connection().execute(insert(CoinRow), rows)


def replace_script_coins(
    tx: Transaction, branch: int, index: int, seen: Sequence[SeenCoin]
) -> None:
    """Make the stored coins of one address what the chain shows.

    Coins that the chain does not show are dropped. Outputs of transactions of our own stay, as
    unconfirmed: those are sent until they confirm, and an abandoned one may come back.
    """
    # An address with thousands of coins is read anew with each one that comes, and all other
    # writes wait meanwhile: what is as it was costs one look, what changed one statement a kind.
    here = {"branch": branch, "key_index": index}
    shown = {coin.outpoint: _row_of(coin) | here for coin in seen}
    found = tx.execute(_of_script(), here).mappings()
    stored = {Outpoint(row["txid"], row["vout"]): dict(row) for row in found}
    gone = stored.keys() - shown.keys()
    kept = _kept(tx, {outpoint.txid for outpoint in gone}) if gone else set()
    unconfirmed = {"height": None, "spent_txid": None, "spent_height": None}
    shown |= {o: stored[o] | unconfirmed for o in gone if o.txid in kept}
    old = [{"of_txid": o.txid, "of_vout": o.vout} for o in stored if stored[o] != shown.get(o)]
    new = [row for outpoint, row in shown.items() if stored.get(outpoint) != row]
    connection = tx.connection()
    if old:
        this = col(CoinRow.txid) == bindparam("of_txid"), col(CoinRow.vout) == bindparam("of_vout")
        connection.execute(delete(CoinRow).where(*this), old)
    if new:
        connection.execute(insert(CoinRow), new)


@cache
def _of_script() -> Select[Any]:
    of_branch = col(CoinRow.branch) == bindparam("branch")
    of_index = col(CoinRow.key_index) == bindparam("key_index")
    spent = col(CoinRow.spent_txid), col(CoinRow.spent_height)
    return select(*_COIN, *spent).where(of_branch, of_index)


def _row_of(coin: SeenCoin) -> dict[str, Any]:
    return {
        "txid": coin.outpoint.txid,
        "vout": coin.outpoint.vout,
        "asset_id": coin.asset_id,
        "value": coin.value,
        "height": coin.height,
        "spent_txid": coin.spent_txid,
        "spent_height": coin.spent_height,
    }


def _kept(tx: Transaction, txids: set[str]) -> set[str]:
    """Those of these transactions that are to confirm, have, or were signed by us and abandoned."""
    state, purpose = col(OwnTxRow.state), col(OwnTxRow.purpose)
    abandoned = (state == TxState.ABANDONED) & (purpose != Purpose.DEPOSIT)
    here = col(OwnTxRow.txid).in_(txids)
    return set(tx.scalars(select(col(OwnTxRow.txid)).where(here, state.in_(LIVING) | abandoned)))


def paid_to(tx: Transaction, branch: int, limit: int) -> list[Coin]:
    """Coins of a branch, spent ones too; unconfirmed first, then newest first."""
    order = (col(CoinRow.height).is_not(None), col(CoinRow.height).desc(), col(CoinRow.txid))
    found = select(*_COIN).where(col(CoinRow.branch) == branch).order_by(*order).limit(limit)
    return [coin_of_row(row) for row in tx.execute(found)]


def coins_of(tx: Transaction, txids: set[str]) -> list[Coin]:
    """The wallet's outputs of these transactions, by output index."""
    of_these = select(*_COIN).where(col(CoinRow.txid).in_(txids))
    return [coin_of_row(row) for row in tx.execute(of_these.order_by(col(CoinRow.vout)))]


def move_coins(
    tx: Transaction, old_txid: str, new_txid: str, values: Mapping[int, int | None]
) -> None:
    """Let the wallet have the outputs of `new_txid` in the place of those of `old_txid`.

    Both pay the same scripts, output by output; `values` are those of the new one, by index.
    """
    there = {c.outpoint.vout for c in coins_of(tx, {new_txid})}
    moved = [
        replace(c, outpoint=Outpoint(new_txid, c.outpoint.vout), value=values[c.outpoint.vout] or 0)
        for c in coins_of(tx, {old_txid})
        if c.outpoint.vout not in there
    ]
    drop_coins_of(tx, old_txid)
    add_own_coins(tx, moved)


def drop_coins_of(tx: Transaction, txid: str) -> None:
    """Forget the wallet's outputs of a transaction."""
    tx.execute(delete(CoinRow).where(col(CoinRow.txid) == txid))


def addresses_with_coins(tx: Transaction, spent_above_height: int) -> list[tuple[int, int]]:
    """(branch, index) of every address that holds a coin, or may hold one again after a reorg."""
    spent_height = col(CoinRow.spent_height)
    rows = tx.execute(
        select(col(CoinRow.branch), col(CoinRow.key_index)).where(
            spent_height.is_(None) | (spent_height > spent_above_height)
        )
    )
    # Not DISTINCT: for that SQLite would walk all coins in the order of their addresses.
    return list({(int(b), int(i)) for b, i in rows})


def paid_addresses(tx: Transaction, branch: int) -> int:
    """One more than the highest index of this branch that a coin was ever seen at."""
    newest = select(func.max(col(CoinRow.key_index))).where(col(CoinRow.branch) == branch)
    found = tx.scalar(newest)
    return 0 if found is None else int(found) + 1


def last_spent_height(tx: Transaction) -> int:
    """Height of the newest block that is known to spend a coin, 0 when there is none."""
    return int(tx.scalar(select(func.max(col(CoinRow.spent_height)))) or 0)


def cursor(tx: Transaction, name: str, default: int = 0) -> int:
    """A named number."""
    value = tx.execute(_cursor(), {"of": name}).scalar()
    return default if value is None else int(value)


@cache
def _cursor() -> Select[Any]:
    return select(col(CursorRow.value)).where(col(CursorRow.name) == bindparam("of"))


def set_cursor(tx: Transaction, name: str, value: int) -> None:
    """Set a named number."""
    connection, values = tx.connection(), {"of": name, "value": value}
    if not connection.execute(_set_cursor(), values).rowcount:
        connection.execute(insert(CursorRow), {"name": name, "value": value})


@cache
def _set_cursor() -> Update:
    named = col(CursorRow.name) == bindparam("of")
    return update(CursorRow).where(named).values(value=bindparam("value"))


def take_indexes(tx: Transaction, name: str, first: int, count: int) -> None:
    """Mark derivation indexes as used. They were looked up as the next ones and must still be."""
    if cursor(tx, name) != first:
        raise RuntimeError(f"{name} moved on from {first} while a transaction was planned")
    set_cursor(tx, name, first + count)
