"""The daemon's database on a real file, with a full disk and deaths around each commit."""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, event

from lnliquid.errors import StoreFailure
from lnliquid.store.sqlite import Database, Transaction

from .clockwork import Life, SimClock

T = TypeVar("T")

_ENGINES: dict[str, Engine] = {}
"""Engines that every life shares: what SQLAlchemy compiled once is not compiled again."""
_file = Path()
"""The database that they connect to: one simulation runs at a time."""


@cache
def _empty_database() -> bytes:
    """A migrated database without rows: migrations take a quarter of a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.sqlite"
        Database(path, SimClock()).close()
        return path.read_bytes()


def _shared(name: str, fresh: Engine, path: Path) -> Engine:
    """The engine of this name, which connects to `path` from now on. Ends the fresh one."""
    global _file
    _file = path
    engine = _ENGINES.setdefault(name, fresh)
    if engine is not fresh:
        fresh.dispose()
        return engine

    @event.listens_for(engine, "do_connect")
    def _elsewhere(_dialect: object, _record: object, where: list[Any], _named: object) -> None:
        where[:] = [str(_file)]

    return engine


class Disk:
    """The disk that the database is on."""

    def __init__(self) -> None:
        self.full = False


class SimDatabase(Database):
    """Commits in the caller's own turn. `committed` is called right after each commit."""

    def __init__(
        self, path: Path, clock: SimClock, life: Life, disk: Disk, committed: Callable[[], None]
    ) -> None:
        if not path.exists():
            path.write_bytes(_empty_database())
        super().__init__(path, clock)
        self._engine = _shared("write", self._engine, path)
        self._read_engine = _shared("read", self._read_engine, path)
        self._life = life
        self._disk = disk
        self._on_commit = committed

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`. May die before the commit, or after it."""
        await self._life.pause("store.write")
        if self._disk.full:
            self.failed = True
            raise StoreFailure("database or disk is full")
        future: Future[T] = Future()
        self._commit([(work, future)])
        self._on_commit()
        await self._life.pause("store.written")
        return future.result()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        await self._life.pause("store.read")
        return await super().read(work)

    def look(self, work: Callable[[Transaction], T]) -> T:
        """Read for the simulation itself: no pause, no death."""
        return self._read(work)
