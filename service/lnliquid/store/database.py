"""What is SQLite's own: opening, pragmas, file mode, and the one writer.

Group commit: writes that arrive while a commit is on its way to the disk go into the next
transaction together, each in a savepoint of its own, so that one refused write does not undo its
neighbours. A group that cannot be committed is divided, so that one write for which there is no
room fails alone. A write is reported done only after `COMMIT` with `synchronous=FULL` (rule 1).
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import structlog
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lnliquid.crashpoints import reach
from lnliquid.domain.errors import ReplicaFailure, SettingsError, StoreFailure
from lnliquid.domain.ports import Clock
from lnliquid.file_locks import is_in_place
from lnliquid.store import schema
from lnliquid.store.file_identity import FileIdentity, require_sound
from lnliquid.store.locks import database_file
from lnliquid.store.replica import COMMITS, LOG_BYTES, Replica, read_stamp, recorded
from lnliquid.store.tables import CursorRow
from lnliquid.store.write_failures import WriteFailures, kind_of
from lnliquid.threads import within

log = structlog.get_logger()

T = TypeVar("T")

READERS = 2
"""Threads that read at once, each with a connection that stays open."""
MAX_GROUP = 256
"""Writes in one transaction; bounds how long the first of them waits."""
DIVIDE_SECS = 5.0
"""For how long a group that failed is divided; those left then fail together."""
STALL_SECS = 3.0
"""A commit, or a read of a few rows, that takes longer stands still."""
CLOSE_SECS = 2.0
"""A database that takes longer to close is left as after a power cut."""
SPILL_PAGES = 10
"""Pages that SQLite keeps in memory at a rehearsal; what is more goes to the disk."""

Write = tuple[Callable[["Transaction"], Any], Future[Any], str]
"""What is to be written, who waits for it, and what kind of write it is. It may be run again after
a roll-back, so it changes nothing but rows."""
Outcome = tuple[Any, BaseException | None]
"""What a write returned, or why it was undone."""


class Transaction(Session):
    """A session inside one transaction. `now` is its one reading of the clock, unix seconds."""

    now: int


class _Stop: ...


class _NotBegun(Exception):
    """There was no transaction at all: to divide the group would help none of its writes."""


class _Rehearsed(Exception):
    """Rolls a rehearsal back."""


_COUNT = sqlite_insert(CursorRow).on_conflict_do_update(
    index_elements=["name"], set_={"value": sqlite_insert(CursorRow).excluded.value}
)


class Database:
    """One SQLite file with one writer thread. Methods are called on the event loop."""

    def __init__(self, path: Path, clock: Clock, replica: Path | None = None) -> None:
        """Open or make the file and its replica, and bring both up to date. `SettingsError`."""
        self._clock = clock
        self.commits = 0
        """Number of commits so far, each one an fsync."""
        self.failures = WriteFailures()
        """Kinds of writes that failed, as on a full disk, and did not succeed since."""
        self._busy_since: float | None = None
        """When the writer began with its present group, of a monotonic clock."""
        self.stamp: int | None = 0
        """Another one after each commit, None while one is on its way to the disk.

        For as long as it stays the same, what was read under it is what would be read again.
        """
        self._path = path
        self._file = database_file(path)
        self._engine = _engine(path, "BEGIN IMMEDIATE")
        self._read_engine = _engine(path, "BEGIN")
        self._statements = recorded(self._engine)
        self._replica: Replica | None = None
        self._identity: FileIdentity | None = None
        try:
            if replica is not None:
                self._replica = Replica(path, replica)
            require_sound(path, replica)
            schema.migrate(self._engine, path)
            stamp = read_stamp(path)
            self._counted = 0 if stamp is None else stamp.commits
            _open_all(self._engine, 1)
            _open_all(self._read_engine, READERS)
            self._identity = FileIdentity(path, self._file)
            if self._replica is not None:
                self._replica.start()
        except SQLAlchemyError as error:
            self._release()
            raise SettingsError((f"database {path} cannot be used: {_reason(error)}",)) from None
        except BaseException:
            self._release()
            raise
        self._queue: queue.SimpleQueue[Write | _Stop] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._attempts = 0
        self._is_closed_by_failure = False
        """True once the writer's first connection has ended with a failed commit."""
        self._closed = ""
        """Why no more can be read or written, empty while it can."""
        self._writer = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._writer.start()

    @property
    def failed(self) -> bool:
        """True while some kind of write failed and did not succeed since."""
        return self.failures.reason is not None

    @property
    def stalled_secs(self) -> float:
        """For how long the present commit has stood still, 0 when it does not."""
        began = self._busy_since
        secs = 0.0 if began is None else time.monotonic() - began
        return secs if secs > STALL_SECS else 0.0

    @property
    def replica_problem(self) -> str | None:
        """Why the replica lacks commits, None when it has all of them or there is to be none."""
        return None if self._replica is None else self._replica.failed

    def is_on_replica(self, tx: Transaction) -> bool:
        """True when all that `tx` can read is in the file, and on the replica if there is one.

        A reader sees a commit before the replica has it.
        """
        if self.file_problem is not None:
            return False
        if self._replica is None:
            return True
        row = tx.get(CursorRow, COMMITS)
        return self._replica.holds(0 if row is None else row.value)

    def require_replica(self) -> None:
        """Raise `ReplicaFailure` while the replica lacks commits, or the file is out of place."""
        if (problem := self.file_problem) is not None:
            raise ReplicaFailure(problem)
        if (problem := self.replica_problem) is not None:
            raise ReplicaFailure(f"the replica fails: {problem}")

    async def write(
        self, work: Callable[[Transaction], T], *, on_replica: bool = False, kind: str = ""
    ) -> T:
        """Run `work` in the next group and return its result once that is on the disk.

        It may be run again after a roll-back. `kind`: what a failure belongs to; by default the
        place in the program that `work` is from.

        A `SwapError` from `work` undoes this write only. Raises `StoreFailure` when it could not be
        committed, and with `on_replica` `ReplicaFailure` when the replica did not take it:
        it is in the database then. A caller that is cancelled does not undo what was queued.
        """
        result = await self._write(work, kind or kind_of(work))
        if on_replica:
            self.require_replica()
        return result

    async def _write(self, work: Callable[[Transaction], T], kind: str) -> T:
        self._require_open()
        future: Future[T] = Future()
        self._queue.put((work, future, kind))
        if self._closed:  # since it was looked at: the writer may have emptied the queue before
            self._refuse(self._queued(), self._closed)
        return await asyncio.shield(asyncio.wrap_future(future))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot. Raises `StoreFailure`."""
        self._require_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    async def rehearse(self) -> None:
        """Try each kind of write that failed again and roll it back: that counts as a success.

        Nothing else may try it, such as an order that is refused because of the failure. Raises
        `StoreFailure` for the first kind that still fails.
        """
        for kind, work in self.failures.open().items():
            await self.write(partial(_rehearsed, work=work), kind=kind)

    def close(self) -> None:
        """Finish what is queued and close the file. Calls from now on raise `StoreFailure`.

        A disk that hangs is not waited for: both files stay as a power cut would leave them.
        """
        if self._closed:
            return
        self._closed = "the database is closed"
        self._queue.put(_Stop())
        try:
            within(CLOSE_SECS, self._end, "store-close")
        except TimeoutError:
            log.warning("database not closed", path=str(self._path), reason="its disk hangs")

    def _end(self) -> None:
        self._writer.join()
        self._readers.shutdown()
        self._release()

    @property
    def file_problem(self) -> str | None:
        """Which file of the database was deleted or replaced, with what to do; None when none was.

        What is written now is lost with the process, but for the replica.
        """
        return None if self._identity is None else self._identity.problem()

    def content_problem(self) -> str | None:
        """As `file_problem`, read from the disk: a file may have been written over. It blocks."""
        commits = self._counted
        found = self.file_problem
        if found is None and self._identity is not None:
            found = self._identity.content_problem(commits)
        return found

    def _release(self) -> None:
        if self._replica is not None:
            self._replica.close()
        self._engine.dispose()
        self._read_engine.dispose()
        os.close(self._file)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreFailure(self._closed)

    def _read(self, work: Callable[[Transaction], T]) -> T:
        try:
            with Transaction(self._read_engine) as session:
                session.now = self._clock.now()
                return work(session)
        except SQLAlchemyError as error:
            raise StoreFailure(_reason(error)) from None

    def _run(self) -> None:
        is_last = False
        while not is_last:
            group: list[Write] = []
            try:
                is_last = self._next_group(group)
                self._busy_since = time.monotonic()
                if group:
                    self._commit(group)
            except BaseException as error:  # a defect; no write waits for ever, and others go on
                log.error("writer failed", reason=_reason(error), exc_info=error)
                for work, _, kind in group:
                    self.failures.note(kind, work, _reason(error))
                self._refuse(group, f"the writer failed: {_reason(error)}")
            finally:
                self._busy_since = None

    def _next_group(self, group: list[Write]) -> bool:
        """Wait for a write, take those behind it too. True when the database is to be closed."""
        while len(group) < MAX_GROUP:
            try:
                item = self._queue.get(block=not group)
            except queue.Empty:
                break
            if isinstance(item, _Stop):
                return True
            if item[1].set_running_or_notify_cancel():  # from here on it cannot be cancelled
                group.append(item)
        return False

    def _queued(self) -> Iterator[Write]:
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if not isinstance(item, _Stop):
                    yield item

    def _refuse(self, writes: Iterable[Write], reason: str) -> None:
        for _, future, _ in writes:
            if not future.done():
                future.set_exception(StoreFailure(reason))

    def _commit(self, group: Sequence[Write]) -> None:
        """Commit them together, or else those of them that can be, and tell each caller."""
        parts, until = [group], time.monotonic() + DIVIDE_SECS
        while parts:
            part = parts.pop()
            try:
                told = self._outcomes([work for work, _, _ in part])
                self.commits += 1
                for _, _, kind in part:
                    self.failures.forget(kind)
            except BaseException as error:
                is_store = isinstance(error, SQLAlchemyError | sqlite3.Error)
                if is_store and len(part) > 1 and time.monotonic() < until:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
                    continue
                for work, _, kind in part:
                    self.failures.note(kind, work, _reason(error))
                is_store |= isinstance(error, _NotBegun)
                # A refusal too was judged on rows of this group that are not there.
                told = [(None, StoreFailure(_reason(error)) if is_store else error)] * len(part)
            for (_, future, _), (result, problem) in zip(part, told, strict=True):
                if problem is None:
                    future.set_result(result)
                else:
                    future.set_exception(problem)

    def _outcomes(self, works: Sequence[Callable[[Transaction], Any]]) -> list[Outcome]:
        """The outcome of each. When it raises, nothing of them is in the database."""
        if self._is_closed_by_failure and not is_in_place(self._file, self._path):
            # A new connection would take another file for this one.
            raise sqlite3.OperationalError("the database file was deleted or replaced")
        connection = self._engine.connect()
        try:
            with Transaction(connection, expire_on_commit=False) as session:
                session.now = self._clock.now()
                try:
                    sqlite: Any = session.connection().connection.dbapi_connection
                except SQLAlchemyError as error:
                    raise _NotBegun from error
                before = sqlite.total_changes
                told = [_outcome(session, work) for work in works]
                if sqlite.total_changes == before:
                    self._statements.clear()
                if self._statements:
                    session.execute(_COUNT, {"name": COMMITS, "value": self._counted + 1})
                statements = tuple(self._statements)
                reach("commit.ready")
                self._attempts += 1
                self.stamp = None  # from here on a reader may see the new rows
                try:
                    session.commit()
                finally:
                    self.stamp = self._attempts
        except BaseException:
            # After a COMMIT that failed SQLite is still in the transaction. Should ROLLBACK fail
            # too, the transaction ends with the connection; the next group has a fresh one.
            with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                connection.connection.rollback()
            connection.invalidate()
            self._is_closed_by_failure = True
            raise
        finally:
            connection.close()
        reach("commit.stored")
        if statements:
            self._counted += 1
            if self._replica is not None:
                self._replica.take(self._counted, statements)
        reach("commit.copied")
        return told


def _outcome(session: Transaction, work: Callable[[Transaction], Any]) -> Outcome:
    try:
        with session.begin_nested():
            return work(session), None
    except SQLAlchemyError as error:
        if not _only_this_write(error):
            raise
        return None, StoreFailure(_reason(error))
    except StopIteration as error:
        return None, RuntimeError(f"a write raised {error!r}")  # no future can carry that
    except BaseException as error:
        return None, error


def _rehearsed(session: Transaction, work: Callable[[Transaction], Any]) -> None:
    """Do all of a write and keep nothing of it."""
    connection = session.connection()
    [[cache]] = connection.execute(text("PRAGMA cache_size"))
    connection.execute(text(f"PRAGMA cache_size = {SPILL_PAGES}"))
    try:
        with session.begin_nested():
            work(session)
            session.flush()
            raise _Rehearsed
    except SQLAlchemyError as error:
        if not _only_this_write(error):
            raise
    except Exception:  # noqa: S110  # a refusal too: that write is not wanted any more
        pass
    finally:
        with contextlib.suppress(SQLAlchemyError):
            connection.execute(text(f"PRAGMA cache_size = {cache}"))


def _only_this_write(error: SQLAlchemyError) -> bool:
    """True when only the savepoint failed (a constraint), not the whole transaction."""
    return isinstance(getattr(error, "orig", None), sqlite3.IntegrityError)


def _reason(error: BaseException) -> str:
    """SQLite's own words, without the statement and its values, which may be private.

    The first error counts: SQLite may end the transaction by itself, and then the roll-back to a
    savepoint fails too and would hide why.
    """
    first: BaseException | None = None
    here: BaseException | None = error
    while here is not None:
        first = here if isinstance(here, sqlite3.Error) else first
        here = here.__cause__ or here.__context__
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
            "temp_store = MEMORY",  # a full directory of temporary files stops no write
            f"journal_size_limit = {LOG_BYTES}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _open_all(engine: Engine, count: int) -> None:
    """Open as many connections as are used at once, which the pool keeps.

    So the log stays open too, and a file that is deleted can still be read and written.
    """
    opened = [engine.connect() for _ in range(count)]
    for connection in opened:
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master").all()
        connection.rollback()
        connection.close()


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
            current = schema.current_revision(session.connection())
            if current not in schema.known_revisions():
                raise SettingsError(
                    (f"database {path} has the schema {current}, which this program cannot read",)
                )
            return work(session)
    except SQLAlchemyError as error:
        raise StoreFailure(_reason(error)) from None
    finally:
        engine.dispose()


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
