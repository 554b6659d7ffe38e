"""Files of the database that are deleted, replaced or written over under the running daemon."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from lnliquid.domain.errors import ReplicaFailure, SettingsError, StoreFailure
from lnliquid.store import coins
from lnliquid.store.database import Database, Transaction
from lnliquid.store.identity import DATABASE_ID
from lnliquid.store.replica import read_stamp
from lnliquid.store.restore import restore
from lnliquid.store.tables import IdentityRow

from ..builders import NOW, StillClock, migrated

Trouble = Callable[[Path], None]


def deleted(end: str) -> Trouble:
    """The database, or what belongs to it, is removed."""
    return lambda path: Path(f"{path}{end}").unlink()


def replaced(end: str) -> Trouble:
    """Another file, a copy, gets its name."""

    def do(path: Path) -> None:
        copy = path.with_name("copy")
        shutil.copyfile(f"{path}{end}", copy)
        copy.replace(f"{path}{end}")

    return do


def moved(path: Path) -> None:
    """Its folder gets another name."""
    path.parent.rename(path.parent.with_name("elsewhere"))


def backed_up_over(path: Path) -> None:
    """`cp backup database` while the daemon runs."""
    shutil.copyfile(path.with_name("backup"), path)


def another_over(path: Path) -> None:
    """`cp` of a database of another daemon."""
    shutil.copyfile(path.with_name("another"), path)


IN_NAME: dict[str, Trouble] = {
    **{f"deleted {end or 'database'}": deleted(end) for end in ("", "-wal", "-shm")},
    **{f"replaced {end or 'database'}": replaced(end) for end in ("", "-wal", "-shm")},
    "moved": moved,
}
IN_CONTENT: dict[str, Trouble] = {"backup over it": backed_up_over, "another over it": another_over}


def count(number: int) -> Callable[[Transaction], None]:
    """A write that is told from others."""
    return lambda tx: coins.set_cursor(tx, "n", number)


def read_n(tx: Transaction) -> int:
    """What the last of them was."""
    return coins.cursor(tx, "n")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Where the database is, with a backup and another database beside it."""
    path = migrated(tmp_path / "live" / "seller.sqlite")
    database = Database(path, StillClock())
    await database.write(count(1))
    database.close()
    shutil.copyfile(path, path.with_name("backup"))
    Database(migrated(path.with_name("another")), StillClock()).close()
    return path


@pytest.fixture
async def database(path: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """It is open, and has committed more than the backup."""
    database = Database(path, StillClock(), tmp_path / "replica")
    for number in range(2, 6):
        await database.write(count(number))
    yield database
    database.close()


@pytest.mark.parametrize("name", IN_NAME)
async def test_a_file_that_is_out_of_place_stops_what_needs_both_copies(
    name: str, database: Database, path: Path, tmp_path: Path
) -> None:
    """At once and by name; what needs one copy alone goes on and is on the replica."""
    assert database.file_problem is None
    assert database.content_problem() is None
    IN_NAME[name](path)
    for problem in (database.file_problem, database.content_problem()):
        assert problem is not None
        assert str(path) in problem
        assert "`lnliquid restore`" in problem
    with pytest.raises(ReplicaFailure, match="while the daemon ran"):
        database.require_replica()
    with pytest.raises(ReplicaFailure):
        await database.write(count(6), on_replica=True)
    await database.write(count(7))
    assert not await database.read(database.is_on_replica)
    assert await database.read(read_n) == 7
    with closing(sqlite3.connect(tmp_path / "replica")) as replica:
        [row] = replica.execute("SELECT value FROM cursor WHERE name = 'n'").fetchall()
    assert row == (7,)


@pytest.mark.parametrize("name", IN_CONTENT)
def test_a_file_that_was_written_over_is_noticed(name: str, database: Database, path: Path) -> None:
    """By what another process would read there."""
    assert database.content_problem() is None
    # Into the file, as after a thousand pages; what is in the log hides what is under it.
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    IN_CONTENT[name](path)
    problem = database.content_problem()
    assert problem is not None
    assert "overwritten" in problem or "cannot be read" in problem
    assert "`lnliquid restore`" in problem


async def test_a_new_database_that_gets_its_id_later_is_the_same(
    database: Database, path: Path
) -> None:
    """The first start stores it."""
    assert database.content_problem() is None
    row = IdentityRow(name=DATABASE_ID, value="1" * 32)
    await database.write(lambda tx: tx.add(row))
    assert database.content_problem() is None
    another_over(path)
    assert database.content_problem() is not None


def content(path: Path) -> bytes:
    """All of a file."""
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    """All of a file, in place."""
    path.write_bytes(data)


async def test_a_new_connection_does_not_take_another_file_for_this_one(
    database: Database, path: Path
) -> None:
    """After a write that failed there is one; the other file stays as it is."""

    def broken(tx: Transaction) -> None:
        tx.connection().exec_driver_sql("INSERT INTO nothing VALUES (1)")

    replaced("")(path)
    before = content(path)
    with pytest.raises(StoreFailure):
        await database.write(broken)
    with pytest.raises(StoreFailure, match="deleted or replaced"):
        await database.write(count(9))
    assert content(path) == before


async def test_a_backup_that_was_put_over_an_old_log_is_refused(tmp_path: Path) -> None:
    """With what to do, and it works; SQLite would mix the two without a word."""
    path, replica = migrated(tmp_path / "seller.sqlite"), tmp_path / "replica"
    database = Database(path, StillClock(), replica)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        backup = content(path)

        def many(tx: Transaction) -> None:
            for number in range(3_000):
                tx.add(IdentityRow(name=f"name {number}", value="x" * 100))

        await database.write(many)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await database.write(count(3))
    log = content(Path(f"{path}-wal"))
    database.close()
    write(path, backup)
    write(Path(f"{path}-wal"), log)
    with pytest.raises(SettingsError, match="does not belong to the log") as caught:
        Database(path, StillClock(), replica)
    assert "lnliquid restore" in caught.value.hint
    restore(path, replica, None, NOW)
    again = Database(path, StillClock(), replica)
    assert await again.read(read_n) == 3
    again.close()


async def test_a_restore_after_it_has_every_commit(path: Path, tmp_path: Path) -> None:
    """What went on while the file was gone is on the replica."""
    replica = tmp_path / "replica"
    database = Database(path, StillClock(), replica)
    deleted("")(path)
    await database.write(count(8))
    database.close()
    restore(path, replica, None, NOW)
    assert read_stamp(path) == read_stamp(replica)
    again = Database(path, StillClock(), replica)
    assert await again.read(read_n) == 8
    again.close()
