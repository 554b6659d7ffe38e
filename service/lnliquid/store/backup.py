"""Backups of the database: checked copies of one moment, files that appear whole or not at all.

A backup is named `<database>-<time, UTC>.sqlite`. It is one file, private (mode 0600), and is never
overwritten.
"""

import os
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlmodel import col

from lnliquid.domain.errors import SettingsError, StoreFailure
from lnliquid.store.database import Transaction, copy_file, read_file
from lnliquid.store.replica import BACKUP
from lnliquid.store.schema import current_revision
from lnliquid.store.tables import EventRow, SwapRow


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made and checked."""

    path: Path
    size_bytes: int
    revision: str
    """Migration that the copy is at."""
    swaps: int
    last_event: int
    """Number of the newest event in it, 0 without one."""
    removed: tuple[Path, ...]
    """Older backups that were removed."""


def take_backup(database: Path, directory: Path, now: int, keep: int | None = None) -> Backup:
    """Copy `database` into `directory`, check the copy, then remove all but the newest `keep`.

    `now`: unix seconds, for the name. The daemon may be running. Raises `SettingsError` when
    database or directory are not there or a backup of this second exists, and `StoreFailure` when
    the copy cannot be made or is not sound; nothing is left of it then, and nothing was removed.
    Also `StoreFailure`, after the copy is made, when an older one cannot be removed.
    """
    if not database.is_file():
        raise SettingsError((f"there is no database {database}",), hint="")
    if not directory.is_dir():  # not made here: it may be a disk that is not mounted
        raise SettingsError((f"there is no directory {directory}",), hint="")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    path = directory / f"{database.stem}-{stamp}.sqlite"
    unfinished = path.with_name(f".{path.name}.part")
    try:
        # Whoever has made this file owns the name, so that looking at `path` is no race.
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise SettingsError((f"another backup is writing {unfinished}",), hint="") from None
    except OSError as error:
        raise StoreFailure(f"{directory} cannot be written: {error.strerror}") from None
    try:
        if path.exists():
            raise SettingsError((f"{path} exists already and is left as it is",), hint="")
        copy_file(database, unfinished)
        set_mark(unfinished, now)
        revision, swaps, last_event = read_file(unfinished, _contents)
        sync(unfinished)
        unfinished.rename(path)
        sync(directory)
    except OSError as error:
        raise StoreFailure(f"{path} cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    removed = () if keep is None else _remove_old(path, database.stem, keep)
    return Backup(path, path.stat().st_size, revision, swaps, last_event, removed)


def backups(directory: Path, stem: str) -> list[Path]:
    """Finished backups of the database whose file name begins with `stem`, oldest first."""
    name = re.compile(re.escape(stem) + r"-\d{8}T\d{6}Z\.sqlite")
    return sorted(path for path in directory.iterdir() if name.fullmatch(path.name))


def _remove_old(made: Path, stem: str, keep: int) -> tuple[Path, ...]:
    old = backups(made.parent, stem)[:-keep]
    for path in old:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreFailure(
                f"{made} is made; the old {path} cannot be removed: {error.strerror}"
            ) from None
    return tuple(old)


def set_mark(path: Path, taken_at: int | None) -> None:
    """Say in a copy that it is one, and of when; None takes that away.

    A daemon does not start on a copy that was only put in place, see `replica.check_pair`.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM cursor WHERE name = ?", (BACKUP,))
            if taken_at is not None:
                connection.execute("INSERT INTO cursor VALUES (?, ?)", (BACKUP, taken_at))
    except sqlite3.Error as error:
        raise StoreFailure(str(error)) from None


def _contents(session: Transaction) -> tuple[str, int, int]:
    swaps = session.scalar(select(func.count()).select_from(SwapRow)) or 0
    last_event = session.scalar(select(func.max(col(EventRow.seq)))) or 0
    return str(current_revision(session.connection())), swaps, last_event


def sync(path: Path) -> None:
    """Force a file or a directory to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
