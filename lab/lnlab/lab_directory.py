"""A lab's directory: what may be emptied, what runs there, and ending all of it.

Works on labs in any state, those of a starter that was killed included.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from lnlab.nodes import record
from lnlab.nodes.children import end, is_alive, processes_of
from lnlab.nodes.compose import end_containers
from lnlab.nodes.compose_containers import Containers
from lnlab.nodes.compose_project import Project, project_name
from lnlab.nodes.record import NodeProcess, NoLabError

MARKER = ".lnlab"
"""Its presence says that the directory is a lab's and may be emptied."""

SOCKET_PATH_LIMIT_BYTES = 107


class LabDirectoryError(Exception):
    """The directory cannot hold a lab; the text says why and what to do."""


def absolute(directory: Path | str) -> Path:
    """Return the directory's absolute path, which is what records and child processes get."""
    return Path(directory).resolve()


_starting: ContextVar[frozenset[Path]] = ContextVar("starting", default=frozenset())
"""What this task holds: a lab is started within the start of a lab with its seller."""


@contextmanager
def starting(directory: Path) -> Iterator[None]:
    """Make ``directory`` and keep others from starting a lab in it as long as the context lasts.

    Raises LabDirectoryError when another does so now, or when the path is too long for the
    Lightning nodes' sockets. The lock is on the directory itself and ends with the process; who
    holds it may take it again.
    """
    if directory in _starting.get():
        yield
        return
    longest = directory / "seller" / "lightning-rpc"
    if (length := len(os.fsencode(longest))) > SOCKET_PATH_LIMIT_BYTES:
        raise LabDirectoryError(
            f"{directory} is too long a path: the socket {longest} would have {length} bytes, the "
            f"system takes {SOCKET_PATH_LIMIT_BYTES}. Choose a shorter directory"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabDirectoryError(
                f"another command starts a lab in {directory} right now: wait for it, or choose "
                "another directory"
            ) from None
        held = _starting.set(_starting.get() | {directory})
        try:
            yield
        finally:
            _starting.reset(held)
    finally:
        os.close(lock)


def prepare_directory(directory: Path) -> None:
    """Make ``directory`` an empty lab directory.

    Raises LabDirectoryError when a lab runs in it, or when it holds something else.
    """
    check_nothing_runs(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()) and not (directory / MARKER).exists():
        raise LabDirectoryError(
            f"{directory} is not empty and not a lab's: choose another directory"
        )
    wipe(directory)
    (directory / MARKER).write_text("A directory of lnlab: `lnlab up` empties it.\n")


def check_nothing_runs(directory: Path) -> None:
    """Raise LabDirectoryError when a lab runs in ``directory``, or what is left of one."""
    if running_processes(directory) or running_containers(directory):
        raise LabDirectoryError(f"a lab is running in {directory}: end it with `lnlab down`")


def wipe(directory: Path) -> None:
    """Empty a lab directory; the marker goes last, so that this can be done again."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == MARKER):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def running_processes(directory: Path) -> list[NodeProcess]:
    """Return the processes of the lab in ``directory`` that are alive, recorded or not.

    A starter that was killed may have recorded none of them.
    """
    try:
        recorded = [p for p in record.load(directory).processes if is_alive(p)]
    except NoLabError:
        recorded = []
    known = {process.pid for process in recorded}
    return [*recorded, *(p for p in processes_of(directory.resolve()) if p.pid not in known)]


def running_containers(directory: Path) -> list[str]:
    """Return the services of the compose lab in ``directory`` that are alive."""
    if Project.load(directory) is None:
        return []
    containers = Containers(project_name(directory))
    try:
        return [service for service, state in containers.states().items() if state.is_alive]
    finally:
        containers.close()


def save_container_logs(directory: Path) -> None:
    """Write the logs of a compose lab's containers to its directory, as SERVICE.log."""
    if Project.load(directory) is None:
        return
    containers = Containers(project_name(directory))
    try:
        for service in containers.states():
            containers.save_log(service, directory)
    finally:
        containers.close()


def end_lab(directory: Path, *, can_go_on: bool = False) -> list[str]:
    """End the lab in ``directory``, running or dead, and return the names of what was ended.

    Data and logs stay until the next start, which ``can_go_on`` with them if the nodes are real.
    Doing it again does nothing.
    """
    path = directory.resolve()
    running = running_processes(path)
    end(running)
    containers = end_containers(path)
    if can_go_on and _keeps_state(path):
        record.set_aside(path)
    record.remove(path)
    return [*(process.name for process in running), *containers]


def _keeps_state(directory: Path) -> bool:
    try:
        return record.load(directory).kind != "embedded"
    except NoLabError:
        return False
