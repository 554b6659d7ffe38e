"""One process at a time writes a database: the daemon, or a command while the daemon is stopped."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lnliquid.clock import SystemClock
from lnliquid.domain.errors import SettingsError
from lnliquid.file_locks import Locked, is_in_place, locked
from lnliquid.store.database import Database
from lnliquid.store.locks import in_use


class Held:
    """Locked files, which must stay where they are: others are locked by their names."""

    def __init__(self) -> None:
        self._files: list[tuple[Path, int]] = []

    def add(self, path: Path, file: int) -> int:
        """Watch one. Returns the descriptor."""
        self._files.append((path, file))
        return file

    def problem(self) -> str | None:
        """Which file was deleted or replaced, None while each is in place."""
        for path, file in self._files:
            if not is_in_place(file, path):
                return (
                    f"{path} was deleted or replaced while the daemon ran; put it back (a lock "
                    "file is made anew), then restart the daemon"
                )
        return None


@contextmanager
def only_process(database: Path, mnemonic_file: Path | None = None) -> Iterator[Held]:
    """Refuse a second process on one database or one mnemonic (`SettingsError`).

    The locks end with the process. This one is on the place of the database, which may be empty
    yet; `Database` locks the file itself, under any name.
    """
    lock = database.resolve().with_name(database.resolve().name + ".lock")
    held = Held()
    with ExitStack() as opened_files:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = held.add(lock, locked(lock, os.O_RDWR | os.O_CREAT))
            opened_files.callback(os.close, file)
        except Locked:
            raise in_use(database) from None
        except OSError as error:
            raise SettingsError(
                (f"lock of the database, {lock}, cannot be written: {error.strerror}",)
            ) from None
        if mnemonic_file is not None:
            file = held.add(mnemonic_file, _locked_mnemonic(mnemonic_file))
            opened_files.callback(os.close, file)
        yield held


def _locked_mnemonic(path: Path) -> int:
    """Two databases of one wallet would spend each other's coins. The file may be read-only."""
    try:
        return locked(path, os.O_RDONLY)
    except Locked:
        raise SettingsError(
            (f"another daemon runs with the mnemonic_file {path}, on another database",),
            hint="one wallet has one daemon; stop the other or make another mnemonic",
        ) from None
    except OSError as error:
        raise SettingsError((f"mnemonic_file {path} cannot be read: {error.strerror}",)) from None


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """The database, made or brought up to date, closed at the end. Within `only_process`."""
    database = Database(path, SystemClock())
    try:
        yield database
    finally:
        database.close()
