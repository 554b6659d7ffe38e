"""A unix socket that no second process takes over, and that is removed by its owner alone.

gRPC by itself removes what has the socket's name, both before it binds and at its end. So it
binds a private name, which is then given the public one.
"""

import contextlib
import os
import secrets
import socket
from pathlib import Path
from typing import Self

from lnliquid.addresses import UNIX
from lnliquid.domain.errors import SettingsError
from lnliquid.file_locks import Locked, locked

PROBE_SECS = 2.0


class OwnSocket:
    """The place of a socket, from `claim` until `release`; both do only file operations."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._private = path.with_name("." + secrets.token_hex(3))
        self._found: os.stat_result | None = None

    @classmethod
    def claim(cls, path: Path) -> Self:
        """Lock the place. `SettingsError` when another process has it or answers there.

        The lock is a file beside the socket that stays: a removed one could be locked twice.
        """
        try:
            lock = locked(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT)
        except Locked:
            raise _in_use(path) from None
        except OSError as error:
            raise SettingsError((f"cannot listen on {path}: {error.strerror}",)) from None
        if _is_answered(path):  # by a program that knows nothing of the lock
            os.close(lock)
            raise _in_use(path)
        return cls(path, lock)

    @property
    def address(self) -> str:
        """What to bind, before `publish`."""
        return f"{UNIX}{self._private}"

    def publish(self) -> None:
        """Give the bound socket its name. One that an ended process left is replaced."""
        self._private.rename(self._path)
        self._found = self._path.lstat()

    def release(self) -> None:
        """Remove the socket if it is still this one, and unlock the place. May be repeated."""
        if self._lock < 0:
            return
        with contextlib.suppress(OSError):
            self._private.unlink()
        with contextlib.suppress(OSError):
            if self._found is not None and os.path.samestat(self._found, self._path.lstat()):
                self._path.unlink()
        os.close(self._lock)
        self._lock = -1


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECS)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # a full queue, or no right to ask: there is one
            return path.is_socket()
    return True


def _in_use(path: Path) -> SettingsError:
    return SettingsError(
        (f"cannot listen on {path}: another process listens there",),
        hint="stop it, or name another address",
    )
