"""`store.replica`: the second file has every commit that was reported, or has failed."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from lnlab.wait import wait_for
from lnliquid.domain.errors import ReplicaFailure, SettingsError, StoreFailure, SwapNotFound
from lnliquid.domain.swap import State
from lnliquid.store import coins
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.replica import Replica, read_stamp
from lnliquid.store.tables import EventRow

from ..builders import StillClock, make_request, migrated, new_swap, stock


class Pair:
    """A database and its replica."""

    def __init__(self, folder: Path) -> None:
        self.path, self.replica = folder / "seller.sqlite", folder / "other" / "seller.replica"
        migrated(self.path)
        self.database = self.open()

    def open(self) -> Database:
        """Open both."""
        return Database(self.path, StillClock(), self.replica)

    def reopen(self) -> None:
        """End and start."""
        self.database.close()
        self.database = self.open()

    async def put(self, name: str, value: int, *, on_replica: bool = True) -> None:
        """Commit a row."""
        await self.database.write(
            lambda tx: coins.set_cursor(tx, name, value), on_replica=on_replica
        )

    def dumps(self) -> tuple[list[str], list[str]]:
        """Both files as SQL."""
        return dump(self.path), dump(self.replica)

    async def recovered(self) -> None:
        """Wait until the replica is well again."""
        await wait_for(
            lambda: self.database.replica_problem is None, timeout_secs=10, message="it is well"
        )


def dump(path: Path) -> list[str]:
    """A database as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both, closed at the end."""
    made = Pair(tmp_path)
    yield made
    made.database.close()


async def test_every_commit_is_on_both(pair: Pair) -> None:
    """Also those of a group whose neighbours were refused."""

    def refused(tx: Transaction) -> None:
        coins.set_cursor(tx, "refused", 1)
        raise SwapNotFound("x")

    await asyncio.gather(
        *(pair.put(f"n{number}", number) for number in range(40)),
        *(pair.database.write(refused) for _ in range(5)),
        return_exceptions=True,
    )
    main, copy = pair.dumps()
    assert main == copy
    assert any("'n39',39" in line for line in main)
    assert not any("refused" in line for line in main)


async def test_rows_whose_keys_the_database_makes_are_on_both(pair: Pair) -> None:
    """SQLite counts them only when they are read back."""
    await stock(pair.database)
    new = new_swap(make_request(0))

    def work(tx: Transaction) -> None:
        swap, _ = swap_store.create(tx, new)
        for many in (1, 3):
            rows = [
                EventRow(swap_id=swap.swap_id, to_state=State.CREATED, cause=str(n), at=n)
                for n in range(many)
            ]
            tx.add_all(rows)
            tx.flush()
            assert all(row.seq for row in rows)

    await pair.database.write(work, on_replica=True)
    main, copy = pair.dumps()
    assert main == copy
    assert sum('INSERT INTO "event"' in line for line in copy) == 5


NOTHING = {
    "asks for nothing": lambda tx: None,
    "reads": lambda tx: coins.cursor(tx, "n"),
    "changes no row": lambda tx: tx.execute(text("UPDATE cursor SET value = 9 WHERE name = 'x'")),
    "returns no row": lambda tx: tx.execute(
        text("UPDATE cursor SET value = 9 WHERE name = 'x' RETURNING name")
    ).all(),
    "was undone": lambda tx: _undone(tx),
}


def _undone(tx: Transaction) -> None:
    with tx.begin_nested() as savepoint:
        coins.set_cursor(tx, "x", 1)
        savepoint.rollback()


@pytest.mark.parametrize("work", NOTHING.values(), ids=list(NOTHING))
async def test_what_changes_nothing_is_no_commit(
    pair: Pair, work: Callable[[Transaction], object]
) -> None:
    """Also right after a commit that did: what was changed then is not counted again."""
    await pair.put("n", 1)
    before = dump(pair.path)
    for _ in range(3):
        await pair.database.write(work)
    assert dump(pair.path) == before
    assert dump(pair.replica) == before


async def test_a_new_replica_is_a_copy(pair: Pair) -> None:
    """Of a database that had none, and of one whose replica was lost."""
    await pair.put("a", 1)
    pair.database.close()
    pair.replica.unlink()
    pair.database = pair.open()
    main, copy = pair.dumps()
    assert main == copy
    assert pair.replica.stat().st_mode & 0o777 == 0o600


async def test_a_replica_behind_is_brought_up_to_date(pair: Pair) -> None:
    """The process died between the two commits, or ran without a replica."""
    await pair.put("a", 1)
    pair.database.close()
    alone = Database(pair.path, StillClock())
    await alone.write(lambda tx: coins.set_cursor(tx, "b", 2))
    alone.close()
    assert read_stamp(pair.path) != read_stamp(pair.replica)
    pair.database = pair.open()
    main, copy = pair.dumps()
    assert main == copy


async def test_an_older_programs_database_that_is_lost_is_missed(pair: Pair) -> None:
    """It has counted no commits, and its first replica neither: what it holds tells."""
    await stock(pair.database)
    new = new_swap(make_request(0))
    await pair.database.write(lambda tx: swap_store.create(tx, new))
    pair.database.close()
    for path in (pair.path, pair.replica):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM cursor WHERE name = 'commits'")
            connection.commit()
    pair.path.unlink()
    with pytest.raises(SettingsError, match="is missing or empty"):
        pair.open()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("older", "is older than its replica"),
        ("missing", "is missing or empty, its replica is not"),
        ("empty", "is missing or empty, its replica is not"),
        ("other", "is the replica of another database"),
    ],
)
async def test_a_database_that_is_not_the_newest_is_refused(
    pair: Pair, damage: str, words: str
) -> None:
    """Nothing is changed, and the way out is named."""
    await pair.put("a", 1)
    pair.database.close()
    before = pair.path.read_bytes()
    pair.database = pair.open()
    await pair.put("b", 2)
    pair.database.close()
    if damage == "older":
        pair.path.write_bytes(before)
    elif damage == "missing":
        pair.path.unlink()
    elif damage == "empty":
        pair.path.write_bytes(b"")
    else:
        for path, name in ((pair.path, "one"), (pair.replica, "two")):
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("INSERT INTO identity VALUES ('database_id', ?)", (name,))
                connection.commit()
    copy = dump(pair.replica)
    with pytest.raises(SettingsError, match=words) as caught:
        pair.open()
    assert "restore" in caught.value.hint or damage == "other"
    assert dump(pair.replica) == copy


async def test_a_replica_that_cannot_be_written_stops_nothing_else(pair: Pair) -> None:
    """What needs it is refused, all else is committed; it is made again when it can be."""
    pair.replica.unlink()
    pair.replica.mkdir()
    await pair.put("a", 1, on_replica=False)
    assert pair.database.replica_problem is not None
    with pytest.raises(ReplicaFailure):
        await pair.put("b", 2)
    assert isinstance(ReplicaFailure("x"), StoreFailure)
    value = await pair.database.read(lambda tx: coins.cursor(tx, "b"))
    assert value == 2
    pair.replica.rmdir()
    await pair.recovered()
    await pair.put("c", 3)
    main, copy = pair.dumps()
    assert main == copy


async def test_a_replica_that_was_deleted_is_missed_without_a_write(pair: Pair) -> None:
    """It is looked at while nothing happens, and made again."""
    inode = pair.replica.stat().st_ino
    keep = pair.replica.with_suffix(".keep")
    pair.replica.rename(keep)
    await wait_for(pair.replica.exists, timeout_secs=10, message="it is made again")
    await pair.recovered()
    assert pair.replica.stat().st_ino != inode
    main, copy = pair.dumps()
    assert main == copy


async def test_a_replica_that_was_cut_is_noticed_while_nothing_happens(pair: Pair) -> None:
    """What is left of it is no copy, though the connection still reads it from memory."""
    await pair.put("a", 1)
    for path in (pair.replica, pair.replica.with_name(pair.replica.name + "-wal")):
        with path.open("r+b") as file:
            file.truncate(0)
    await wait_for(
        lambda: pair.database.replica_problem is not None or dump(pair.replica) == dump(pair.path),
        timeout_secs=20,
        message="it is noticed",
    )
    await pair.recovered()
    await pair.put("b", 2)
    main, copy = pair.dumps()
    assert main == copy


async def test_a_fault_of_the_replica_is_no_fault_of_the_database(tmp_path: Path) -> None:
    """Whatever it raises, the commit is reported, and the replica said to have failed."""
    path = migrated(tmp_path / "seller.sqlite")

    class Faulty(Replica):
        def _carry_out(self, group: object) -> None:
            raise KeyError("a fault")

    database = Database(path, StillClock())
    replica = Faulty(path, tmp_path / "replica")
    replica.start()
    database._replica = replica  # where `Database` keeps its own
    try:
        await database.write(lambda tx: coins.set_cursor(tx, "a", 1))
        assert "a fault" in (database.replica_problem or "")
        assert not database.failed
    finally:
        database.close()


async def test_a_replica_that_hangs_costs_one_deadline(tmp_path: Path) -> None:
    """The writer goes on without it, and it catches up when it answers again."""
    path = migrated(tmp_path / "seller.sqlite")
    held = threading.Event()

    class Hanging(Replica):
        def _carry_out(self, group: object) -> None:
            held.wait(30)
            super()._carry_out(group)  # type: ignore[arg-type]

    database = Database(path, StillClock())
    replica = Hanging(path, tmp_path / "replica", deadline_secs=0.2)
    replica.start()
    database._replica = replica  # where `Database` keeps its own
    try:
        for number in range(20):
            async with asyncio.timeout(1):
                await database.write(lambda tx, n=number: coins.set_cursor(tx, "n", n))  # type: ignore[misc]
        assert "did not answer" in (database.replica_problem or "")
        held.set()
        await wait_for(
            lambda: database.replica_problem is None, timeout_secs=10, message="it is well"
        )
        assert dump(path) == dump(tmp_path / "replica")
    finally:
        held.set()
        database.close()


async def test_a_replica_that_hangs_at_the_start_costs_one_deadline(tmp_path: Path) -> None:
    """The start goes on without it: refunds are not to wait for it."""
    path = migrated(tmp_path / "seller.sqlite")
    held = threading.Event()

    class Hanging(Replica):
        def _do(self, work: Callable[[], None], secs: float) -> None:
            def hang() -> None:
                held.wait(60)
                work()

            super()._do(hang, min(secs, 0.3))

    began = time.monotonic()
    replica = Hanging(path, tmp_path / "replica")
    try:
        replica.start()
        assert time.monotonic() - began < 0.6
        assert "did not answer" in (replica.failed or "")
        held.set()
        await wait_for(lambda: replica.failed is None, timeout_secs=10, message="it is well")
        assert dump(path) == dump(tmp_path / "replica")
    finally:
        held.set()
        replica.close()


async def test_commits_during_a_copy_are_not_lost(tmp_path: Path) -> None:
    """The writer does not wait for a copy; what it commits meanwhile is carried out after it."""
    pair = Pair(tmp_path)
    try:
        for turn in range(6):
            pair.replica.unlink(missing_ok=True)
            for number in range(200):
                await pair.put(f"t{turn}", number, on_replica=False)
            await pair.recovered()
            await pair.put("end", turn)
            main, copy = pair.dumps()
            assert main == copy
    finally:
        pair.database.close()


@pytest.mark.parametrize("trouble", ["directory", "pipe", "garbage"])
async def test_a_start_without_a_replica_watches_and_refunds(pair: Pair, trouble: str) -> None:
    """It is said, what needs the replica waits, and it is made when it can be."""
    await pair.put("a", 1)
    pair.database.close()
    keep = pair.replica.with_suffix(".keep")
    pair.replica.rename(keep)
    if trouble == "directory":
        pair.replica.mkdir()
    elif trouble == "pipe":
        os.mkfifo(pair.replica)
    else:
        pair.replica.write_bytes(b"garbage" * 1000)
    pair.database = pair.open()
    assert pair.database.replica_problem is not None
    await pair.put("b", 2, on_replica=False)
    with pytest.raises(ReplicaFailure):
        pair.database.require_replica()
    if trouble == "directory":
        pair.replica.rmdir()
    else:
        pair.replica.unlink()
    keep.rename(pair.replica)
    await pair.recovered()
    main, copy = pair.dumps()
    assert main == copy
