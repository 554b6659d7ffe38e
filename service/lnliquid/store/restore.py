"""Putting a replica or a backup in the place of a lost, damaged or older database."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lnliquid.domain.errors import SettingsError, StoreFailure
from lnliquid.store.backup import set_mark, sync
from lnliquid.store.database import copy_file
from lnliquid.store.file_identity import damage
from lnliquid.store.replica import Stamp, lacks, read_stamp

DANGER = (
    "what was done since then would be forgotten: this daemon would not refund what was locked, "
    "and would sell again for a request that was answered"
)


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place, and the names of what was there before."""

    database: Path
    source: Path
    commits: int
    kept: tuple[Path, ...]


def restore(
    database: Path, replica: Path, source: Path | None, now: int, *, accept_older: bool = False
) -> Restored:
    """Copy `source` (the replica, if none is named) to the place of `database`.

    What was there is kept under another name, and so is a replica that would be ahead. Within
    `only_process`. `now`: unix seconds, for those names. Raises `SettingsError` when `source` is no
    database of this one, is not newer than it, or when another file is newer, or none is there to
    tell, unless `accept_older`: nothing is changed. `StoreFailure` when it cannot be written: a
    repetition goes on from there.
    """
    source = (source or replica).resolve()
    database, replica = database.resolve(), replica.resolve()
    stamp = _readable(source)
    if stamp is None:
        raise SettingsError((f"{source} is no database of this program, or is damaged",), hint="")
    others = {p: s for p in (database, replica) if p != source and (s := _readable(p)) is not None}
    for path, other in others.items():
        if None not in (other.database_id, stamp.database_id) and (
            other.database_id != stamp.database_id
        ):
            raise SettingsError((f"{source} is not of the same database as {path}",), hint="")
        if accept_older:
            continue
        hint = f"keep or restore {path}, or add --accept-older"
        if other.commits > stamp.commits:
            raise SettingsError(
                (
                    f"{source} is older than {path}: it has {stamp.commits} commits and the other "
                    f"{other.commits}; {DANGER}",
                ),
                hint,
            )
        if lacks(source, other):
            raise SettingsError(
                (f"{source} lacks swaps that {path} holds, one was restored; {DANGER}",), hint
            )
    if others.get(database) == stamp and damage(database, source) is None:
        raise SettingsError((f"{database} holds all that {source} does",), hint="")
    if source != replica and not others and not accept_older:
        raise SettingsError(
            (f"nothing here tells how old {source} is; {DANGER}",),
            hint="if it is the newest copy that there is, add --accept-older",
        )
    return Restored(database, source, stamp.commits, _put(database, replica, source, now))


def _readable(path: Path) -> Stamp | None:
    try:
        return read_stamp(path)
    except (sqlite3.Error, OSError):
        return None


def _put(database: Path, replica: Path, source: Path, now: int) -> tuple[Path, ...]:
    partial = database.with_name(f".{database.name}.restoring")
    ending = time.strftime(".before-%Y%m%dT%H%M%SZ", time.gmtime(now))
    kept: list[Path] = []
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        copy_file(source, partial)
        set_mark(partial, None)
        sync(partial)
        # At each moment the database is what it was, or the new one.
        kept += _keep(database, ending)
        partial.rename(database)
        sync(database.parent)
        if source != replica:
            kept += _keep(replica, ending)
            replica.unlink(missing_ok=True)
    except OSError as error:
        raise StoreFailure(f"{database} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return tuple(kept)


def _keep(path: Path, ending: str) -> list[Path]:
    """Give a database a second name, with all that was committed. Returns that name."""
    kept = Path(f"{path}{ending}")
    try:
        # Its log goes into it, or it would be older without; closing it then removes the log.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as old:
            (is_busy, _, _) = old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise StoreFailure(f"another process uses {path}")
    except sqlite3.Error:
        pass  # missing or damaged: no daemon starts on it either
    found = path.exists()
    if found:
        try:
            os.link(path, kept)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            shutil.copy2(path, kept)
            sync(kept)
    for end in ("-wal", "-shm"):
        if (log := Path(f"{path}{end}")).exists():
            log.rename(f"{kept}{end}")
    return [kept] if found else []
