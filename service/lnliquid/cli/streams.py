"""Standard streams on which no write fails: a full disk under the output ends no purchase.

What cannot be written is lost, remembered, and told by the exit code when the work is done.
"""

import errno
import io
import os
import sys
from typing import Any


class Output(io.RawIOBase):
    """A descriptor that takes everything. `failure` is the first error of the system, if any."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it, or remember why not. What comes later is tried again: a log goes on."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self.failure = self.failure or error
        return len(data)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """True on a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Always."""
        return True


def guard() -> Output:
    """Replace the standard streams. Returns what stdout writes to.

    One that is closed is opened on nothing first: the next file to be opened would get its number,
    and be written into.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # writing fails, as it should
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    out, err = Output(1), Output(2)
    for name, raw in (("stdout", out), ("stderr", err)):
        before = getattr(sys, name)
        encoding = before.encoding if before is not None else "utf-8"
        text = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=encoding, errors="replace", line_buffering=True
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)  # the process's own, as `log` asks
    return out


def lost(out: Output) -> OSError | None:
    """Why some of the output is missing; None when all is written or its reader wanted no more."""
    sys.stdout.flush()
    failure = out.failure
    return None if failure is None or failure.errno == errno.EPIPE else failure
