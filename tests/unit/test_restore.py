"""`store.restore`: what is put in place, what is refused, and a death between two names."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lnliquid.errors import SettingsError
from lnliquid.store import coins
from lnliquid.store.backup import take_backup
from lnliquid.store.restore import restore
from lnliquid.store.sqlite import Database

from .builders import NOW, StillClock, migrated


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


@pytest.mark.parametrize("renames", range(3))
@pytest.mark.parametrize("source", ["replica", "backup"])
async def test_a_death_between_two_names_is_no_silent_start(
    files: Files, source: str, renames: int
) -> None:
    """The start is refused, or nothing was changed yet; a repetition ends well."""
    chosen = None
    if source == "replica":
        files.lose(files.database)
    else:
        chosen = files.backup
    with DyingPath.after(renames), contextlib.suppress(Dies):
        restore(files.database, files.replica, chosen, NOW, accept_older=True)
    try:
        files.open().close()
    except SettingsError:
        restore(files.database, files.replica, chosen, NOW + 1, accept_older=True)
        files.open().close()
        assert files.value() == (2 if source == "replica" else 1)
    else:
        assert files.value() == 2 or renames == 2


class Dies(Exception):
    """The power is cut."""


class DyingPath:
    """Lets so many files get another name."""

    @staticmethod
    @contextlib.contextmanager
    def after(renames: int) -> Iterator[None]:
        """The next one is not renamed."""
        original, left = Path.rename, renames

        def rename(self: Path, target: Path | str) -> Path:
            nonlocal left
            if left == 0:
                raise Dies
            left -= 1
            return original(self, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            yield
