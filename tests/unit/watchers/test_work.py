"""Work that fails again and again is known to readiness, and goes on in smaller pieces."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from lnlab.wait import wait_for
from lnliquid.config import Settings
from lnliquid.domain.errors import BackendUnavailable, StoreFailure
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database

from ..builders import (
    Spenders,
    StillClock,
    make_request,
    migrated,
    new_swap,
    settings_values,
    stock,
)
from ..fakes import FakeChain

ORDERS = 12


class World:
    """A funder with waiting swaps, over a store that may have room for some of them only."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(**settings_values(folder, lanes=1))
        self.database = Database(migrated(self.settings.database), StillClock())
        self.chain = FakeChain()
        self.parts = Spenders(self.database, self.chain, self.settings)

    async def order(self, count: int) -> None:
        """T1 for so many."""
        await stock(self.database, asset=1_000_000, lbtc=1_000_000)
        for number in range(count):
            new = new_swap(make_request(number))
            await self.database.write(lambda s, n=new: swap_store.create(s, n))  # type: ignore[misc]

    async def room_for(self, swaps: int | None) -> None:
        """A funding of more swaps than that finds no room, by SQLite's own word."""
        most = 483 + 157 * ((swaps or 0) - 1) + 50
        forbid = (
            f"CREATE TRIGGER no_room BEFORE INSERT ON own_tx WHEN new.vsize > {most} "
            "BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END"
        )
        drop = "DROP TRIGGER IF EXISTS no_room"
        await self.database.write(lambda s: s.execute(text(drop)), kind="test")
        if swaps is not None:
            await self.database.write(lambda s: s.execute(text(forbid)), kind="test")

    async def waiting(self) -> int:
        """Swaps without a funding."""
        return len(await self.database.read(lambda s: swap_store.waiting(s, 999)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing is ordered."""
    made = World(tmp_path)
    yield made
    made.database.close()


async def test_a_burst_for_which_there_is_no_room_is_funded_in_parts(world: World) -> None:
    """Half as many after each failure; more again after each success."""
    await world.order(ORDERS)
    await world.room_for(3)
    fundings = failures = 0
    while await world.waiting():
        assert failures < 5
        try:
            fundings += await world.parts.funder.fund_waiting() > 0
        except StoreFailure:
            failures += 1
    assert fundings >= ORDERS // 3


async def test_fundings_that_fail_again_and_again_are_told_until_one_succeeds(
    world: World,
) -> None:
    """The loop itself counts; one failure, or two, are an accident."""
    await world.order(1)
    world.chain.broken = BackendUnavailable("electrum", "not connected")
    work = world.parts.inventory.work
    world.parts.notices.caught_up.set()
    running = asyncio.create_task(world.parts.funder.run())
    seen = set()

    def is_told() -> bool:
        seen.add(work.problem)
        world.parts.funder.wake()
        return work.problem is not None

    try:
        await wait_for(is_told, timeout_secs=20, message="it is told")
        assert seen == {None, "funding fails again and again: electrum: not connected"}
        assert world.chain.calls.count("tip") >= 3
        world.chain.broken = None
        await wait_for(lambda: not is_told(), timeout_secs=20, message="it is over")
        assert await world.waiting() == 0
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
