"""`store.restore`: what is put in place, what is refused, and a death between two names."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lnliquid.domain.errors import SettingsError
from lnliquid.store import coins
from lnliquid.store import swaps as swap_store
from lnliquid.store.backup import take_backup
from lnliquid.store.database import Database
from lnliquid.store.restore import restore

from ..builders import NOW, StillClock, make_request, migrated, new_swap, stock


class Files:
    """A database with a replica, and a backup that is one commit older than both."""

    def __init__(self, folder: Path) -> None:
        self.database, self.replica = folder / "seller.sqlite", folder / "seller.replica"
        self.disk = folder / "disk"
        self.disk.mkdir()
        migrated(self.database)

    async def fill(self) -> None:
        """Three commits; the backup is taken after the second."""
        for number in range(3):
            if number == 2:
                self.backup = take_backup(self.database, self.disk, NOW).path
            database = self.open()
            await database.write(lambda tx, n=number: coins.set_cursor(tx, "n", n))  # type: ignore[misc]
            database.close()

    def open(self) -> Database:
        """As the daemon does. Raises `SettingsError`."""
        return Database(self.database, StillClock(), self.replica)

    def lose(self, path: Path) -> None:
        """Delete a database."""
        path.unlink()

    def leave_in_its_log(self) -> None:
        """Have all that the database holds but its first page in its log, as a kill leaves it."""
        whole = {}
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("UPDATE cursor SET value = 1 WHERE name = 'n'")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("UPDATE cursor SET value = 2 WHERE name = 'n'")
            for path in (self.database, Path(f"{self.database}-wal")):
                whole[path] = path.read_bytes()
        for path, content in whole.items():
            path.write_bytes(content)

    def kept(self) -> list[Path]:
        """What was there before a restore, under its other names."""
        return [path for path in self.database.parent.iterdir() if ".before-" in path.name]

    def value(self) -> int:
        """What the last commit wrote."""
        with closing(sqlite3.connect(self.database)) as connection:
            (found,) = connection.execute("SELECT value FROM cursor WHERE name = 'n'").fetchone()
        return int(found)


@pytest.fixture
async def files(tmp_path: Path) -> Files:
    """All three."""
    made = Files(tmp_path)
    await made.fill()
    return made


async def test_the_replica_takes_the_place_of_a_lost_database(files: Files) -> None:
    """All of it is there, private, and the daemon starts."""
    files.lose(files.database)
    done = restore(files.database, files.replica, None, NOW)
    assert (files.value(), done.kept) == (2, ())
    assert files.database.stat().st_mode & 0o777 == 0o600
    files.open().close()


async def test_what_was_there_is_kept(files: Files) -> None:
    """A damaged database is not looked at, and not thrown away."""
    files.database.write_bytes(b"damaged" * 1000)
    (kept,) = restore(files.database, files.replica, None, NOW).kept
    assert kept.read_bytes() == b"damaged" * 1000
    assert files.value() == 2


async def test_an_older_backup_needs_a_word_for_it(files: Files) -> None:
    """With it the replica, which is ahead, is kept elsewhere, and the daemon starts."""
    with pytest.raises(SettingsError, match="is older than"):
        restore(files.database, files.replica, files.backup, NOW)
    assert files.value() == 2
    done = restore(files.database, files.replica, files.backup, NOW, accept_older=True)
    assert (files.value(), len(done.kept)) == (1, 2)
    files.open().close()
    assert files.replica.exists()


@pytest.mark.parametrize("lost", ["replica", "database", "both"])
async def test_a_backup_with_nobody_to_tell_how_old_it_is(files: Files, lost: str) -> None:
    """One file that is left tells; with none, the word is needed."""
    for path in {"both": (files.database, files.replica)}.get(lost, (getattr(files, lost, None),)):
        assert path is not None
        files.lose(path)
    with pytest.raises(SettingsError) as told:
        restore(files.database, files.replica, files.backup, NOW)
    wanted = "nothing here tells" if lost == "both" else "is older than"
    assert wanted in str(told.value)


@pytest.mark.parametrize("changes", range(7))
@pytest.mark.parametrize("source", ["replica", "backup", "backup alone"])
async def test_a_death_between_two_names_is_no_silent_start(
    files: Files, source: str, changes: int
) -> None:
    """The start is refused, or nothing was changed yet; a repetition ends well.

    The daemon was killed: what it wrote last is in the log beside the database.
    """
    chosen = None if source == "replica" else files.backup
    wanted = 2 if source == "replica" else 1
    if source == "replica":
        files.lose(files.database)
    else:
        files.leave_in_its_log()
    if source == "backup alone":
        files.lose(files.replica)
    has_died = False
    with DyingFiles.after(changes):
        try:
            restore(files.database, files.replica, chosen, NOW, accept_older=True)
        except Dies:
            has_died = True
    try:
        files.open().close()
    except SettingsError:
        assert has_died
        restore(files.database, files.replica, chosen, NOW + 1, accept_older=True)
        files.open().close()
        assert files.value() == wanted
    else:
        assert files.value() == wanted or (has_died and files.value() == 2)
        assert files.value() == 2 or files.kept()


async def test_a_damaged_database_that_is_not_older_is_replaced(files: Files) -> None:
    """Its first pages can be read, and tell that it has counted as many commits."""
    filler = "x" * 3000
    with closing(sqlite3.connect(files.database, isolation_level=None)) as connection:
        for number in range(60):
            connection.execute("INSERT INTO identity VALUES (?, ?)", (f"n{number}", filler))
    files.replica.unlink()
    files.open().close()
    with pytest.raises(SettingsError, match="holds all"):
        restore(files.database, files.replica, None, NOW)
    size = files.database.stat().st_size
    with files.database.open("r+b") as file:
        file.seek(size - 40_000)
        file.write(b"damaged" * 5000)
    restore(files.database, files.replica, None, NOW)
    files.open().close()
    assert files.value() == 2


@pytest.mark.parametrize("swaps", [2, 3, 5])
async def test_an_old_replica_that_comes_back_is_not_taken_for_a_copy(
    tmp_path: Path, swaps: int
) -> None:
    """An older backup was restored without it: both counted on from there, each by itself."""
    files = Files(tmp_path)

    async def sell(numbers: range) -> None:
        database = files.open()
        for number in numbers:
            new = new_swap(make_request(number))
            await database.write(lambda tx, new=new: swap_store.create(tx, new))  # type: ignore[misc]
        database.close()

    database = files.open()
    await stock(database)
    database.close()
    backup = take_backup(files.database, files.disk, NOW).path
    await sell(range(3))
    old = files.replica.rename(tmp_path / "not mounted")
    files.lose(files.database)
    restore(files.database, files.replica, backup, NOW, accept_older=True)
    await sell(range(10, 10 + swaps))
    files.lose(files.replica)
    old.rename(files.replica)
    before = files.replica.read_bytes(), files.database.read_bytes()
    with pytest.raises(SettingsError):
        files.open()
    with pytest.raises(SettingsError):
        restore(files.database, files.replica, None, NOW)
    assert (files.replica.read_bytes(), files.database.read_bytes()) == before


class Dies(Exception):
    """The power is cut."""


class DyingFiles:
    """Lets so many names be made, changed or removed."""

    @staticmethod
    @contextlib.contextmanager
    def after(changes: int) -> Iterator[None]:
        """The next one, and all that would follow, are not done."""
        left = changes

        def dying(original: Callable[..., Any]) -> Callable[..., Any]:
            def change(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Dies
                return original(*arguments, **named)

            return change

        with pytest.MonkeyPatch.context() as patch:
            for place, name in ((Path, "rename"), (Path, "unlink"), (os, "link")):
                patch.setattr(place, name, dying(getattr(place, name)))
            yield
