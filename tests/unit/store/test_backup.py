"""`lnliquid backup`: a whole, checked, private copy of a database that is being written."""

import asyncio
import json
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lnliquid.domain.errors import SettingsError, StoreFailure
from lnliquid.store import swaps as store
from lnliquid.store.backup import backups, take_backup
from lnliquid.store.database import Database, Transaction, copy_file, read_file

from ..builders import ASSET, NOW, StillClock, count_rows, make_request, new_swap, stock
from ..fakes import DEADLINE_SECS, Gate

NAME = "seller-20270115T080000Z.sqlite"
"""Of a backup at `NOW`."""
MOST_BACKUPS = 20
"""Taken until commits fell into one of them, which on a busy machine may not be the first."""
STEP = 2
"""Swaps that a storm creates at once."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the live database is."""
    (tmp_path / "live").mkdir()
    return tmp_path / "live" / "seller.sqlite"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where backups go."""
    made = tmp_path / "other disk"
    made.mkdir()
    return made


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """A fresh database with coins for many swaps."""
    made = Database(path, StillClock())
    await stock(made, 10**12, 10**12)
    yield made
    made.close()


class Storm:
    """Swaps that are created one group commit after another until it is told to stop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = asyncio.Event()
        self._grew = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.acknowledged = 0

    async def _blow(self) -> None:
        while not self._stop.is_set():
            first = self.acknowledged
            numbers = range(first, first + STEP)
            await asyncio.gather(*(self._create(number) for number in numbers))
            self.acknowledged = numbers.stop
            self._grew.set()

    async def _create(self, number: int) -> None:
        new = new_swap(make_request(number), max_inflight=10**6)
        await self._database.write(lambda session: store.create(session, new))

    async def grows(self) -> None:
        """Wait until more swaps are on the disk than now."""
        self._grew.clear()
        async with asyncio.timeout(DEADLINE_SECS):
            await self._grew.wait()

    async def __aenter__(self) -> "Storm":
        self._task = asyncio.create_task(self._blow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task


def command(path: Path, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """`lnliquid backup` as a process of its own, with its settings in the environment."""
    settings = {
        "NETWORK": "liquid-regtest",
        "ASSET_ID": ASSET,
        "PRICE_MSAT_PER_ASSET_UNIT": "1000",
        "DATABASE": str(path),
        "MNEMONIC_FILE": "not-read",
        "ELECTRUM_URL": "tcp://127.0.0.1:1",
        "LIGHTNING_RPC": "not-asked",
    }
    return subprocess.run(
        [sys.executable, "-m", "lnliquid", "backup", *arguments],
        env={**os.environ, **{f"LNLIQUID_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def listing(directory: Path) -> list[str]:
    """Names of the files in it."""
    return sorted(path.name for path in directory.iterdir())


def require_whole(copy: Path, at_least: int, at_most: int) -> int:
    """Require swaps in whole transactions, as if the writer had stopped after one of them."""
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        keys = [k for (k,) in connection.execute("SELECT key_index FROM swap ORDER BY 1")]
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (len(keys),)
    assert keys == list(range(len(keys)))  # none is missing before the last
    assert at_least <= len(keys) <= at_most
    return len(keys)


async def test_a_backup_in_a_storm_of_writes_is_one_moment_of_it(
    database: Database, path: Path, disk: Path
) -> None:
    """All that was committed before is in it, nothing is half in it, and the writer goes on."""
    # So large that a copy takes a while.
    ballast = text("INSERT INTO cursor SELECT hex(randomblob(10000000)), 1")
    await database.write(lambda session: session.execute(ballast).close())
    sizes: list[int] = []
    committed_meanwhile = 0
    async with Storm(database) as storm:
        while len(sizes) < 4 or (not committed_meanwhile and len(sizes) < MOST_BACKUPS):
            await storm.grows()
            before, commits = storm.acknowledged, database.commits
            done = await asyncio.to_thread(take_backup, path, disk, NOW + len(sizes), keep=2)
            committed_meanwhile += database.commits - commits
            sizes.append(require_whole(done.path, before, storm.acknowledged + STEP))
            assert (done.swaps, done.last_event) == (sizes[-1], sizes[-1])
    assert sizes == sorted(set(sizes))
    assert committed_meanwhile > 0, "there was no storm while backups were taken"
    assert listing(disk) == [path.name for path in backups(disk, "seller")]
    # And a daemon starts on it, with all that it held.
    again = Database(backups(disk, "seller")[-1], StillClock())
    assert (await again.read(count_rows))["swap"] == sizes[-1]
    again.close()


async def test_a_transaction_that_is_open_is_not_waited_for_and_not_in_the_copy(
    database: Database, path: Path, disk: Path
) -> None:
    """However long the writer is in the middle of something; it then commits as if alone."""
    gate = Gate()

    def half_done(session: Transaction) -> None:
        store.create(session, new_swap(make_request(1)))
        session.flush()
        gate(session)

    await database.write(lambda session: store.create(session, new_swap(make_request(0))))
    writing = asyncio.create_task(database.write(half_done))
    await gate.reached()
    done = await asyncio.to_thread(take_backup, path, disk, NOW)
    assert not writing.done()
    assert require_whole(done.path, 1, 1) == done.swaps
    gate.open()
    await writing
    assert (await database.read(count_rows))["swap"] == 2


async def test_the_command_beside_a_daemon_that_writes(
    database: Database, path: Path, disk: Path
) -> None:
    """Another process copies while this one writes; JSON says what is in the copy; mode 0600."""
    async with Storm(database) as storm:
        done = await asyncio.to_thread(command, path, str(disk), "--json")
        at_most = storm.acknowledged + STEP
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    copy = Path(told["path"])
    assert told["swaps"] == require_whole(copy, 1, at_most)
    with closing(sqlite3.connect(path)) as connection:
        [(revision,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert told["revision"] == revision
    status = os.stat(copy)  # noqa: PTH116 (quick, and no other task waits)
    assert told["size_bytes"] == status.st_size
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert told["removed"] == []
    assert "same file system" in done.stderr


async def test_what_a_killed_daemon_left_is_copied_and_not_touched(
    database: Database, path: Path, disk: Path, tmp_path: Path
) -> None:
    """Its newest commits are in the -wal file alone; they are in the copy too."""
    async with Storm(database) as storm:
        await storm.grows()
    left = tmp_path / "left"
    shutil.copytree(path.parent, left)
    files = {p.name: p.read_bytes() for p in left.iterdir() if not p.name.endswith("-shm")}
    assert len(files["seller.sqlite-wal"]) > 0
    done = take_backup(left / path.name, disk, NOW)
    assert done.swaps == (await database.read(count_rows))["swap"]
    assert {name: (left / name).read_bytes() for name in files} == files


async def test_nothing_is_overwritten(database: Database, path: Path, disk: Path) -> None:
    """Neither a backup of the same second nor one that is being written."""
    (disk / NAME).write_text("mine")
    with pytest.raises(SettingsError, match="exists already"):
        take_backup(path, disk, NOW)
    assert (disk / NAME).read_text() == "mine"
    (disk / f".{NAME}.part").write_text("another's")
    with pytest.raises(SettingsError, match="another backup"):
        take_backup(path, disk, NOW)
    assert (disk / f".{NAME}.part").read_text() == "another's"
    del database


async def test_old_backups_of_this_database_are_removed_when_asked(
    database: Database, path: Path, disk: Path
) -> None:
    """The newest stay; what only looks similar is left alone."""
    others = ["seller-notes.txt", "seller2-20270101T000000Z.sqlite", f"{NAME}.old"]
    for name in others:
        (disk / name).write_text("")
    done = [take_backup(path, disk, NOW + turn, keep=2) for turn in range(4)]
    assert [d.removed for d in done] == [(), (), (done[0].path,), (done[1].path,)]
    assert listing(disk) == sorted([*others, done[2].path.name, done[3].path.name])
    del database


async def test_a_damaged_database_gives_no_backup_and_costs_no_old_one(
    database: Database, path: Path, disk: Path
) -> None:
    """The copy is checked before anything older is removed."""
    async with Storm(database) as storm:
        await storm.grows()
        good = await asyncio.to_thread(take_backup, path, disk, NOW - 1)
    database.close()
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'swap'"
        ).fetchone()[0]
        page = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * page + page // 2)
        file.write(b"\xff" * (page // 2))
    done = command(path, str(disk), "--keep", "1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["exit_code"] == 1
    assert "damaged" in done.stderr or "malformed" in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(disk) == [good.path.name]


async def test_rows_that_refer_to_nothing_are_damage(
    database: Database, path: Path, disk: Path
) -> None:
    """SQLite's own check of the pages does not look at foreign keys."""
    with closing(sqlite3.connect(path)) as connection:  # foreign keys are off here
        connection.execute("INSERT INTO event VALUES (1, 'no such swap', NULL, 1, '', '', 1, 1)")
        connection.commit()
    with pytest.raises(StoreFailure, match="a row of event refers to a row of swap"):
        take_backup(path, disk, NOW)
    assert listing(disk) == []
    del database


async def test_a_schema_that_is_not_known_is_refused(
    database: Database, path: Path, disk: Path
) -> None:
    """What this program cannot read it cannot vouch for."""
    change = text("UPDATE alembic_version SET version_num = '9999'")
    await database.write(lambda session: session.execute(change).close())
    with pytest.raises(SettingsError, match="has the schema 9999"):
        take_backup(path, disk, NOW)
    assert listing(disk) == []


async def test_a_full_disk_leaves_nothing(database: Database, path: Path, disk: Path) -> None:
    """Exit code 1, the reason, and no half copy that somebody might take for a whole one."""

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    done = command(path, str(disk), preexec_fn=limit_file_size)
    assert done.returncode == 1, done.stderr
    assert "disk" in done.stderr
    assert listing(disk) == []
    del database


def test_wrong_places_are_named(path: Path, disk: Path) -> None:
    """A missing directory is not made, for it may be a disk that is not mounted."""
    with pytest.raises(SettingsError, match="there is no database"):
        take_backup(path, disk, NOW)
    Database(path, StillClock()).close()
    with pytest.raises(SettingsError, match="there is no directory"):
        take_backup(path, disk / "not mounted", NOW)
    done = command(path, str(disk / "not mounted"))
    assert (done.returncode, list(disk.iterdir())) == (2, [])
    assert "there is no directory" in done.stderr


async def test_a_long_lock_is_not_waited_for_for_ever(
    database: Database, path: Path, disk: Path
) -> None:
    """A process that keeps the file to itself makes the backup fail, with the reason."""
    database.close()
    locked, release = threading.Event(), threading.Event()

    def lock() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("UPDATE alembic_version SET version_num = version_num")
            locked.set()
            release.wait(60)

    holder = threading.Thread(target=lock)
    holder.start()
    try:
        assert await asyncio.to_thread(locked.wait, 10)
        with pytest.raises(StoreFailure, match="locked"):
            await asyncio.to_thread(copy_file, path, disk / "copy", busy_attempts=2)
    finally:
        release.set()
        holder.join()


async def test_a_backup_reads_as_a_database(database: Database, path: Path, disk: Path) -> None:
    """The tools that read a database take a copy too, without files beside it."""
    done = take_backup(path, disk, NOW)
    rows = await database.read(count_rows)
    assert read_file(done.path, count_rows) == rows | {"cursor": rows["cursor"] + 1}  # its mark
    assert listing(disk) == [NAME]
