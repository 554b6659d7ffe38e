"""`store.database`: group commit, refusals, and what happens when the disk or a lock says no."""

import asyncio
import contextlib
import resource
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from lnlab.wait import wait_for
from lnliquid.domain.errors import StoreFailure, TooManySwaps
from lnliquid.store import coins as store
from lnliquid.store.database import MAX_GROUP, Database, Transaction, Write
from lnliquid.store.replica import COMMITS, LOG_BYTES
from lnliquid.store.tables import CursorRow, IdentityRow
from lnliquid.store.write_failures import kind_of

from ..builders import NOW, StillClock, count_rows, migrated
from ..fakes import DEADLINE_SECS, Gate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "seller.sqlite"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """A fresh database."""
    made = Database(migrated(path), StillClock())
    yield made
    made.close()


def note(name: str, value: int = 1) -> Callable[[Transaction], None]:
    """A write that leaves one row."""

    def write(session: Transaction) -> None:
        session.add(CursorRow(name=name, value=value))
        session.flush()

    return write


def refuse(session: Transaction) -> None:
    """A write that stores a row and is then refused."""
    note("refused")(session)
    raise TooManySwaps(1)


def break_off(session: Transaction) -> None:
    """A write that stores a row and then shows a defect."""
    note("broken")(session)
    raise LookupError("a defect")


def on_disk(path: Path) -> set[str]:
    """Rows that another process would see now, but for the count of commits."""
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM cursor")} - {COMMITS}


async def gathered(
    database: Database, works: list[Callable[[Transaction], object]]
) -> list[object]:
    """Outcomes of writes that are all in one group."""
    gate = Gate()
    first = asyncio.create_task(database.write(gate))
    await gate.reached()
    others = [asyncio.create_task(database.write(work)) for work in works]
    await asyncio.sleep(0)  # one turn of the loop: every task has queued its write
    gate.open()
    await first
    return list(await asyncio.gather(*others, return_exceptions=True))


async def test_a_write_is_on_the_disk_when_it_returns(database: Database, path: Path) -> None:
    """Another process sees it, and the result is the work's."""
    assert await database.write(lambda s: (note("a")(s), 7)[1]) == 7
    assert on_disk(path) == {"a"}
    assert await database.read(lambda s: store.cursor(s, "a")) == 1


async def test_no_result_is_told_before_the_commit(database: Database, path: Path) -> None:
    """While a later write of the group runs, the earlier one's caller still waits."""
    loop = asyncio.get_running_loop()
    seen: list[tuple[bool, set[str]]] = []
    first: list[asyncio.Task[object]] = []

    def look(_session: Transaction) -> None:
        for _ in range(3):  # turns of the loop, in which a told result would have arrived
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(DEADLINE_SECS)
        seen.append((first[0].done(), on_disk(path)))

    gate = Gate()
    holding = asyncio.create_task(database.write(gate))
    await gate.reached()
    first.append(asyncio.create_task(database.write(note("a"))))
    looking = asyncio.create_task(database.write(look))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(holding, first[0], looking)
    assert seen == [(False, set())]
    assert on_disk(path) == {"a"}


async def test_a_refused_write_does_not_undo_its_neighbours(database: Database, path: Path) -> None:
    """Refusal, defect and broken constraint each end alone; all in one commit."""
    await database.write(note("taken"))
    commits = database.commits
    outcomes = await gathered(
        database,
        [note("a"), refuse, note("b"), note("taken"), note("c"), break_off, note("d")],
    )
    kinds = [type(o) for o in outcomes]
    none = type(None)
    assert kinds == [none, TooManySwaps, none, StoreFailure, none, LookupError, none]
    assert on_disk(path) == {"taken", "a", "b", "c", "d"}
    assert database.commits == commits + 2


async def test_many_writes_share_few_commits(database: Database) -> None:
    """Five hundred at once take a handful of fsyncs, and no group is larger than the limit."""
    before = database.commits
    await asyncio.gather(*(database.write(note(f"n{i}")) for i in range(500)))
    assert 500 / MAX_GROUP <= database.commits - before <= 50
    assert (await database.read(count_rows))["cursor"] == 500 + 1  # the count of commits


async def test_all_writes_of_a_group_have_one_time(path: Path) -> None:
    """One reading of the clock a transaction."""

    class Ticking(StillClock):
        def now(self) -> int:
            self.at += 1
            return self.at

    database = Database(migrated(path), Ticking())
    try:
        times = await gathered(database, [lambda s: s.now] * 3)
        assert times[0] == times[1] == times[2]
        assert isinstance(times[0], int)
        assert times[0] > NOW
    finally:
        database.close()


async def test_a_cancelled_caller_undoes_nothing(database: Database, path: Path) -> None:
    """What is queued is written, and the writer lives on."""
    gate = Gate()
    first = asyncio.create_task(database.write(gate))
    await gate.reached()
    caller = asyncio.create_task(database.write(note("a")))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.open()
    await first
    await database.write(note("b"))
    assert on_disk(path) == {"a", "b"}


async def test_a_write_that_cannot_be_committed_fails_alone(database: Database, path: Path) -> None:
    """A foreign key checked at COMMIT: its neighbours are stored, a refusal is a refusal."""

    def owe(session: Transaction) -> None:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        session.execute(text("INSERT INTO request VALUES ('r', x'00', 'no such swap')"))

    outcomes = await gathered(database, [note("a"), refuse, owe, note("b")])
    none = type(None)
    assert [type(o) for o in outcomes] == [none, TooManySwaps, StoreFailure, none]
    assert on_disk(path) == {"a", "b"}


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Limit how large a file this process may write, until the end of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_the_kernel_refuses_is_a_failure_that_passes(
    database: Database, path: Path, file_size_limit: Callable[[int], None]
) -> None:
    """Within a statement or at COMMIT; the reason is the disk, not what broke because of it."""

    def much(session: Transaction) -> None:
        session.execute(text("INSERT INTO cursor SELECT hex(randomblob(5000000)), 1"))

    file_size_limit(path.with_name("seller.sqlite-wal").stat().st_size)
    for work in (much, note("little"), much):
        with pytest.raises(StoreFailure, match="disk"):
            await database.write(work)
    file_size_limit(resource.RLIM_INFINITY)
    assert on_disk(path) == set()
    await database.write(note("later"))
    assert on_disk(path) == {"later"}


def refuse_to_end(session: Transaction) -> None:
    """SQLite will neither commit this transaction nor roll it back."""

    def judge(action: int, argument: str | None, *_: object) -> int:
        ends = action == sqlite3.SQLITE_TRANSACTION and argument in ("COMMIT", "ROLLBACK")
        return sqlite3.SQLITE_DENY if ends else sqlite3.SQLITE_OK

    note("never")(session)
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_authorizer(judge)


def break_the_transaction(session: Transaction) -> None:
    """A failure of the whole transaction, not of this write alone."""
    refuse_to_end(session)
    session.execute(text("SELECT * FROM no_table"))


@pytest.mark.parametrize("work", [refuse_to_end, break_the_transaction])
async def test_a_transaction_that_cannot_be_ended_is_a_failure_that_passes(
    database: Database, path: Path, work: Callable[[Transaction], None]
) -> None:
    """COMMIT fails, or a statement, and then ROLLBACK too: the next group has a new connection."""
    outcomes = await asyncio.wait_for(
        gathered(database, [note("a"), work, note("b")]), DEADLINE_SECS
    )
    assert [type(o) for o in outcomes] == [type(None), StoreFailure, type(None)]
    assert database.failed
    await asyncio.wait_for(database.write(note("later")), DEADLINE_SECS)
    assert database.failed, "another kind of write does not show that this one can be made"
    assert on_disk(path) == {"a", "b", "later"}


class Quit(BaseException):
    """No `Exception`: what ends a thread that does not expect it."""


@pytest.mark.parametrize("error", [Quit(), StopIteration()])
async def test_no_exception_of_a_write_ends_the_writer(
    database: Database, path: Path, error: BaseException
) -> None:
    """Its caller is told, its neighbours are stored, and later ones too."""

    def quit_it(session: Transaction) -> None:
        note("never")(session)
        raise error

    outcomes = await asyncio.wait_for(
        gathered(database, [note("a"), quit_it, note("b")]), DEADLINE_SECS
    )
    assert isinstance(outcomes[1], Quit | RuntimeError)
    assert (outcomes[0], outcomes[2]) == (None, None)
    await asyncio.wait_for(database.write(note("later")), DEADLINE_SECS)
    assert on_disk(path) == {"a", "b", "later"}


async def test_a_defect_of_the_writer_does_not_end_it(path: Path) -> None:
    """The writes at hand fail, later ones are stored, and the files are closed at the end."""

    class Faulty(Database):
        faults = 1

        def _commit(self, group: Sequence[Write]) -> None:
            if self.faults:
                self.faults -= 1
                group[0][0](None)  # type: ignore[arg-type]  # the gate
                raise Quit
            super()._commit(group)

    gate = Gate()
    database = Faulty(migrated(path), StillClock())
    try:
        holding = asyncio.create_task(database.write(gate))
        await gate.reached()
        other = asyncio.create_task(database.write(note("a")))
        await asyncio.sleep(0)
        gate.open()
        with pytest.raises(StoreFailure, match="writer failed: Quit"):
            await asyncio.wait_for(holding, DEADLINE_SECS)
        await asyncio.wait_for(other, DEADLINE_SECS)
        assert database.failed
        assert on_disk(path) == {"a"}
    finally:
        database.close()
    Database(path, StillClock()).close()  # it let go of its lock


def wal_of(path: Path) -> int:
    """Bytes of the write-ahead log."""
    return path.with_name(path.name + "-wal").stat().st_size


def large(session: Transaction) -> None:
    """More than a megabyte."""
    session.execute(text("INSERT INTO cursor SELECT hex(randomblob(500000)), 1"))


async def test_one_write_for_which_there_is_no_room_fails_alone(
    database: Database, path: Path, file_size_limit: Callable[[int], None]
) -> None:
    """Of a whole group, in few commits; the others are told of theirs."""
    before = database.commits
    file_size_limit(wal_of(path) + 200_000)
    works: list[Callable[[Transaction], object]] = [
        *(note(f"n{i}") for i in range(60)),
        large,
        refuse,
    ]
    outcomes = await gathered(database, works)
    file_size_limit(resource.RLIM_INFINITY)
    assert [type(o) for o in outcomes] == [type(None)] * 60 + [StoreFailure, TooManySwaps]
    assert "disk" in str(outcomes[60])
    assert len(on_disk(path)) == 60
    assert database.commits - before < 12
    assert database.failures.open().keys() == {kind_of(large)}


@pytest.mark.parametrize("way", ["it succeeds", "it is rehearsed"])
async def test_a_failure_belongs_to_its_kind_of_write(
    database: Database, path: Path, file_size_limit: Callable[[int], None], way: str
) -> None:
    """Small writes that succeed say nothing of large ones; one that does, or could, does."""
    file_size_limit(wal_of(path) + 200_000)
    with pytest.raises(StoreFailure, match="disk"):
        await database.write(large)
    await database.write(note("little"))
    assert database.failed
    with pytest.raises(StoreFailure, match="disk"):
        await database.rehearse()
    assert database.failed
    file_size_limit(resource.RLIM_INFINITY)
    await (database.write(large) if way == "it succeeds" else database.rehearse())
    assert not database.failed
    assert len(on_disk(path)) == (2 if way == "it succeeds" else 1)


async def test_a_group_that_cannot_begin_is_not_divided(database: Database, path: Path) -> None:
    """Each try would wait for the lock again."""
    await database.write(lambda s: s.execute(text("PRAGMA busy_timeout = 300")).scalar())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        writes = [database.write(note(f"n{i}")) for i in range(60)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        other.execute("ROLLBACK")
    assert {type(o) for o in outcomes} == {StoreFailure}
    assert time.monotonic() - began < 3


async def test_what_is_temporary_is_in_no_file(database: Database) -> None:
    """A large write in a savepoint: a full temporary directory must not stop it."""

    def change_much(session: Transaction) -> list[str]:
        session.execute(text("UPDATE cursor SET value = value + 1"))
        found = []
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(link.readlink()))
        return [name for name in found if "etilqs_" in name]

    rows = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
        "INSERT INTO cursor SELECT 'name ' || i, i FROM n"
    )
    await database.write(lambda s: s.execute(text(rows)))
    assert await database.write(change_much) == []


async def test_a_disk_that_hangs_is_told_and_does_not_hold_up_the_end(path: Path) -> None:
    """A commit that does not return: for how long is known, and closing leaves it behind."""
    held = threading.Event()
    database = Database(migrated(path), StillClock())
    writing = asyncio.create_task(database.write(lambda _s: held.wait(30), kind="hangs"))
    try:
        await wait_for(lambda: database.stalled_secs > 3, timeout_secs=10, message="it is told")
        began = time.monotonic()
        await asyncio.to_thread(database.close)
        assert time.monotonic() - began < 4
    finally:
        held.set()
        await writing
    await wait_for(lambda: database.stalled_secs == 0, timeout_secs=10, message="it is over")


async def test_a_database_locked_by_another_process_is_a_failure_that_passes(
    database: Database, path: Path
) -> None:
    """After the wait for the lock; reads go on meanwhile; nothing is left of the write."""
    await database.write(note("before"))
    await database.write(lambda s: s.execute(text("PRAGMA busy_timeout = 20")).scalar())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailure, match="locked"):
            await database.write(note("a"))
        assert await database.read(lambda s: store.cursor(s, "before")) == 1
        other.execute("ROLLBACK")
    assert on_disk(path) == {"before"}
    await database.write(note("a"))
    assert on_disk(path) == {"before", "a"}


async def test_a_failure_tells_no_values(database: Database) -> None:
    """The store's error names the constraint, not what was to be written."""
    await database.write(note("secret name"))
    with pytest.raises(StoreFailure) as caught:
        await database.write(note("secret name", 424_242))
    told = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "UNIQUE constraint failed: cursor.name" in told
    assert "secret name" not in told
    assert "424242" not in told
    assert "INSERT" not in told


async def test_a_read_changes_nothing(database: Database, path: Path) -> None:
    """Not even by mistake."""
    await database.read(note("a"))
    assert on_disk(path) == set()


async def test_a_read_has_one_snapshot_and_blocks_no_write(database: Database, path: Path) -> None:
    """A row committed meanwhile is not seen by a read that has begun."""
    gate = Gate()

    def look(session: Transaction) -> tuple[int, int]:
        before = len(session.connection().execute(text("SELECT * FROM cursor")).all())
        gate(session)
        return before, len(session.connection().execute(text("SELECT * FROM cursor")).all())

    reading = asyncio.create_task(database.read(look))
    await gate.reached()
    await database.write(note("a"))
    assert on_disk(path) == {"a"}
    gate.open()
    assert await reading == (0, 0)


async def test_a_broken_read_is_a_failure_of_the_store(database: Database) -> None:
    """No exception of the library below comes through."""
    with pytest.raises(StoreFailure, match="no such table: no_table"):
        await database.read(lambda s: s.execute(text("SELECT * FROM no_table")))


async def test_closing_finishes_what_is_queued(path: Path) -> None:
    """And no call afterwards waits for ever."""
    database = Database(migrated(path), StillClock())
    writes = [asyncio.create_task(database.write(note(f"n{i}"))) for i in range(20)]
    await asyncio.sleep(0)
    database.close()
    await asyncio.gather(*writes)
    assert len(on_disk(path)) == 20
    assert not path.with_name("seller.sqlite-wal").exists()
    for call in (database.write, database.read):
        with pytest.raises(StoreFailure, match="closed"):
            await asyncio.wait_for(call(note("late")), 1)


async def test_a_log_that_grew_large_is_cut_again(tmp_path: Path) -> None:
    """Of database and replica, once a reader that held it up is gone."""
    path, replica = migrated(tmp_path / "db"), tmp_path / "replica"
    database = Database(path, StillClock(), replica)
    logs = [Path(f"{path}-wal"), Path(f"{replica}-wal")]

    def much(tx: Transaction) -> None:
        for number in range(3):
            tx.add(IdentityRow(name=f"much {number}", value="x" * 8_000_000))

    await database.write(much)
    assert all(log.stat().st_size > LOG_BYTES for log in logs)
    for number in range(5):
        await database.write(lambda tx, n=number: store.set_cursor(tx, "n", n))  # type: ignore[misc]
    assert all(log.stat().st_size <= LOG_BYTES for log in logs)
    database.close()
