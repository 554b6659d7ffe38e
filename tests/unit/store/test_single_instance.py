"""One process a database and a wallet, under any file name: tried with real processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lnliquid.domain.errors import SettingsError
from lnliquid.store.single_instance import only_process, opened

from ..builders import SELLER_WORDS, migrated

HOLDER = """
import sys
from pathlib import Path
from lnliquid.store.single_instance import only_process, opened
database, mnemonic = map(Path, sys.argv[1:])
with only_process(database, mnemonic), opened(database):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database and a mnemonic beside it."""
    (tmp_path / "mnemonic").write_text(SELLER_WORDS)
    (tmp_path / "other").mkdir()
    return migrated(tmp_path / "seller.sqlite")


@pytest.fixture
def daemon(database: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the database open, as a daemon has."""
    arguments = [sys.executable, "-c", HOLDER, str(database), str(database.parent / "mnemonic")]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def start(database: Path, mnemonic: Path | None = None) -> None:
    """What a second daemon does first, and a command that writes."""
    with only_process(database, mnemonic), opened(database):
        pass


def same(database: Path) -> Path:
    """The path as it is."""
    return database


def relative(database: Path) -> Path:
    """From another directory."""
    return Path(os.path.relpath(database))


def symlink(database: Path) -> Path:
    """In another directory."""
    link = database.parent / "other" / "link.sqlite"
    link.symlink_to(database)
    return link


def hard_link(database: Path) -> Path:
    """The same file under another name, which no path tells."""
    link = database.parent / "other" / "hard.sqlite"
    link.hardlink_to(database)
    return link


def linked_directory(database: Path) -> Path:
    """A link above it."""
    link = database.parent / "other" / "folder"
    link.symlink_to(database.parent)
    return link / database.name


def lock_deleted(database: Path) -> Path:
    """By a person who takes it for a leftover."""
    database.with_name(database.name + ".lock").unlink()
    return database


def lock_replaced(database: Path) -> Path:
    """A new file of that name, which no process has locked."""
    lock = database.with_name(database.name + ".lock")
    fresh = lock.with_name("fresh")
    fresh.touch()
    fresh.replace(lock)
    return database


def database_replaced(database: Path) -> Path:
    """A backup put in its place while the daemon runs."""
    backup = database.with_name("backup")
    shutil.copyfile(database, backup)
    backup.replace(database)
    return database


def directory_moved(database: Path) -> Path:
    """Database, lock and all, under another name."""
    moved = database.parent / "other" / "moved.sqlite"
    database.rename(moved)
    database.with_name(database.name + ".lock").unlink()
    return moved


@pytest.mark.parametrize(
    "way",
    [
        same, relative, symlink, hard_link, linked_directory, lock_deleted, lock_replaced,
        database_replaced, directory_moved,
    ],
)  # fmt: skip
@pytest.mark.usefixtures("daemon")
def test_a_second_process_on_a_database_is_refused(
    database: Path, way: Callable[[Path], Path]
) -> None:
    """Also without the wallet's words, as a command may come; and the path it gave is named."""
    named = way(database)
    with pytest.raises(SettingsError, match="another daemon runs on the database") as refused:
        start(named)
    assert str(named) in str(refused.value)


def test_a_start_after_the_end_of_the_other_is_free(
    database: Path, daemon: subprocess.Popen[str]
) -> None:
    """SIGKILL leaves no lock behind."""
    with pytest.raises(SettingsError):
        start(database)
    daemon.kill()
    daemon.wait()
    start(database, database.parent / "mnemonic")


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.usefixtures("daemon")
def test_two_databases_of_one_mnemonic_file_are_refused(
    database: Path, link: Callable[[Path, Path], None] | None
) -> None:
    """A copy of the database started beside it, or a fresh one; the file may be linked."""
    mnemonic = database.parent / "mnemonic"
    if link is not None:
        link(mnemonic, database.parent / "other" / "words")
        mnemonic = database.parent / "other" / "words"
    copy = database.parent / "copy.sqlite"
    for path in (copy, database.parent / "fresh.sqlite"):
        with pytest.raises(SettingsError, match="another daemon runs with the mnemonic_file"):
            start(path, mnemonic)
        assert not path.exists()


def test_a_mnemonic_that_may_only_be_read_is_locked_too(database: Path) -> None:
    """As on a volume that is mounted read-only."""
    mnemonic = database.parent / "mnemonic"
    mnemonic.chmod(0o400)
    with only_process(database, mnemonic), pytest.raises(SettingsError, match="mnemonic_file"):
        start(database.with_name("copy.sqlite"), mnemonic)


def test_a_lock_that_cannot_be_written_is_named(database: Path) -> None:
    """In one line with the reason, not with a traceback."""
    (database.parent / "file").touch()
    lock = database.with_name(database.name + ".lock")
    lock.mkdir()
    with pytest.raises(SettingsError, match=f"{lock}.*cannot be written: Is a directory"):
        start(database)
    with pytest.raises(SettingsError, match=r"cannot be written"):
        start(database.parent / "file" / "seller.sqlite")


@pytest.mark.parametrize("name", ["seller.sqlite.lock", "mnemonic"])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_lock_that_is_taken_away_is_noticed(database: Path, name: str, is_replaced: bool) -> None:
    """Another process could have it then, and so run beside this one."""
    path = database.parent / name
    with only_process(database, database.parent / "mnemonic") as held:
        assert held.problem() is None
        copy = shutil.copyfile(path, database.parent / "copy")
        path.unlink()
        if is_replaced:
            copy.rename(path)
        assert str(path) in (held.problem() or "")
