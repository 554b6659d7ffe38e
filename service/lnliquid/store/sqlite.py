"""What is SQLite's own: opening, pragmas, file mode, migrations, and the one writer.

Group commit: writes that arrive while a commit is on its way to the disk go into the next
transaction together, each in a savepoint of its own, so that one refused write does not undo its
neighbours. A write is reported done only after `COMMIT` with `synchronous=FULL` (money rule 1).
"""

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lnliquid.errors import SettingsError, StoreFailure
from lnliquid.ports import Clock
from lnliquid.store.locks import database_file, is_in_place

T = TypeVar("T")

MAX_GROUP = 256
"""Writes in one transaction; bounds how long the first of them waits."""


class Transaction(Session):
    """A session inside one transaction. `now` is its one reading of the clock, unix seconds."""

    now: int


class _Stop: ...


class Database:
    """One SQLite file with one writer thread. Methods are called on the event loop."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open or make the file and bring it up to date. Raises `SettingsError`."""
        self._clock = clock
        self.commits = 0
        """Number of commits so far, each one an fsync."""
        self.failed = False
        """True after a commit that failed, as on a full disk, until one succeeds."""
        self.stamp: int | None = 0
        """Another one after each commit, None while one is on its way to the disk.

        For as long as it stays the same, what was read under it is what would be read again.
        """
        self._path = path
        self._file = database_file(path)
        self._engine = _engine(path, "BEGIN IMMEDIATE")
        self._read_engine = _engine(path, "BEGIN")
        try:
            _migrate(self._engine, path)
        except BaseException:
            self._release()
            raise
        self._queue: queue.SimpleQueue[tuple[Callable[[Transaction], Any], Future[Any]] | _Stop] = (
            queue.SimpleQueue()
        )
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-read")
        self._attempts = 0
        self._closed = False
        self._writer = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._writer.start()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in the next group and return its result once that is on the disk.

        A `SwapError` from `work` undoes this write only. Raises `StoreFailure` when the group could
        not be committed. A caller that is cancelled does not undo what was queued.
        """
        self._require_open()
        future: Future[T] = Future()
        self._queue.put((work, future))
        return await asyncio.shield(asyncio.wrap_future(future))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot. Raises `StoreFailure`."""
        self._require_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        """Finish what is queued and close the file. Calls from now on raise `StoreFailure`."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(_Stop())
        self._writer.join()
        self._readers.shutdown()
        self._release()

    def is_in_place(self) -> bool:
        """False when the file was deleted, moved or replaced: what is written now is lost."""
        return not self._closed and is_in_place(self._file, self._path)

    def _release(self) -> None:
        self._engine.dispose()
        self._read_engine.dispose()
        os.close(self._file)

    def _require_open(self) -> None:
        if self._closed:  # the writer is gone: a write would wait for ever
            raise StoreFailure("the database is closed")

    def _read(self, work: Callable[[Transaction], T]) -> T:
        try:
            with Transaction(self._read_engine) as session:
                session.now = self._clock.now()
                return work(session)
        except SQLAlchemyError as error:
            raise StoreFailure(_reason(error)) from None

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            group: list[tuple[Callable[[Transaction], Any], Future[Any]]] = []
            stopping = isinstance(first, _Stop)
            if not isinstance(first, _Stop):
                group.append(first)
            while len(group) < MAX_GROUP and not stopping:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if isinstance(item, _Stop):
                    stopping = True
                else:
                    group.append(item)
            if group:
                self._commit(group)
            if stopping:
                return

    def _commit(self, group: list[tuple[Callable[[Transaction], Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with Transaction(self._engine, expire_on_commit=False) as session:
                session.now = self._clock.now()
                for work, future in group:
                    try:
                        with session.begin_nested():
                            result = work(session)
                        done.append((future, result, None))
                    except SQLAlchemyError as error:
                        if not _only_this_write(error):
                            raise
                        done.append((future, None, StoreFailure(_reason(error))))
                    except Exception as error:
                        done.append((future, None, error))
                self._attempts += 1
                self.stamp = None  # from here on a reader may see the new rows
                try:
                    session.commit()
                finally:
                    self.stamp = self._attempts
            self.commits += 1
            self.failed = False
        except SQLAlchemyError as error:
            self.failed = True
            failure = StoreFailure(_reason(error))
            # A refusal too was judged on rows of this group that are not there.
            done = [(future, None, failure) for _, future in group]
        for future, result, problem in done:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)


def _only_this_write(error: SQLAlchemyError) -> bool:
    """True when only the savepoint failed (a constraint), not the whole transaction."""
    return isinstance(getattr(error, "orig", None), sqlite3.IntegrityError)


def _reason(error: SQLAlchemyError) -> str:
    """SQLite's own words, without the statement and its values, which may be private.

    The first error counts: SQLite may end the transaction by itself, and then the roll-back to a
    savepoint fails too and would hide why.
    """
    first: BaseException | None = None
    here: BaseException | None = error
    while here is not None:
        first = here if isinstance(here, sqlite3.Error) else first
        here = here.__context__
    return str(first or type(error).__name__)


def _engine(path: Path, begin: str) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not open transactions by itself: we say BEGIN, also for migrations.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout = 5000",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "checkin")
    def _end_transaction(connection: sqlite3.Connection | None, _record: object) -> None:
        # After a COMMIT that failed SQLAlchemy takes the transaction for ended; SQLite does not,
        # and no later one could begin.
        if connection is not None and connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _migrate(engine: Engine, path: Path) -> None:
    known = _known_revisions()
    try:
        with engine.connect() as connection:
            current = _current_revision(connection)
        if current == max(known):
            return
        if current is not None and current not in known:
            raise SettingsError(
                (
                    f"database {path} was written by a newer program (its schema is {current}, "
                    f"the newest known here is {max(known)}); start the newer program, or restore "
                    "a backup that belongs to this one",
                )
            )
        _upgrade(engine, path)
    except SQLAlchemyError as error:
        raise SettingsError((f"database {path} cannot be used: {_reason(error)}",)) from None


def _upgrade(engine: Engine, path: Path) -> None:
    # Alembic takes a quarter of a second to load, and most starts have nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError((f"database {path} cannot be migrated: {error}",)) from None


def _migrations() -> Traversable:
    return files("lnliquid.store") / "migrations"


def _known_revisions() -> set[str]:
    """Each migration's file is named by its revision: `0001_initial_tables.py`."""
    names = (file.name for file in (_migrations() / "versions").iterdir())
    return {name.partition("_")[0] for name in names if name.endswith(".py")}


def _current_revision(connection: Connection) -> str | None:
    """What Alembic noted in the file, None in one that it has not seen."""
    noted = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.exec_driver_sql(noted).first() is None:
        return None
    revisions = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars()
    # More than one is no work of ours; together they are none that is known.
    return ", ".join(sorted(revisions)) or None


def read_file(path: Path, work: Callable[[Transaction], T]) -> T:
    """Run `work` on a snapshot of a database that a daemon may be using; nothing is changed.

    The transaction has no `now`. Raises `SettingsError` when the file is not this program's, and
    `StoreFailure` when it cannot be read.
    """
    if not path.is_file():
        raise SettingsError((f"there is no database {path}",))
    engine = create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true")
    try:
        with Transaction(engine) as session:
            current = _current_revision(session.connection())
            if current not in _known_revisions():
                raise SettingsError(
                    (f"database {path} has the schema {current}, which this program cannot read",)
                )
            return work(session)
    except SQLAlchemyError as error:
        raise StoreFailure(_reason(error)) from None
    finally:
        engine.dispose()


def schema_revision(session: Transaction) -> str:
    """The migration that a database is at."""
    return str(_current_revision(session.connection()))


def copy_file(source: Path, target: Path, *, busy_attempts: int = 20) -> None:
    """Copy a database that a daemon may be writing into `target`, an empty file, and check it.

    The copy is one moment of the source, whole transactions only (SQLite's online backup, in one
    step), and one file: no `-wal` belongs to it. The source is not changed and its writer does not
    wait. Raises `StoreFailure`, also when another process keeps the source locked for that many
    attempts, 0.25 s each; `target` is worthless then. Syncing it is the caller's work.
    """
    attempts = 0

    def still_busy(_status: int, _remaining: int, _total: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > busy_attempts:
            raise StoreFailure("the database stays locked by another process")

    try:
        with (
            closing(
                sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, timeout=0)
            ) as original,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            original.backup(copy, progress=still_busy)
            copy.execute("PRAGMA journal_mode = DELETE")
            problems = [str(row[0]) for row in copy.execute("PRAGMA integrity_check")]
            problems = [] if problems == ["ok"] else problems
            problems += [
                f"a row of {row[0]} refers to a row of {row[2]} that is not there"
                for row in copy.execute("PRAGMA foreign_key_check")
            ]
    except sqlite3.Error as error:
        raise StoreFailure(str(error)) from None
    if problems:
        raise StoreFailure(f"the copy is damaged, and so is the source: {'; '.join(problems[:5])}")
