"""Report of an unexpected error in a command: an id on stderr, the traceback in a private file."""

import contextlib
import os
import secrets
import sys
import tempfile
import time
import traceback
from pathlib import Path

from lnliquid.domain.errors import EXIT_HOST

EXIT_FAULT = 70
"""What sysexits.h calls an internal software error."""

MAX_BYTES = 1_000_000
"""A larger file is begun again: it is for the last errors."""


def log_file() -> Path:
    """Where errors of commands are written: below XDG_STATE_HOME, or ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "lnliquid" / "errors.log"


def report(error: BaseException) -> int:
    """Write the traceback, without values of variables, and print where. Returns the exit code.

    What the system refused (a full disk, a closed output, no memory) is no fault: it is named.

    The message has nothing of the exception's own text, which may be private; the file has mode
    0600.
    """
    if (refused := refusal(error)) is not None:
        sys.stderr.write(
            f"this machine refused: {refused}\n"
            "hint: see its disk, memory and limits, then run the same command again\n"
        )
        return EXIT_HOST
    log_id = secrets.token_hex(4)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = "".join(traceback.format_exception(error))
    entry = f"{when} internal error, log id {log_id}\n{text}\n"
    path = _kept(entry)
    where = f"{path} has the details under that id," if path else "no file takes the details,"
    sys.stderr.write(
        f"internal error, log id {log_id}: a fault of this program; {where} to be reported with "
        "what you typed\n"
    )
    return EXIT_FAULT


def refusal(error: BaseException) -> str | None:
    """What the system refused, with the file if there is one; None for any other error."""
    if isinstance(error, MemoryError):
        return "no memory is left"
    if not isinstance(error, OSError) or error.errno is None:
        return None
    reason = os.strerror(error.errno)
    return f"{reason} ({error.filename})" if isinstance(error.filename, str) else reason


def _kept(entry: str) -> Path | None:
    """The file that took the entry; None when there is none that can be written."""
    with contextlib.suppress(OSError, RuntimeError):  # no home either
        return _append(log_file(), entry)
    with contextlib.suppress(OSError):
        return _append(Path(tempfile.mkdtemp(prefix="lnliquid-")) / "errors.log", entry)
    return None


def _append(path: Path, entry: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if path.exists() and path.stat().st_size > MAX_BYTES:
        flags |= os.O_TRUNC
    file = os.open(path, flags, 0o600)
    try:
        os.write(file, entry.encode())
    finally:
        os.close(file)
    return path
