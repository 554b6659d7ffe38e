"""Locks on files, which end with the process that holds them (flock)."""

import fcntl
import os
from pathlib import Path


class Locked(Exception):
    """Another process holds the lock."""


def locked(path: Path, flags: int) -> int:
    """Open the file, lock what has its name now, and return the descriptor: closing it unlocks.

    The lock is on the file and not on its name, so that links and mounts do not matter. Raises
    `Locked`, and `OSError` when it cannot be opened.
    """
    while True:
        file = os.open(path, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_in_place(file, path):
                return file
        except BlockingIOError:
            os.close(file)
            raise Locked from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # it was deleted or replaced between opening and locking


def is_in_place(file: int, path: Path) -> bool:
    """True while the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False
