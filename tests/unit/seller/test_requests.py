"""`seller.requests`: a repeated request is answered from memory only while nothing is written."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import event

from lnliquid.domain.errors import RequestConflict
from lnliquid.domain.swap import State, Swap
from lnliquid.seller.requests import Requests
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction

from ..builders import StillClock, make_request, migrated, new_swap, stock

T = TypeVar("T")


class CountingDatabase(Database):
    """Counts its reads. `during_read` runs in each, after its snapshot was taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, StillClock())
        self.reads = 0
        self.during_read: Callable[[], None] | None = None

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        self.reads += 1

        def looked(session: Transaction) -> T:
            result = work(session)
            if self.during_read is not None:
                self.during_read()
            return result

        return await super().read(looked)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CountingDatabase]:
    """A fresh database."""
    made = CountingDatabase(migrated(tmp_path / "seller.sqlite"))
    yield made
    made.close()


async def created(database: Database, number: int = 0) -> Swap:
    """A new swap."""
    new = new_swap(make_request(number))
    swap, _ = await database.write(lambda s: swap_store.create(s, new))
    return swap


def note(session: Transaction) -> None:
    """A write that has nothing to do with any swap."""
    coin_store.set_cursor(session, "anything", 1)


async def test_a_repeated_request_needs_no_read(database: CountingDatabase) -> None:
    """Once is enough for as long as nothing is written."""
    await stock(database)
    swaps = [await created(database, number) for number in range(2)]
    requests = Requests(database)
    for _ in range(3):
        for number, swap in enumerate(swaps):
            assert await requests.swap_of(make_request(number)) == swap
    assert database.reads == 2


async def test_a_new_request_is_looked_up_each_time(database: CountingDatabase) -> None:
    """That there was none is never remembered."""
    requests = Requests(database)
    for reads in (1, 2):
        assert await requests.swap_of(make_request()) is None
        assert database.reads == reads


async def test_other_parameters_are_never_answered_from_memory(database: CountingDatabase) -> None:
    """The request id alone says nothing."""
    await stock(database)
    swap = await created(database)
    requests = Requests(database)
    assert await requests.swap_of(make_request()) == swap
    for _ in range(2):
        with pytest.raises(RequestConflict):
            await requests.swap_of(make_request(asset_amount=999))
    assert await requests.swap_of(make_request()) == swap


async def test_every_commit_makes_it_look_again(database: CountingDatabase) -> None:
    """Whatever was written; and what is then told is what was written."""
    await stock(database)
    swap = await created(database)
    requests = Requests(database)
    assert await requests.swap_of(make_request()) == swap
    await database.write(note)
    assert await requests.swap_of(make_request()) == swap
    assert database.reads == 2
    after = replace(swap, state=State.FAILED, finished=True)
    assert await database.write(lambda s: swap_store.save(s, swap, after))
    assert await requests.swap_of(make_request()) == after
    assert database.reads == 3


async def test_what_was_read_while_a_commit_came_is_not_remembered(
    database: CountingDatabase,
) -> None:
    """The read may have missed it."""
    await stock(database)
    swap = await created(database)
    requests = Requests(database)
    after = replace(swap, state=State.FAILED, finished=True)
    loop = asyncio.get_running_loop()

    def commit_meanwhile() -> None:
        database.during_read = None
        saving = database.write(lambda s: swap_store.save(s, swap, after))
        assert asyncio.run_coroutine_threadsafe(saving, loop).result(10)

    database.during_read = commit_meanwhile
    assert await requests.swap_of(make_request()) == swap  # the picture of when it asked
    assert await requests.swap_of(make_request()) == after


async def test_the_stamp_is_gone_while_a_commit_is_on_its_way(database: CountingDatabase) -> None:
    """From before the rows can be seen until the writer knows that they are there."""
    seen: list[int | None] = []
    before = database.stamp

    def look_at_commit(session: Transaction) -> None:
        note(session)
        seen.append(database.stamp)
        connection = session.connection()
        event.listen(connection, "commit", lambda _c: seen.append(database.stamp))

    await database.write(look_at_commit)
    assert seen == [before, None]
    assert database.stamp not in (None, before)
    await database.write(note)
    assert database.stamp not in (None, before)
