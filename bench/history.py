"""A watcher's round and T1 after very many finished sales against the same after few.

The sales are rows only, as the daemon leaves them: one funding each, its change spent by the next.
"""

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlmodel import SQLModel

from bench.figures import Figure
from bench.sales import Shop
from bench.world import ASSET, BUYER_ADDRESS, World, world
from lnliquid.domain.swap import InvoiceMark, State
from lnliquid.liquid.keys import CHANGE
from lnliquid.liquid.networks import REGTEST
from lnliquid.store.creation import NEXT_SWAP
from lnliquid.store.tables import (
    CoinRow,
    EventRow,
    OutpointRow,
    OwnTxRow,
    Purpose,
    SwapRow,
    TxState,
)
from lnliquid.watchers.wallet import NEXT_INDEX

FEW, MANY = 300, 300_000
BURIED = 100
"""Blocks on the last of the sales; they came one a block, and the oldest all in the first."""
TURNS = 200
TARGET = 1.2


async def measure(folder: Path) -> list[Figure]:
    """Both, of two sellers in turns."""
    async with world(folder / "few") as few, world(folder / "many") as many:
        await grow_old(few, FEW)
        await grow_old(many, MANY)
        figures = []
        for name, work in (("a watcher's round at a new block", a_round), ("T1 of one swap", t1)):
            after_few, after_many = await in_turns(few, many, work)
            title, baseline = f"{name}, {MANY:,} sales ago", f"the same after {FEW}"
            figures.append(
                Figure(title, "ms", after_many, after_few, baseline, TARGET, at_most=True)
            )
        return figures


async def grow_old(seller: World, sales: int) -> None:
    """Give a seller one sale that is really on the chain, and so many that are long over."""
    seller.chain.generate(BURIED)
    top = seller.chain.tip_height
    seller.chain.generate(BURIED)
    await Shop(seller).sell(1)
    await asyncio.to_thread(fill, seller.settings.database, sales, top)
    await seller.watcher.round()


async def in_turns(
    few: World, many: World, work: Callable[[World, int], Awaitable[object]]
) -> tuple[float, float]:
    """Median time of a turn in ms, of both."""
    took: dict[str, list[float]] = {"few": [], "many": []}
    for number in range(TURNS):
        for name, seller in (("few", few), ("many", many)):
            began = time.perf_counter()
            await work(seller, number)
            took[name].append(time.perf_counter() - began)
    return 1000 * statistics.median(took["few"]), 1000 * statistics.median(took["many"])


async def a_round(seller: World, _number: int) -> None:
    """A round that loads everything and reads a new block."""
    seller.chain.generate()
    await seller.watcher.round()


async def t1(seller: World, number: int) -> None:
    """A reservation."""
    await seller.seller.create_swap(seller.request(1 + number))


SALES = """
CREATE TEMP TABLE sale AS
WITH RECURSIVE sale(i, scattered) AS (
    SELECT 1, 2654435761 UNION ALL
    SELECT i + 1, (i + 1) * 2654435761 % 4294967296 FROM sale WHERE i < :sales
)
SELECT i,
    printf('%08x-0000-4000-8a00-%012d', scattered, i) AS swap_id,
    printf('%08x-0000-4000-8b00-%012d', scattered, i) AS request_id,
    printf('%08x%056x', scattered, i) AS txid,
    printf('%08x%056x', (i + 1) * 2654435761 % 4294967296, i + 1) AS next_txid,
    randomblob(32) AS hash,
    max(1, :top - :sales + i) AS height
FROM sale
"""
"""One row a sale, with ids in no order, as they come. Sale 0 is the real one."""

SWAP = {
    "swap_id": "swap_id", "request_id": "request_id", "key_index": "i",
    "state": f"{int(State.CLAIMED)}", "asset_id": f"'{ASSET}'", "asset_amount": "1000",
    "subsidy_sats": "500", "total_price_msat": "3000", "max_total_price_msat": "3000",
    "min_funding_confs": "1", "max_ln_cltv_blocks": "100",
    "buyer_claim_address": f"'{BUYER_ADDRESS}'", "buyer_key_hash": "zeroblob(20)",
    "seller_key_hash": "zeroblob(20)", "payment_hash": "hash", "created_at": "1700000000",
    "refund_lock_height": "height + 500", "funding_txid": "txid", "asset_vout": "0",
    "subsidy_vout": "1", "bolt11": "hex(zeroblob(150))", "invoice_expires_at": "1700000000",
    "invoice_mark": f"{int(InvoiceMark.ASKED)}", "spend_txid": "next_txid", "finished": "1",
}  # fmt: skip
OWN_TX = {
    "txid": "txid", "purpose": f"{int(Purpose.FUNDING)}", "raw": "zeroblob(500)",
    "state": f"{int(TxState.CONFIRMED)}", "fee_sats": "50", "vsize": "480",
    "created_at": "1700000000", "signed_height": "height - 1", "height": "height",
}  # fmt: skip


def _event(before: State | None, after: State) -> dict[str, str]:
    start = "NULL" if before is None else f"{int(before)}"
    return {
        "swap_id": "swap_id", "from_state": start, "to_state": f"{int(after)}",
        "cause": "'long ago'", "txid": "txid", "height": "height", "at": "1700000000",
    }  # fmt: skip


def _coin(vout: int, asset: str) -> dict[str, str]:
    return {
        "txid": "txid", "vout": f"{vout}", "asset_id": f"'{asset}'", "value": "1000000",
        "branch": f"{CHANGE}", "key_index": f"2 * i + {vout}", "height": "height",
        "spent_txid": "next_txid", "spent_height": "height + 1",
    }  # fmt: skip


ROWS: list[tuple[type[SQLModel], dict[str, str]]] = [
    (OwnTxRow, OWN_TX),
    (SwapRow, SWAP),
    (EventRow, _event(None, State.CREATED)),
    (EventRow, _event(State.CREATED, State.FUNDED)),
    (EventRow, _event(State.FUNDED, State.CLAIMED)),
    (CoinRow, _coin(2, ASSET)),
    (CoinRow, _coin(3, REGTEST.policy_asset)),
    (OutpointRow, {"txid": "txid", "vout": "2", "owner_txid": "next_txid"}),
    (OutpointRow, {"txid": "txid", "vout": "3", "owner_txid": "next_txid"}),
]
"""What is stored of a sale: a row of this table, each column with what it is of the sale."""


def fill(database: Path, sales: int, top: int) -> None:
    """Store so many sales that are final, the last of them in block `top`.

    The chain knows nothing of them: none of their addresses is watched.
    """
    cursors = {NEXT_SWAP: sales + 1, NEXT_INDEX[CHANGE]: 2 * sales + 1_000}
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(SALES, {"sales": sales, "top": top})
        for table, values in ROWS:
            columns = _defaults(table) | values
            connection.execute(
                f"INSERT INTO {table.__tablename__} ({', '.join(columns)}) "  # noqa: S608  # ours
                f"SELECT {', '.join(columns.values())} FROM sale"
            )
        connection.executemany("INSERT OR REPLACE INTO cursor VALUES (?, ?)", cursors.items())
        connection.execute("COMMIT")


def _defaults(table: type[SQLModel]) -> dict[str, str]:
    """The defaults of the columns that must hold something."""
    columns = SQLModel.metadata.tables[str(table.__tablename__)].columns
    return {
        column.name: f"{int(column.default.arg)}"
        for column in columns
        if isinstance(column.default, ScalarElementColumnDefault)
    }
