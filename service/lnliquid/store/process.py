"""One process at a time writes a database: the daemon, or a command while the daemon is stopped."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lnliquid.errors import SettingsError
from lnliquid.store.sqlite import Database


class MachineClock:
    """The machine's clock."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())


@contextmanager
def only_process(database: Path) -> Iterator[None]:
    """Refuse a second process on one database (`SettingsError`). The lock ends with the process."""
    database.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(database.with_name(database.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise SettingsError(
            (f"another daemon runs on the database {database}",),
            hint="one inventory has one daemon; stop the other or name another database",
        ) from None
    try:
        yield
    finally:
        os.close(file)


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """The database, made or brought up to date, closed at the end. Within `only_process`."""
    database = Database(path, MachineClock())
    try:
        yield database
    finally:
        database.close()
