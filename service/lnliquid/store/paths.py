"""Can a file be written? It is tried, as rights, mounts and what is in the way all count."""

import os
import stat
from pathlib import Path
from tempfile import TemporaryFile


def file_refusal(path: Path) -> str | None:
    """Why this file cannot be read and written, or made in its directory; None when it can be.

    It may be missing, its directory too. Nothing is changed. Never ask of a database that this
    process has open: to close any descriptor of its file ends SQLite's locks.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "it is not a regular file"
        os.close(os.open(path, os.O_RDWR | os.O_APPEND))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def directory_refusal(directory: Path, *, fill: bool = False) -> str | None:
    """Why no file can be made in this directory, None when one can be; it has no name.

    With `fill` something is written and synced, which a full disk refuses.
    """
    try:
        with TemporaryFile(dir=directory, buffering=0) as file:
            if fill:
                file.write(b"\0")
                os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None


def refusal(path: Path) -> str | None:
    """Why a line cannot be added to this file now, None when it can; it may be missing."""
    return file_refusal(path) or directory_refusal(path.parent, fill=True)
