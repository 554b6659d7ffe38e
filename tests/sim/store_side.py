"""The daemon's database on a real file, with a full disk and deaths around each commit."""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, event

from lnliquid.domain.errors import StoreFailure
from lnliquid.store.database import Database, Transaction
from lnliquid.store.replica import Replica, ReplicaFailed, Statement

from .clockwork import Chance, Crash, Life, SimClock

T = TypeVar("T")

_ENGINES: dict[str, Engine] = {}
"""Engines that every life shares: what SQLAlchemy compiled once is not compiled again."""
_RECORDED: dict[Engine, list[Statement]] = {}
"""What the open transaction of each has changed."""
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
    """The disks: `full` is that of the database, `replica_full` that of its replica.

    `has_shown`: a write failed since the first of them is full.
    """

    def __init__(self) -> None:
        self.full = self.replica_full = self.has_shown = False

    def empty(self) -> None:
        """There is room again."""
        self.full = self.replica_full = self.has_shown = False


class SimReplica(Replica):
    """Works in the caller's own turn, so that replays agree. May die between the two commits."""

    def __init__(self, database: Path, path: Path, life: Life, disk: Disk, chance: Chance) -> None:
        self._life, self._disk, self._chance = life, disk, chance
        super().__init__(database, path)

    def start(self) -> None:
        """See `Replica`."""
        super().start()
        self._is_started = False  # its thread looks at nothing

    def heal(self) -> None:
        """What the thread does every second."""
        if self.failed is not None and not self._disk.replica_full:
            self.look()

    def _do(self, work: Callable[[], None], secs: float) -> None:
        if self._disk.replica_full:
            raise ReplicaFailed("database or disk is full")
        work()

    def take(self, number: int, statements: Sequence[Statement]) -> bool:
        """See `Replica`. Dies before it, when death is near."""
        if self._life.dies_in is not None and self._chance.happens(0.2, "between commits"):
            self._life.dead = True
            raise Crash("between commits")
        return super().take(number, statements)


class SimDatabase(Database):
    """Commits in the caller's own turn. `committed` is called right after each commit."""

    def __init__(
        self,
        path: Path,
        replica: Path,
        clock: SimClock,
        life: Life,
        disk: Disk,
        chance: Chance,
        committed: Callable[[], None],
    ) -> None:
        if not path.exists():
            path.write_bytes(_empty_database())
        copy = SimReplica(path, replica, life, disk, chance)
        super().__init__(path, clock)
        self._replica = copy
        copy.start()
        self._engine = _shared("write", self._engine, path)
        self._statements = _RECORDED.setdefault(self._engine, self._statements)
        self._read_engine = _shared("read", self._read_engine, path)
        self._identity = None  # with the engines the log is another one; no file changes hands here
        self._life = life
        self._disk = disk
        self._on_commit = committed

    async def _write(self, work: Callable[[Transaction], T], kind: str) -> T:
        """See `Database`. May die before the commit, or after it."""
        await self._life.pause("store.write")
        if self._disk.full:
            self._disk.has_shown = True
            self.failures.note(kind, work, "database or disk is full")
            raise StoreFailure("database or disk is full")
        future: Future[T] = Future()
        self._commit([(work, future, kind)])
        self._life.require()
        self._on_commit()
        await self._life.pause("store.written")
        return future.result()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        await self._life.pause("store.read")
        return await super().read(work)

    def heal(self) -> None:
        """Let a second pass for the replica."""
        assert isinstance(self._replica, SimReplica)
        self._replica.heal()

    def look(self, work: Callable[[Transaction], T]) -> T:
        """Read for the simulation itself: no pause, no death."""
        return self._read(work)
