"""A client that hangs up at any moment of CreateSwap leaves nothing half done.

The store and the backends hand over to others before and after everything they do, and nothing runs
in threads but the funder's planning, so that every turn of the event loop is a moment of its own.
`CreateSwap` is cancelled at each of them, and so at each of its awaits.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from types import CoroutineType, FrameType
from typing import Any, TypeVar

import pytest

from lnliquid.config import Settings
from lnliquid.domain.ports import NodeInfo
from lnliquid.domain.swap import Request, State, Swap, Tip
from lnliquid.seller.create import Seller
from lnliquid.seller.readiness import Readiness
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction

from ..builders import (
    ASSET,
    SELLER,
    Spenders,
    StillClock,
    count_rows,
    make_request,
    migrated,
    put_coins,
    settings_values,
    wallet_coin,
)
from ..fakes import FakeChain, FakeLightning

T = TypeVar("T")

TURNS = 60
"""More than CreateSwap takes to get to where it waits for the block."""
LANES = 4
DEADLINE_SECS = 10


class SteppingDatabase(Database):
    """Works in the caller's own turn, with a turn for others before and after."""

    async def _write(self, work: Callable[[Transaction], T], kind: str) -> T:
        """See `Database`."""
        await asyncio.sleep(0)
        future: Future[T] = Future()
        self._commit([(work, future, kind)])
        await asyncio.sleep(0)
        return future.result()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        await asyncio.sleep(0)
        result = self._read(work)
        await asyncio.sleep(0)
        return result


class SteppingChain(FakeChain):
    """Takes a turn to tell the tip."""

    async def tip(self) -> Tip:
        """As set."""
        await asyncio.sleep(0)
        return await super().tip()


class SteppingLightning(FakeLightning):
    """Takes a turn to answer."""

    async def info(self) -> NodeInfo:
        """A node."""
        await asyncio.sleep(0)
        return await super().info()


class World:
    """A seller with a funder that only works when it is woken."""

    def __init__(self, folder: Path) -> None:
        # The funder's timer must not hide a wake-up that was lost.
        self.settings = Settings(
            **settings_values(folder, create_wait_secs=60, poll_interval_secs=600)
        )
        self.database = SteppingDatabase(migrated(self.settings.database), StillClock())
        self.chain = SteppingChain()
        parts = Spenders(self.database, self.chain, self.settings)
        self.funder, self.notices = parts.funder, parts.notices
        self.readiness = (self.database, self.chain, SteppingLightning(), parts.inventory)
        self.funding: asyncio.Task[None] | None = None

    def seller(self) -> Seller:
        """One that has not asked Lightning yet."""
        readiness = Readiness(*self.readiness, self.settings, StillClock())
        # It looks at no path: that takes a thread, and turns would depend on the machine.
        readiness._looked_at = float("inf")
        return Seller(self.database, readiness, self.funder, SELLER, self.settings, self.notices)

    async def look(self, request: Request) -> Swap | None:
        """The swap of a request, as stored."""
        return await self.database.read(lambda s: swap_store.swap_of_request(s, request))

    def _may_act(self, task: "asyncio.Task[Any]") -> bool:
        waits_for_event = "Event.wait" in repr(task.get_coro())  # of the funder
        return not (waits_for_event or task in (asyncio.current_task(), self.funding))

    async def still(self) -> None:
        """Wait until nothing but the funder is left that could do anything."""
        async with asyncio.timeout(DEADLINE_SECS):
            while any(map(self._may_act, asyncio.all_tasks())):  # noqa: ASYNC110  # has no event
                await asyncio.sleep(0)

    async def funded(self, request: Request) -> Swap:
        """Wait until the swap has its funding."""
        async with asyncio.timeout(DEADLINE_SECS):
            while True:
                swap = await self.look(request)
                if swap is not None and swap.funding_txid is not None:
                    return swap


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Coins for many fundings, and the funder idle."""
    world = World(tmp_path)
    coins = [
        coin
        for lane in range(LANES)
        for coin in (wallet_coin(2 * lane, 100_000, ASSET), wallet_coin(2 * lane + 1, 100_000))
    ]
    await world.database.write(lambda s: put_coins(s, coins))
    world.notices.caught_up.set()
    world.funding = asyncio.create_task(world.funder.run())
    for _ in range(TURNS):  # it looks once when it starts
        await asyncio.sleep(0)
    yield world
    world.funding.cancel()
    await asyncio.gather(world.funding, return_exceptions=True)
    world.database.close()


def places(task: "asyncio.Task[Swap]") -> set[str]:
    """The lines of `seller.create` that a task is at, outermost to innermost."""
    found = set()
    step: Any = task.get_coro()
    while isinstance(step, CoroutineType):
        frame: FrameType | None = step.cr_frame
        if frame is not None and frame.f_globals["__name__"] == Seller.__module__:
            lines, first = inspect.getsourcelines(frame.f_code)
            found.add(lines[frame.f_lineno - first].strip())
        step = step.cr_await
    return found


def awaits() -> set[str]:
    """The lines of CreateSwap that wait for something; the tip is at hand, so it is not one."""
    source = inspect.getsource(Seller.create_swap) + inspect.getsource(Seller._until_payable)
    lines = {line.strip() for line in source.splitlines() if "await " in line}
    return lines - {"if await self._is_answer(swap):"}


async def test_create_swap_cancelled_at_every_moment(world: World) -> None:
    """No row, or one swap that gets funded without being asked for again; then it is this swap."""
    outcomes, reached = [], set()
    for turns in range(TURNS):
        request = make_request(turns)
        before = await world.database.read(count_rows)
        task = asyncio.create_task(world.seller().create_swap(request))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not task.done()
        reached |= places(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await world.still()
        made = await world.look(request)
        after = await world.database.read(count_rows)
        for table in ("swap", "event"):
            assert after[table] - before[table] == (made is not None), table
        outcomes.append(made is not None)
        if made is not None:
            assert (await world.funded(request)).swap_id == made.swap_id
        again = asyncio.create_task(world.seller().create_swap(request))
        swap = await world.funded(request)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        assert made is None or swap.swap_id == made.swap_id
        rows = await world.database.read(count_rows)
        assert rows["swap"] == turns + 1
        assert await world.database.read(lambda s: swap_store.waiting(s, 9)) == []
        assert world.notices._waiting == {}
    assert outcomes == sorted(outcomes), "once it is made it stays made"
    assert set(outcomes) == {True, False}
    assert awaits() <= reached


async def test_a_repeated_create_swap_cancelled_at_every_moment(world: World) -> None:
    """It changes nothing, and the next one is told the same swap."""
    request = make_request()
    first = asyncio.create_task(world.seller().create_swap(request))
    swap = await world.funded(request)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    rows = await world.database.read(count_rows)
    for turns in range(TURNS):
        task = asyncio.create_task(world.seller().create_swap(request))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await world.still()
        assert await world.database.read(count_rows) == rows
        assert await world.look(request) == swap
        assert swap.state is State.CREATED
