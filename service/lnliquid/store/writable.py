"""Every path that the daemon will write, tried before it starts: the first order is too late."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from lnliquid.addresses import socket_path
from lnliquid.config import Settings
from lnliquid.domain.errors import SettingsError
from lnliquid.store.paths import directory_refusal, file_refusal
from lnliquid.threads import within

REPLICA = "replica"
ANSWER_SECS = 5.0
"""A file system that takes longer to answer hangs."""
MAX_SOCKET_PATH = 107
"""Bytes that the system allows (`sockaddr_un`)."""


def check(settings: Settings) -> None:
    """Raises `SettingsError` with a line for each path that cannot be written.

    Once there is a database the replica may be missing: refunds are not to wait for it.
    """
    found = problems(settings)
    if settings.database.exists():
        found = tuple(line for line in found if not line.startswith(f"{REPLICA}: "))
    if found:
        raise SettingsError(found, hint="see the owner and mode of each, and whether it is mounted")


def problems(settings: Settings) -> tuple[str, ...]:
    """A line with path and reason for each path that cannot be written. Nothing is changed."""
    return tuple(_problems(settings))


def warnings(settings: Settings) -> tuple[str, ...]:
    """A line for each path that can be written and should be elsewhere."""
    replica = settings.replica_path
    if _device(settings.database) != _device(replica):
        return ()
    return (f"the replica {replica} is on the file system of the database and may be lost with it",)


def _device(path: Path) -> int | None:
    """File system of a file that need not be there; None when that cannot be asked."""
    try:
        return next(p for p in (path, *path.absolute().parents) if p.exists()).stat().st_dev
    except OSError:
        return None


def _problems(settings: Settings) -> Iterator[str]:
    database, replica = _real(settings.database), _real(settings.replica_path)
    files = {
        "database": (database, *(Path(f"{database}{end}") for end in ("-wal", "-shm", ".lock"))),
        REPLICA: (replica, *(Path(f"{replica}{end}") for end in ("-wal", "-shm"))),
    }
    owners = {_real(settings.mnemonic_file): "mnemonic_file"}
    for name, paths in files.items():
        for path in paths:
            reason = _in_time(lambda p=path: file_refusal(p))  # type: ignore[misc]
            if path in owners:
                reason = f"it is the file of {owners[path]}"
            if reason is None and path is paths[0]:
                reason = _in_time(lambda p=path: _directory_refusal(p, database.parent))  # type: ignore[misc]
            if reason is not None:
                yield f"{name}: {path} cannot be written: {reason}"
            owners[path] = name
    owners[_real(settings.lightning_rpc)] = "lightning_rpc"
    for name, address in settings.listeners.items():
        if (place := socket_path(address)) is not None:
            reason = _socket_refusal(place) or _directory_refusal(place, database.parent)
            if _real(place) in owners:
                reason = f"it is the file of {owners[_real(place)]}"
            if reason is not None:
                yield f"{name}: {place} cannot be written: {reason}"


def _in_time(ask: Callable[[], str | None]) -> str | None:
    """What `ask` finds, or that it found nothing in time."""
    try:
        return within(ANSWER_SECS, ask, "path")
    except TimeoutError:
        return f"its file system did not answer for {ANSWER_SECS:g} s"


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _directory_refusal(path: Path, made: Path) -> str | None:
    """None when the file can be made, or else why not. `made`: a directory made at the start."""
    directory = path.parent
    while directory in (made, *made.parents) and not directory.exists():
        directory = directory.parent
    return directory_refusal(directory)


def _socket_refusal(path: Path) -> str | None:
    # It is made under a short name of its own first.
    longest = max(len(path.name), len(".1a2b3c"))
    if len(os.fsencode(path.parent)) + 1 + longest > MAX_SOCKET_PATH:
        return f"a socket's path has at most {MAX_SOCKET_PATH} bytes"
    try:
        return None if stat.S_ISSOCK(path.stat().st_mode) else "it is there and no socket"
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
