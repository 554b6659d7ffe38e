"""Chain incidents: the chain went back by more than it was trusted not to (money rule 6).

The daemon keeps the ids of the blocks that it decided on. When another block stands where one of
them stood, the blocks from the fork on were replaced, while it ran or while it was down. A fork
that took the block of a final swap's spend is an incident: the swap is reopened, and sales stop
until the operator resumes them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Swap, Tip
from lnliquid.store import blocks as block_store
from lnliquid.store import coins as coin_store
from lnliquid.store.database import Database, Transaction
from lnliquid.watchers.chain_view import TipMoved
from lnliquid.watchers.family_store import revive
from lnliquid.watchers.transactions import CHECKED_HEIGHT
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

log = structlog.get_logger()

FILLED_A_BLOCK = 100
"""Ids of earlier blocks that are asked for at each new one, while some are missing."""
INCIDENT_HEIGHT, INCIDENT_SWAPS = "incident_height", "incident_swaps"
"""Cursors: lowest height of the replaced blocks, and how many swaps were reopened, since the
operator last resumed sales. Without an incident the height is `NO_INCIDENT`."""
NO_INCIDENT = -1


def pause_reason(session: Transaction) -> str | None:
    """Why a chain incident keeps new swaps away, None when none does."""
    height = coin_store.cursor(session, INCIDENT_HEIGHT, NO_INCIDENT)
    if height == NO_INCIDENT:
        return None
    swaps = coin_store.cursor(session, INCIDENT_SWAPS)
    return (
        f"paused after a chain incident: {_replaced(height)}, {swaps} finished "
        f"swap{'' if swaps == 1 else 's'} reopened"
    )


def pause(session: Transaction, fork_height: int, swaps: int) -> None:
    """Stop sales until the operator resumes them; adds to what an earlier incident took."""
    before = coin_store.cursor(session, INCIDENT_HEIGHT, NO_INCIDENT)
    height = fork_height if before == NO_INCIDENT else min(before, fork_height)
    coin_store.set_cursor(session, INCIDENT_HEIGHT, height)
    reopened = coin_store.cursor(session, INCIDENT_SWAPS) + swaps
    coin_store.set_cursor(session, INCIDENT_SWAPS, reopened)


def lift_pause(session: Transaction) -> None:
    """Sales may go on after the incident."""
    coin_store.set_cursor(session, INCIDENT_HEIGHT, NO_INCIDENT)
    coin_store.set_cursor(session, INCIDENT_SWAPS, 0)


def _replaced(fork_height: int) -> str:
    if fork_height == 0:
        return "more blocks than the daemon remembers were replaced"
    return f"blocks from height {fork_height} were replaced"


async def find_fork(
    remembered: Mapping[int, str],
    block_ids: Callable[[Sequence[int]], Awaitable[Mapping[int, str]]],
) -> int | None:
    """The height from which on remembered blocks may have been replaced, None when none was.

    It is the one above the highest remembered block that is still in the chain, so a block that
    is not remembered counts as replaced; 0 when no remembered one is left.
    """
    heights = sorted(remembered)
    if not heights:
        return None

    async def stands(height: int) -> bool:
        return (await block_ids([height]))[height] == remembered[height]

    if await stands(heights[-1]):
        return None
    standing, replaced = -1, len(heights) - 1  # a block stands only if all below it do
    while replaced - standing > 1:
        middle = (standing + replaced) // 2
        if await stands(heights[middle]):
            standing = middle
        else:
            replaced = middle
    return heights[standing] + 1 if standing >= 0 else 0


@dataclass(eq=False)
class ChainIncidents:
    """Compares the chain with the remembered blocks whenever the tip is another one."""

    _database: Database
    _chain: Chain
    _inventory: Inventory
    _notices: Notices
    _checked: Tip | None = field(default=None, init=False)

    async def check(self, tip: Tip) -> None:
        """Remember the blocks up to this tip, and undo what rests on blocks that were replaced.

        Nothing may become final under a tip before this. Raises `BackendError`, `StoreFailure`,
        and `TipMoved` when the tip is not in the chain any more.
        """
        if tip == self._checked:
            return
        known = await self._database.read(block_store.remembered)
        at_tip = {height: block_id for height, block_id in known.items() if height <= tip.height}
        fork_height = await find_fork(at_tip, self._chain.block_ids)
        if fork_height is not None:
            known = {height: known[height] for height in known if height < fork_height}
        # What is above a tip that went back is remembered still. Until it can be compared nothing
        # is added below it: a block of another chain would hide where that one forked.
        blocks: dict[int, str] = {}
        if tip.height > max(known, default=-1):
            blocks = await self._chain.block_ids(_missing(known, tip.height))
        if (blocks or fork_height is not None) and not await self._stands(tip):
            raise TipMoved  # else all that was read is of one chain, the tip's
        if tip.height > max(known, default=-1):
            blocks[tip.height] = tip.block_id
        if blocks or fork_height is not None:
            await self._store(blocks, fork_height)
        self._checked = tip

    async def _stands(self, tip: Tip) -> bool:
        return (await self._chain.block_ids([tip.height]))[tip.height] == tip.block_id

    async def _store(self, blocks: Mapping[int, str], fork_height: int | None) -> None:
        def store(session: Transaction) -> tuple[list[Swap], set[tuple[int, int]]]:
            swaps: list[Swap] = []
            addresses: set[tuple[int, int]] = set()
            if fork_height is not None:
                cause = f"reopened: {_replaced(fork_height)}"
                swaps, addresses = block_store.undo(session, fork_height, cause)
                revive(session, fork_height)
                # Our own transactions from there on are looked at, however deep they were.
                checked = coin_store.cursor(session, CHECKED_HEIGHT)
                coin_store.set_cursor(session, CHECKED_HEIGHT, min(checked, fork_height))
                # Until then nothing from there on is buried: the tip may be lower than it was.
                buried = coin_store.cursor(session, coin_store.BURIED_HEIGHT)
                coin_store.set_cursor(
                    session, coin_store.BURIED_HEIGHT, min(buried, fork_height - 1)
                )
                if swaps:
                    pause(session, fork_height, len(swaps))
            if blocks:
                block_store.remember(session, blocks)
            return swaps, addresses

        swaps, addresses = await self._database.write(store)
        if fork_height is None:
            return
        self._inventory.read_again(addresses)
        if not swaps:
            log.info("blocks replaced", from_height=fork_height)
            return
        log.error("chain incident: sales are paused", from_height=fork_height, swaps=len(swaps))
        for swap in swaps:
            log.error("finished swap reopened", **swap.ids, state=swap.state.name)
        self._notices.swaps_changed(swap.swap_id for swap in swaps)


def _missing(known: Mapping[int, str], tip_height: int) -> list[int]:
    """Heights below the tip whose blocks are to be remembered next, the newest first."""
    lowest = max(0, tip_height - block_store.KEPT + 1)
    missing = [h for h in range(tip_height - 1, lowest - 1, -1) if h not in known]
    return missing[:FILLED_A_BLOCK]
