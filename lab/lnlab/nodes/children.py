"""Starting, watching and ending the lab's processes by pid.

Each process leads a session of its own: a Ctrl-C in the terminal reaches the lab, which then ends
its nodes in order, and ending a process ends what it started too (lightningd's plugins).
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lnlab.nodes.record import NodeProcess

_own_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes that this process started: it must reap them, and polling does."""


OWNER = "LNLAB_OWNER"
"""In the environment of each process of a lab: the lab's directory. It is there before the process
does anything, so one is found even when its starter was killed before it could record it."""


class NodeDiedError(Exception):
    """A process of the lab is not running any more; the text ends with its last log lines."""


def log_tail(path: str | Path, lines: int = 15) -> str:
    """Return the last ``lines`` lines of a log file, or a remark when it cannot be read."""
    try:
        with Path(path).open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 64 * 1024))
            text = log.read().decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(log is empty)"


def _proc_stat(pid: int) -> tuple[str, int] | None:
    """Return (state letter, start time in ticks) from Linux's /proc, or None (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def start_time(pid: int) -> int:
    """Return the kernel's start time of ``pid`` in ticks, 0 where that is unknown."""
    stat = _proc_stat(pid)
    return stat[1] if stat else 0


def spawn(
    name: str,
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stderr: int | None = None,
) -> NodeProcess:
    """Start ``command`` in its own session, with both outputs appended to ``log``.

    With ``stderr`` one of them goes to that descriptor instead. The directory of ``log`` is that of
    the lab. Raises OSError when the program cannot be started.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if stderr is None else stderr,
            env={**(os.environ if env is None else env), OWNER: str(log.parent)},
            start_new_session=True,
        )
    _own_children[child.pid] = child
    return NodeProcess(name, child.pid, start_time(child.pid), str(log), list(command))


def processes_of(directory: Path) -> list[NodeProcess]:
    """Return what runs of the lab in ``directory``, recorded or not, as the kernel knows it.

    What a process of the lab started itself counts only when that process is gone. Empty where
    there is no Linux ``/proc``.
    """
    mark = f"{OWNER}={directory}".encode()
    found: dict[int, NodeProcess] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:  # it has ended, or belongs to another user
            continue
        pid, name = int(entry.name), Path(command[0] if command else "?").name
        process = NodeProcess(name, pid, start_time(pid), str(directory / f"{name}.log"), command)
        if pid != os.getpid() and is_alive(process):
            found[pid] = process
    return sorted(
        (
            p
            for pid, p in found.items()
            if _session_of(pid) in (pid, None) or _session_of(pid) not in found
        ),
        key=lambda p: (p.started, p.pid),
    )


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def is_alive(process: NodeProcess) -> bool:
    """Tell whether that very process still runs (a zombie and a reused pid do not count)."""
    child = _own_children.get(process.pid)
    if child is not None:
        # A killed process is a zombie while its other threads still end; only then is it gone.
        if child.poll() is None:
            return True
        del _own_children[process.pid]
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # someone else's: the number was reused
    stat = _proc_stat(process.pid)
    if stat is None:
        return not Path("/proc/self").exists()
    state, started = stat
    return state != "Z" and process.started in (0, started)


def check_alive(processes: Sequence[NodeProcess]) -> None:
    """Raise NodeDiedError naming the first process that does not run, with its last log lines."""
    for process in processes:
        if not is_alive(process):
            raise NodeDiedError(
                f"{process.name} (pid {process.pid}) is not running; end of {process.log}:\n"
                + log_tail(process.log)
            )


def _signal(process: NodeProcess, number: signal.Signals, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)


def nudge(process: NodeProcess, number: signal.Signals) -> None:
    """Send ``number`` to a process that is alive; nothing happens to a dead one."""
    if is_alive(process):
        _signal(process, number, group=False)


def end(processes: Sequence[NodeProcess], *, grace_secs: float = 15.0) -> list[str]:
    """End processes, last started first: SIGTERM, then SIGKILL to its group after ``grace_secs``.

    Returns the names of those that had to be killed. Ending a dead process does nothing.
    """
    killed = []
    for process in reversed(processes):
        if not is_alive(process):
            continue
        _signal(process, signal.SIGTERM, group=False)
        _signal(process, signal.SIGCONT, group=False)  # one that is held still hears nothing
        if not _gone_within(process, grace_secs):
            killed.append(process.name)
            _signal(process, signal.SIGKILL, group=True)
            _gone_within(process, grace_secs)
    return killed


def kill(processes: Sequence[NodeProcess]) -> None:
    """SIGKILL processes, as a power cut would, and wait until they are gone."""
    for process in processes:
        if is_alive(process):
            _signal(process, signal.SIGKILL, group=True)
            _gone_within(process, 15.0)


def _gone_within(process: NodeProcess, secs: float) -> bool:
    deadline = time.monotonic() + secs
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # polling: the process may be no child of ours to wait for
    return True
