"""The blocks that were seen, and what is undone when others take their place.

Every function works inside a transaction that the caller opened with `Database.write` or `.read`.
"""

from collections.abc import Mapping

from sqlalchemy import delete, insert, or_, select, update
from sqlmodel import col

from lnliquid.domain.swap import Swap
from lnliquid.store.database import Transaction
from lnliquid.store.rows import event_values, swaps_where
from lnliquid.store.tables import BlockRow, CoinRow, EventRow, SwapRow

KEPT = 5_000
"""Blocks below the tip whose ids are all kept: more than three days of Liquid blocks."""
MILESTONE = 1_000
"""Of the older ones each at a multiple of this height is kept, so that a fork is always found."""


def remembered(tx: Transaction) -> dict[int, str]:
    """The id of each block that is kept, by height."""
    rows = tx.execute(select(col(BlockRow.height), col(BlockRow.block_id)))
    return {int(height): str(block_id) for height, block_id in rows}


def remember(tx: Transaction, blocks: Mapping[int, str]) -> None:
    """Keep these blocks, of which none is kept yet, and drop those that are old by now."""
    tx.execute(
        insert(BlockRow), [{"height": h, "block_id": block_id} for h, block_id in blocks.items()]
    )
    tx.execute(
        delete(BlockRow).where(
            col(BlockRow.height) <= max(blocks) - KEPT, col(BlockRow.height) % MILESTONE != 0
        )
    )


def undo(tx: Transaction, fork_height: int, cause: str) -> tuple[list[Swap], set[tuple[int, int]]]:
    """Take back what rests on blocks from this height on: others have taken their place.

    Returns the swaps that were final by them and are reopened, each with an event, and the wallet
    addresses (branch, index) whose coins count as unconfirmed until they are read again.
    """
    tx.execute(delete(BlockRow).where(col(BlockRow.height) >= fork_height))
    undone = (col(SwapRow.finished).is_(True), col(SwapRow.final_height) >= fork_height)
    swaps = swaps_where(tx, *undone)
    if swaps:
        tx.execute(update(SwapRow).where(*undone).values(finished=False))
        tx.execute(
            insert(EventRow),
            [
                event_values(tx, s.swap_id, s.state, s.state, cause, s.spend_txid, None)
                for s in swaps
            ],
        )
    created, spent = col(CoinRow.height) >= fork_height, col(CoinRow.spent_height) >= fork_height
    rows = tx.execute(
        select(col(CoinRow.branch), col(CoinRow.key_index)).where(or_(created, spent)).distinct()
    )
    addresses = {(int(branch), int(index)) for branch, index in rows}
    tx.execute(update(CoinRow).where(created).values(height=None))
    tx.execute(update(CoinRow).where(spent).values(spent_height=None))
    return swaps, addresses
