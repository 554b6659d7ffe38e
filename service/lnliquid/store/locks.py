"""The lock on the database's own file."""

import os
from pathlib import Path

from lnliquid.domain.errors import SettingsError
from lnliquid.file_locks import Locked, locked


def database_file(path: Path) -> int:
    """Open or make the database's file, mode 0600, and lock it. Raises `SettingsError`.

    SQLite's own locks are others (fcntl), which end when the process closes any descriptor of the
    file: close this one last.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = locked(path, os.O_RDWR | os.O_CREAT)
        os.fchmod(file, 0o600)  # it may have been there before, or come out of a backup
    except Locked:
        raise in_use(path) from None
    except OSError as error:
        raise SettingsError((f"database {path} cannot be opened: {error.strerror}",)) from None
    return file


def in_use(database: Path) -> SettingsError:
    """The refusal of a second process on a database."""
    return SettingsError(
        (f"another daemon runs on the database {database}",),
        hint="one inventory has one daemon; stop the other or name another database",
    )
