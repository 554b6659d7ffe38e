"""Sales from the request to the end, one after another, and what the daemon holds of them."""

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.open_swaps import Crowd, rounds
from bench.world import ChainClient, World, world
from lnliquid.watchers.observe import REORG_BLOCKS

SALES, EARLY = 5_000, 500
A_FUNDING = 10
TARGET = 1.1


async def measure(folder: Path) -> list[Figure]:
    """What is held and watched after many sales against after the first of them."""
    async with shop(folder) as made:
        await made.sell(EARLY // A_FUNDING, A_FUNDING)
        early = made.held()
        await made.sell((SALES - EARLY) // A_FUNDING, A_FUNDING)
        late = made.held()
    watched = ChainClient.__name__ + "._scripts"
    return [
        Figure(
            f"{name} after {SALES:,} sales",
            "",
            sum(late[key] for key in keys),
            sum(early[key] for key in keys),
            f"after {EARLY}",
            TARGET,
            at_most=True,
        )
        for name, keys in (("scripts watched", {watched}), ("entries in memory", late.keys()))
    ]


class Shop:
    """A seller whose buyers claim as soon as they can."""

    def __init__(self, seller: World) -> None:
        self.seller = seller
        self.buyers = Crowd(seller, [], [], [], [])
        self._numbers = count()

    async def sell(self, fundings: int, swaps_each: int = 1) -> None:
        """So many fundings, one a block; each swap of theirs is claimed in the next block."""
        for _ in range(fundings):
            await self.seller.create([next(self._numbers) for _ in range(swaps_each)])
            await self.seller.funder.fund_waiting()
            await self._block()
        for _ in range(REORG_BLOCKS):
            await self._block()
        assert not self.seller.watcher.swaps, "all are final"

    async def _block(self) -> None:
        self.buyers.mine()
        await rounds(self.seller)
        self.buyers.claim(self.buyers.waiting_for_payment())
        await rounds(self.seller)

    def held(self) -> Counter[str]:
        """Entries of every container in the daemon's memory, by class and attribute."""
        return entries(self.seller.watcher, self.seller.seller, self.seller.client)


@asynccontextmanager
async def shop(folder: Path, **settings: Any) -> AsyncIterator[Shop]:
    """A seller that has sold nothing yet."""
    async with world(folder, **settings) as seller:
        yield Shop(seller)


def entries(*roots: object) -> Counter[str]:
    """Number of entries of each container that these objects hold, themselves or by others."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        holder = todo.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for name, value in vars(holder).items():
            if isinstance(value, dict | set | list | deque):
                found[f"{type(holder).__name__}.{name}"] += len(value)
            elif hasattr(value, "__dict__") and type(value).__module__.startswith("lnliquid."):
                todo.append(value)
    return found
