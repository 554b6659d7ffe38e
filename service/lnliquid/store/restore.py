"""Putting a replica or a backup in the place of a lost, damaged or older database."""

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from lnliquid.errors import SettingsError, StoreFailure
from lnliquid.store.backup import set_mark, sync
from lnliquid.store.replica import Stamp, read_stamp
from lnliquid.store.sqlite import copy_file

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
    source = source or replica
    stamp = _readable(source)
    if stamp is None:
        raise SettingsError((f"{source} is no database of this program, or is damaged",), hint="")
    others = {p: s for p in (database, replica) if p != source and (s := _readable(p)) is not None}
    for path, other in others.items():
        if None not in (other.database_id, stamp.database_id) and (
            other.database_id != stamp.database_id
        ):
            raise SettingsError((f"{source} is not of the same database as {path}",), hint="")
        if other.commits > stamp.commits and not accept_older:
            raise SettingsError(
                (
                    f"{source} is older than {path}: it has {stamp.commits} commits and the other "
                    f"{other.commits}; {DANGER}",
                ),
                hint=f"keep or restore {path}, or add --accept-older",
            )
    if others.get(database) == stamp:
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
        # A death in between leaves a database that is missing, or older than the replica: refused.
        kept += _moved(database, ending)
        partial.rename(database)
        sync(database.parent)
        if source != replica:
            kept += _moved(replica, ending)
    except OSError as error:
        raise StoreFailure(f"{database} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return tuple(kept)


def _moved(path: Path, ending: str) -> list[Path]:
    """Give a database another name, and what SQLite keeps beside it. Returns the new name."""
    kept = Path(f"{path}{ending}")
    # The logs first: without its database SQLite does not look at one.
    for end in ("-wal", "-shm", ""):
        if (old := Path(f"{path}{end}")).exists():
            old.rename(f"{kept}{end}")
    return [kept] if kept.exists() else []
