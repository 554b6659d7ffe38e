"""Is the database that is open still the one of that name, on the disk and in content?

SQLite goes on in a file that was deleted or replaced, and in a log that was: what it commits then
is gone at the next start. So sales stop, and what moves the seller's coins to buyers; refunds and
watching go on, as each commit is on the replica too.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from lnliquid.domain.errors import SettingsError
from lnliquid.store.replica import read_stamp

COMPANIONS = ("", "-wal", "-shm")
HINT = "stop the daemon, then `lnliquid restore` puts the replica, which has every commit, in place"


def require_sound(path: Path, replica: Path | None) -> None:
    """Check a database whose log was left by a process that was killed. Raises `SettingsError`.

    The log may be another copy's, as when a backup was put over the file: SQLite mixes the two.
    It takes as long as reading the file does, and changes nothing.
    """
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size and (problem := damage(path, replica)) is not None:
        raise SettingsError(
            (f"the database {path} does not belong to the log {log}, or is damaged: {problem}",),
            hint="`lnliquid restore` puts the replica, which has every commit, in its place",
        )


def damage(path: Path, replica: Path | None) -> str | None:
    """What is wrong in a database, by itself and beside a replica that has as many commits."""
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            if rows != ["ok"]:
                return rows[0]
            return None if replica is None else _difference(connection, path, replica)
    except sqlite3.Error as error:
        return str(error)


def _difference(database: sqlite3.Connection, path: Path, replica: Path) -> str | None:
    """Where a replica of the same number of commits holds other numbers of rows."""
    try:
        ours, copied = read_stamp(path), read_stamp(replica)
        if ours is None or copied is None or ours.commits != copied.commits:
            return None
        with closing(sqlite3.connect(_uri(replica), uri=True)) as other:
            counts = _counts(database), _counts(other)
    except (sqlite3.Error, OSError):  # of the replica, which is looked at elsewhere
        return None
    names = [name for name in counts[0] if counts[0][name] != counts[1].get(name)]
    return f"its replica holds other rows of {', '.join(names)}" if names else None


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    tables = [str(row[0]) for row in connection.execute(names)]
    count = 'SELECT count(*) FROM "{}"'
    return {name: connection.execute(count.format(name)).fetchone()[0] for name in tables}


def _uri(path: Path) -> str:
    """For reading alone, so that the log is not written into the file."""
    return f"file:{quote(str(path))}?mode=ro"


class FileIdentity:
    """The files of an open database, as they were when it was opened."""

    def __init__(self, path: Path, file: int) -> None:
        """`file`: the open database. A connection stays open, so SQLite keeps its log too."""
        self._path = path
        self._files = {end: Path(f"{path}{end}").stat() for end in COMPANIONS[1:]}
        self._files[""] = os.fstat(file)
        stamp = read_stamp(path)
        self._database_id = None if stamp is None else stamp.database_id

    def problem(self) -> str | None:
        """Which file was deleted or replaced, and what to do; None while all are in place."""
        for end in COMPANIONS:
            path = Path(f"{self._path}{end}")
            try:
                if os.path.samestat(self._files[end], path.stat()):
                    continue
                done = "replaced"
            except FileNotFoundError:
                done = "deleted"
            except OSError as error:
                done = f"made unreachable ({error.strerror})"
            return f"{path} was {done} while the daemon ran; {HINT}"
        return None

    def content_problem(self, commits: int) -> str | None:
        """What another process would read there that is not what was written; None when it is.

        `commits`: how many were made before this was asked.
        """
        try:
            stamp = read_stamp(self._path)
        except (sqlite3.Error, OSError) as error:
            return f"{self._path} cannot be read ({error}); {HINT}"
        if stamp is not None and self._database_id is None:
            self._database_id = stamp.database_id  # a new database gets it soon after
        if stamp is None or stamp.database_id != self._database_id or stamp.commits < commits:
            return f"{self._path} was overwritten with another database or a backup; {HINT}"
        return None
