"""What the store's statements cost does not grow with the sales that are over.

Counted are steps of SQLite's virtual machine, which are the same on any machine.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from bench.history import a_round, grow_old, t1
from bench.world import World, world
from lnliquid.store import queries
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Transaction

FEW, MANY = 30, 3_000
COUNTS_ALL = "GROUP BY swap.state"
"""The one statement that reads an entry of an index for each sale; the live views ask for it."""
SLACK_STEPS = 60
"""A few rows more or less, of what is live, or of a table's own depth."""


@asynccontextmanager
async def counted() -> AsyncIterator[Counter[str]]:
    """Steps by statement, of all databases, from here on to the end."""
    steps: Counter[str] = Counter()
    running: dict[int, str] = {}

    def before(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        driver = connection.connection.driver_connection
        running[id(driver)] = statement
        driver.set_progress_handler(lambda: steps.update([running[id(driver)]]), 1)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield steps
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def other_reads(tx: Transaction) -> None:
    """What is read of the store beside rounds, reservations and fundings."""
    queries.counts(tx)
    swap_store.final_fundings(tx, {"a", "b"})
    tx_store.superseded(tx, {"a", "b"})
    queries.locked(tx)
    queries.next_to_refund(tx, 10)
    queries.newest_events(tx, 0, 10)
    queries.funding_secs(tx, queries.last_event(tx) - 5, queries.last_event(tx))
    for txid in tx_store.known(tx, {"f" * 64}) or {"f" * 64}:
        tx_store.versions(tx, txid)


async def one_of_each(seller: World) -> None:
    """T1, a funding, rounds over new blocks, and one with a transaction that could not be read."""
    await t1(seller, 1)
    await seller.funder.fund_waiting()
    await a_round(seller, 1)
    [swap] = seller.watcher.swaps.values()
    unread = {swap.funding_txid or ""}
    await seller.database.write(lambda tx: tx_store.set_unread(tx, unread))
    await a_round(seller, 2)
    await seller.database.read(other_reads)


async def test_no_statement_reads_all_that_ever_was(tmp_path: Path) -> None:
    """The same work after 30 sales and after 3,000: as many steps for each statement."""
    found: dict[int, Counter[str]] = {}
    for sales in (FEW, MANY):
        async with world(tmp_path / str(sales)) as seller:
            await grow_old(seller, sales)
            async with counted() as steps:
                await one_of_each(seller)
            found[sales] = steps
    assert len(found[FEW]) > 40
    grown = {
        " ".join(statement.split()): (found[FEW][statement], steps)
        for statement, steps in found[MANY].items()
        if steps > 1.2 * found[FEW][statement] + SLACK_STEPS and COUNTS_ALL not in statement
    }
    assert not grown
