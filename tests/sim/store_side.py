"""The daemon's database on a real file, with a full disk and deaths around each commit."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from lnliquid.errors import StoreFailure
from lnliquid.store.sqlite import Database, Transaction

from .clockwork import Life, SimClock

T = TypeVar("T")


class Disk:
    """The disk that the database is on."""

    def __init__(self) -> None:
        self.full = False


class SimDatabase(Database):
    """Commits in the caller's own turn. `committed` is called right after each commit."""

    def __init__(
        self, path: Path, clock: SimClock, life: Life, disk: Disk, committed: Callable[[], None]
    ) -> None:
        super().__init__(path, clock)
        self._life = life
        self._disk = disk
        self._committed = committed

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`. May die before the commit, or after it."""
        await self._life.pause("store.write")
        if self._disk.full:
            self.failed = True
            raise StoreFailure("database or disk is full")
        future: Future[T] = Future()
        self._commit([(work, future)])
        self._committed()
        await self._life.pause("store.written")
        return future.result()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        await self._life.pause("store.read")
        return await super().read(work)

    def look(self, work: Callable[[Transaction], T]) -> T:
        """Read for the simulation itself: no pause, no death."""
        return self._read(work)
