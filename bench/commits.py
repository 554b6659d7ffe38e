"""How often a swap makes the disk wait, from its request to its invoice."""

import asyncio
from pathlib import Path

from sqlalchemy import text

from bench.figures import Figure
from bench.world import World, world
from lnliquid.domain.swap import State
from lnliquid.store.database import Transaction

SWAPS = 256
WAIT_SECS = 60.0

COUNT_STEPS = (
    "CREATE TABLE bench_step (swap_id TEXT)",
    "CREATE TRIGGER bench_made AFTER INSERT ON swap BEGIN "
    "INSERT INTO bench_step VALUES (new.swap_id); END",
    "CREATE TRIGGER bench_moved AFTER UPDATE ON swap BEGIN "
    "INSERT INTO bench_step VALUES (new.swap_id); END",
)
"""Each version of a swap's row is a step that could be committed alone: T1, T2, FUNDED, invoice."""


async def measure(folder: Path) -> list[Figure]:
    """Syncs of many swaps at once against one for each step of each swap."""
    async with world(folder, create_wait_secs=WAIT_SECS) as seller:
        await seller.database.write(count_steps)
        before = seller.database.commits
        fundings = await sell(seller)
        commits = seller.database.commits - before
        steps = await seller.database.read(
            lambda tx: tx.execute(text("SELECT count(*) FROM bench_step")).scalar_one()
        )
    return [
        Figure(
            f"fsyncs a swap, {SWAPS} at once",
            "",
            (commits + fundings) / SWAPS,
            (steps + SWAPS) / SWAPS,
            "each step committed alone",
            0.05,
            at_most=True,
        )
    ]


def count_steps(tx: Transaction) -> None:
    """Have the database count the steps of swaps."""
    for statement in COUNT_STEPS:
        tx.execute(text(statement))


async def sell(seller: World) -> int:
    """Bring all swaps to FUNDED with their invoices; returns the number of fundings."""
    running = [asyncio.create_task(seller.funder.run()), asyncio.create_task(seller.watcher.run())]
    try:
        async with asyncio.timeout(WAIT_SECS):
            buyers = [
                asyncio.create_task(seller.seller.create_swap(seller.request(number)))
                for number in range(SWAPS)
            ]
            fundings = await seller.all_sent(SWAPS)
            seller.chain.generate()
            for swap in await asyncio.gather(*buyers):
                assert swap.state is State.FUNDED
                assert swap.bolt11 is not None
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return fundings
