"""Snapshots: a lab's data copied while its nodes are stopped, and put back.

They lie beside the lab's directory, in ``DIR.snapshots/NAME``, which `lnlab up` and `lnlab down
--wipe` leave alone. Data holds paths of the lab's directory, so a snapshot is loaded where it was
taken. Embedded nodes keep chain and channels in memory: there is nothing of them to copy.
"""

import re
import shutil
import stat
from pathlib import Path

from lnlab.lab_directory import MARKER, end_lab, prepare_directory, starting, wipe
from lnlab.nodes import record

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PARTIAL = ".partial"
LOGS = ("*.log", "*.earlier")
"""Files of the lab itself that are no state. Deeper down .log is state: LevelDB has such files."""


class SnapshotError(Exception):
    """No snapshot can be taken or loaded; the text says why and what to do."""


def place_of(directory: Path, name: str) -> Path:
    """Return where the snapshot ``name`` of the lab in ``directory`` lies. Raises SnapshotError."""
    if not NAME_PATTERN.fullmatch(name) or name.endswith(PARTIAL):
        raise SnapshotError(f"{name!r} is no name for a snapshot: use letters, digits, . _ -")
    return _home(directory) / name


def names(directory: Path) -> list[str]:
    """Return the names of the snapshots of the lab in ``directory``."""
    found = _home(directory).glob("*/" + record.STOPPED_NAME)
    return sorted(path.parent.name for path in found if not path.parent.name.endswith(PARTIAL))


def save(directory: Path, name: str, *, replace: bool = False) -> Path:
    """End the lab in ``directory`` if it runs, copy its data and return where the copy is.

    The lab is left ended, ready to go on. Raises SnapshotError for embedded nodes and, unless
    ``replace``, a name that is taken; NoLabError when there is no lab.
    """
    place = place_of(directory, name)
    if place.exists() and not replace:
        raise SnapshotError(
            f"there is a snapshot {name!r} already: choose another name, or --force"
        )
    if record.stopped_kind(directory) is None:
        refuse_embedded(record.load(directory).kind)
    end_lab(directory, can_go_on=True)
    partial = place.with_name(place.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(directory, partial, symlinks=True, ignore=_not_plain)
    for pattern in LOGS:
        for path in partial.glob(pattern):
            path.unlink()
    if place.exists():
        shutil.rmtree(place)
    partial.rename(place)
    return place


def load(directory: Path, name: str) -> str:
    """Put a snapshot in the place of the lab in ``directory``, and return its kind of nodes.

    A lab that runs there is ended, and its data are gone. The new one is left ended, ready to go
    on. Raises SnapshotError when there is no such snapshot.
    """
    place = place_of(directory, name)
    kind = record.stopped_kind(place)
    if kind is None:
        have = ", ".join(names(directory)) or "none"
        raise SnapshotError(f"no snapshot {name!r} of the lab in {directory}; there are: {have}")
    end_lab(directory)
    with starting(directory):
        prepare_directory(directory)
        # The record goes last: with it the lab counts as one that can go on.
        shutil.copytree(
            place,
            directory,
            symlinks=True,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(record.STOPPED_NAME),
        )
        shutil.copy2(place / record.STOPPED_NAME, directory / record.STOPPED_NAME)
    return kind


def remove(directory: Path, name: str) -> None:
    """Remove a snapshot, and the directory of snapshots when it was the last. SnapshotError."""
    place = place_of(directory, name)
    if not (place / MARKER).exists():
        raise SnapshotError(f"no snapshot {name!r} of the lab in {directory}")
    wipe(place)
    place.rmdir()
    if not any(place.parent.iterdir()):
        place.parent.rmdir()


def refuse_embedded(kind: str) -> None:
    """Raise SnapshotError for nodes whose state is not in files."""
    if kind == "embedded":
        raise SnapshotError(
            "embedded nodes keep chain and channels in memory, nothing of them can be saved: "
            "start the lab with `--nodes process` or `--nodes compose`"
        )


def _home(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.snapshots")


def _not_plain(directory: str, entries: list[str]) -> set[str]:
    """What cannot be copied: sockets and pipes."""
    return {entry for entry in entries if not _is_plain(Path(directory, entry))}


def _is_plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
