"""The replica: a second SQLite file that gets every commit before the commit is reported.

Each group of writes is committed on the database first, then its statements are carried out on the
replica, and only then whoever waits is told. So the replica never is ahead of what this process
did, and everything that was acted on is in it. A replica that fails or does not answer in time is
left behind, said to have failed, and copied anew from the database as soon as it can be written.
"""

import contextlib
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from sqlalchemy import Engine, event

from lnliquid.domain.errors import SettingsError
from lnliquid.file_locks import Locked, is_in_place, locked
from lnliquid.store.paths import directory_refusal

log = structlog.get_logger()

COMMITS = "commits"
"""Cursor that counts the commits of a database; its replica has the same one."""
BACKUP = "backup_taken_at"
"""Cursor of a copy that `lnliquid backup` made, until `lnliquid restore` puts it in place."""
DEADLINE_SECS = 5.0
"""A commit that takes the replica longer has failed. What is late never holds up a refund."""
COMPARE_SECS = 60.0
"""How long the start waits to know how far the replica is: a disk may have to wake up first, and a
start on an older database would fund again."""
COPY_SECS = 10.0
"""How long the start waits for the first copy; a longer one is finished while the daemon runs."""
LOG_BYTES = 16 << 20
"""A longer log, as after a long backup, is cut to this as soon as it is all in the file."""
RETRY_SECS = 1.0
"""How often a failed replica is tried again, and an idle one looked at."""
LOOKS_PER_PROBE = 5
"""Every so many looks at an idle one it is tried whether its disk takes a byte."""

Statement = tuple[str, Any, int]
"""SQL, its parameters (a list of tuples for many), and how many rows it changed."""
Group = tuple[int, Sequence[Statement]]
"""The statements of a commit, and its number."""

MAX_MISSED = 10_000
"""Commits that are kept while the file is brought up to date."""
CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "WITH")


class ReplicaFailed(Exception):
    """Why the replica did not take a commit."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """How far a file is: id of the database, migration, and number of commits."""

    database_id: str | None
    revision: str | None
    commits: int
    last_event: tuple[int, str, int] | None = None
    """Number, swap and time of the newest event."""
    backup_taken_at: int | None = None


def recorded(engine: Engine) -> list[Statement]:
    """A list that holds what the engine's one open transaction may have changed, or the last one.

    Whether it did, SQLite's `total_changes` tells at its end.
    """
    statements: list[Statement] = []
    marks: list[int] = []
    """How many there were when each open savepoint began."""

    @event.listens_for(engine, "begin")
    def _begin(_connection: Any) -> None:
        statements.clear()
        marks.clear()

    @event.listens_for(engine, "after_cursor_execute")
    def _done(_c: Any, cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        # With RETURNING the rows are counted only when they have been fetched.
        if sql.lstrip().upper().startswith(CHANGES) and (cursor.rowcount or cursor.description):
            statements.append((sql, parameters, cursor.rowcount))

    @event.listens_for(engine, "savepoint")
    def _mark(_connection: Any, _name: str | None) -> None:
        marks.append(len(statements))

    @event.listens_for(engine, "release_savepoint")
    def _keep(_connection: Any, _name: str, _context: Any) -> None:
        marks.pop()

    @event.listens_for(engine, "rollback_savepoint")
    def _undo(_connection: Any, _name: str, _context: Any) -> None:
        del statements[marks.pop() :]

    return statements


def read_stamp(path: Path) -> Stamp | None:
    """How far a file is, None when it is missing or empty.

    Raises `sqlite3.Error` or `OSError` when it cannot be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is not a regular file")  # to open a pipe would wait for its writer
    if not found.st_size:
        return None
    with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
        return _stamp(connection)


def _stamp(connection: sqlite3.Connection) -> Stamp | None:
    names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    tables = {str(row[0]) for row in connection.execute(names)}
    if "swap" not in tables:
        return None

    def value(table: str, sql: str) -> Any:
        return next(iter(connection.execute(sql)), (None,))[0] if table in tables else None

    return Stamp(
        value("identity", "SELECT value FROM identity WHERE name = 'database_id'"),
        value("alembic_version", "SELECT version_num FROM alembic_version"),
        value("cursor", "SELECT value FROM cursor WHERE name = 'commits'") or 0,
        _last_event(connection),
        value("cursor", "SELECT value FROM cursor WHERE name = 'backup_taken_at'"),
    )


def _last_event(connection: sqlite3.Connection) -> tuple[int, str, int] | None:
    newest = "SELECT seq, swap_id, at FROM event ORDER BY seq DESC LIMIT 1"
    return next(iter(connection.execute(newest)), None)


def lacks(path: Path, other: Stamp) -> bool:
    """True when the database has not got the newest event of the other one.

    Two that went on from one copy, each by itself, may have counted the same number of commits.
    """
    if other.last_event is None:
        return False
    this = "SELECT 1 FROM event WHERE (seq, swap_id, at) = (?, ?, ?)"
    with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
        return connection.execute(this, other.last_event).fetchone() is None


def check_pair(database: Path, replica: Path) -> None:
    """Refuse a database that is not the newest copy of itself (`SettingsError`).

    A replica behind its database is no problem: it is brought up to date. Raises `sqlite3.Error`
    or `OSError` when the replica cannot be read.
    """
    try:
        there = read_stamp(database)
    except (sqlite3.Error, OSError) as error:
        raise SettingsError((f"the database {database} cannot be read: {error}",)) from None
    copied = read_stamp(replica)
    if there is not None and there.backup_taken_at is not None:
        raise SettingsError(
            (f"the database {database} is a backup that was not put in place by `restore`",),
            hint="move it elsewhere, then `lnliquid restore FILE`, which says what is missing",
        )
    # One that an older program filled has counted nothing yet.
    if copied is None or (there is None and not copied.commits and not copied.last_event):
        return
    hint = f"`lnliquid restore` puts the replica {replica} in its place"
    if there is None:
        raise SettingsError(
            (f"the database {database} is missing or empty, its replica is not",), hint
        )
    if there.database_id != copied.database_id and None not in (
        there.database_id,
        copied.database_id,
    ):
        raise SettingsError(
            (f"{replica} is the replica of another database than {database}",),
            hint="name the replica that belongs to it, or move this one away",
        )
    if copied.commits > there.commits:
        raise SettingsError(
            (
                f"the database {database} is older than its replica {replica}: it has "
                f"{there.commits} commits, the replica {copied.commits}",
            ),
            hint,
        )
    if lacks(database, copied):
        raise SettingsError(
            (f"{replica} holds swaps that the database {database} does not: one was restored",),
            hint="move the replica elsewhere and keep it, or `lnliquid restore --accept-older` "
            "puts it in the place of the database",
        )


class Replica:
    """Carries out on a file of its own what is committed on the database.

    `take` is the writer's; all that touches the file is done by a thread of its own, so that a disk
    that hangs holds up nobody for longer than the deadline.
    """

    def __init__(self, database: Path, path: Path, deadline_secs: float = DEADLINE_SECS) -> None:
        """Compare the two files, see `check_pair`. Raises `SettingsError`."""
        self._database = database
        self.path = path
        self._deadline_secs = deadline_secs
        self.failed: str | None = None
        """Why it is behind; None while it has every commit that was reported."""
        self._file = -1
        self._connection: sqlite3.Connection | None = None
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = (
            queue.SimpleQueue()
        )
        self._commits = 0
        self._is_started = False
        """From then on it is tried again when it fails."""
        self._looks = 0
        self._missed: list[Group] | None = None
        """Commits since the file is being brought up to date, None when it is not."""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
        self._thread.start()
        self._try(lambda: check_pair(database, path), COMPARE_SECS)

    def start(self) -> None:
        """Open or make the file and bring it up to date, once the database is migrated.

        A file that cannot be read or written does not keep the daemon from starting: what needs no
        replica is not to wait for it. Raises `SettingsError` when the database is not the newest.
        """

        def first() -> None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()

        if self.failed is None:  # otherwise it is tried as any that failed, and hangs perhaps
            self._try(first, COPY_SECS)
        self._is_started = True

    def _try(self, work: Callable[[], None], secs: float) -> None:
        try:
            self._do(work, secs)
        except ReplicaFailed as error:
            self._fail(str(error))
        except SettingsError:
            self.close()
            raise

    def take(self, number: int, statements: Sequence[Statement]) -> bool:
        """Carry out a commit. True when it is on the replica's disk, False while it has failed."""
        group = number, tuple(statements)
        with self._lock:
            if self._missed is not None:
                self._missed.append(group)
                if len(self._missed) > MAX_MISSED:
                    self._missed.clear()  # the gap is noticed, and the file copied again
            if self.failed is not None:
                return False
        try:
            self._do(lambda: self._carry_out(group), self._deadline_secs)
        except Exception as error:  # the database has committed, whatever is wrong here
            self._fail(_reason(error))
        return self.failed is None

    def holds(self, number: int) -> bool:
        """True when this commit of the database is on the replica's disk."""
        return self.failed is None and number <= self._commits

    def close(self) -> None:
        """End the thread and close the file; one that hangs is left behind."""
        self._jobs.put(None)
        self._thread.join(self._deadline_secs)

    def _do(self, work: Callable[[], None], secs: float) -> None:
        done: Future[None] = Future()
        self._jobs.put((work, done))
        try:
            done.result(secs)
        except TimeoutError:
            raise ReplicaFailed(f"it did not answer for {secs:g} s") from None

    def _fail(self, reason: str) -> None:
        if self.failed is None:
            log.error("replica failed", path=str(self.path), reason=reason)
        self.failed = reason

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=RETRY_SECS)
            except queue.Empty:
                if self._is_started:
                    self.look()
                continue
            if job is None:
                break
            work, done = job
            try:
                work()
                done.set_result(None)
            except SettingsError as error:
                done.set_exception(error)
            except BaseException as error:
                done.set_exception(ReplicaFailed(_reason(error)))
        self._release()

    def look(self) -> None:
        """Nothing was to be done for a while: is the file there, can it be written?"""
        try:
            if self.failed is not None:
                self._open()
                log.info("replica up to date again", path=str(self.path))
            elif not is_in_place(self._file, self.path):
                self._fail("the file was deleted or replaced")
            elif self._looks % LOOKS_PER_PROBE == 0:
                self._require_space()
                self._require_sound()
            self._looks += 1
        except Exception as error:  # for an unknown reason too it is tried again
            self._fail(_reason(error))

    def _require_space(self) -> None:
        if (reason := directory_refusal(self.path.parent, fill=True)) is not None:
            raise ReplicaFailed(reason)

    def _require_sound(self) -> None:
        """What others would read must be what was written: the file may have been cut."""
        stamp = read_stamp(self.path)
        if stamp is None or stamp.commits != self._commits:
            raise ReplicaFailed("the file was damaged")

    def _open(self) -> None:
        """Open the file of that name and make it a copy of the database, if it is none."""
        self._release()
        self._require_space()
        try:
            self._file = locked(self.path, os.O_RDWR | os.O_CREAT)
        except Locked:
            raise ReplicaFailed("another process uses it") from None
        os.fchmod(self._file, 0o600)
        check_pair(self._database, self.path)
        with self._lock:
            self._missed = []  # what is committed from here on may not be in what is read below
        self._connection = _connect(self.path)
        copied = _stamp(self._connection)
        if copied is None or copied != read_stamp(self._database):
            log.info("replica copied", path=str(self.path), had=copied and copied.commits)
            with closing(sqlite3.connect(_uri(self._database), uri=True)) as source:
                source.backup(self._connection)  # one transaction of the replica
            _configure(self._connection)
            copied = _stamp(self._connection)
        self._commits = 0 if copied is None else copied.commits
        while True:
            with self._lock:
                missed, self._missed = self._missed, []
                if not missed:
                    self._missed = self.failed = None
                    return
            for group in missed:
                self._carry_out(group)

    def _carry_out(self, group: Group) -> None:
        number, statements = group
        if number <= self._commits:
            return  # it was committed just before the file was copied
        connection = self._connection
        if connection is None or not is_in_place(self._file, self.path):
            raise ReplicaFailed("the file was deleted or replaced")
        if number != self._commits + 1:
            raise ReplicaFailed(f"it is at commit {self._commits}, and {number} is to follow")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, parameters, rows in statements:
                run = connection.executemany if isinstance(parameters, list) else connection.execute
                done = run(sql, parameters)
                if done.rowcount != rows:
                    raise ReplicaFailed("it does not hold what the database holds")
                done.fetchall()
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        self._commits = number

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._file >= 0:
            os.close(self._file)  # after SQLite's own: closing it ends SQLite's locks
            self._file = -1


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    _configure(connection)
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "temp_store = MEMORY",
        f"journal_size_limit = {LOG_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"
