"""The daemon's log: a line an event on stderr, written by a thread of its own.

What logs never waits: lines go through a bounded queue. A reader that stalls, a full disk or a
closed pipe costs lines, which are counted, and a line says how many as soon as one can be written.
"""

import contextlib
import io
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections import deque

import structlog

from lnliquid.log_repeats import REPEATS

MAX_CHARS = 4_000_000
"""In the queue; some 20,000 lines."""
CHUNK_CHARS = 64_000
DRAIN_SECS = 1.0
"""How long the end of the process waits for lines that are not written yet."""


def _plain_traceback(exc_info: structlog.typing.ExcInfo) -> str:
    return "".join(traceback.format_exception(*exc_info))


def configure_log(log_format: str) -> None:
    """One line an event on stderr: readable text, or JSON for machines."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            REPEATS,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Never with the values of local variables: a preimage may be among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
                if log_format == "json"
                else _plain_traceback
            ),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )


def open_standard_files() -> None:
    """Open what of stdin, stdout and stderr was closed at the start, on the null device.

    Otherwise the next file that is opened, perhaps the database, would get the number of stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


class QueuedStderr(io.TextIOBase):
    """Takes the place of `sys.stderr`: for the log, and for all else that Python writes there."""

    def __init__(self, number: int = 2, max_chars: int = MAX_CHARS) -> None:
        """`number`: the descriptor to write to."""
        self._number = number
        self._max_chars = max_chars
        self._texts: deque[str] = deque()
        self._chars = 0
        """Of all that is not written yet."""
        self.dropped = 0
        """Lines that were not and will not be written."""
        self._untold = 0
        self._changed = threading.Condition()  # its lock may be taken again by the same thread
        # Signals are for the thread that waits for them (`ending`): this one may hang.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        threading.Thread(target=self._run, name="log", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @classmethod
    def install(cls) -> "QueuedStderr | None":
        """Make it `sys.stderr`; None where that is not the process's own, as inside of a test."""
        if sys.stderr is not sys.__stderr__:
            return None
        sys.stderr = stream = cls()
        return stream

    def write(self, text: str) -> int:
        """Put it into the queue, or count it when there is no room. It never waits and raises."""
        with self._changed:
            if self._chars + len(text) > self._max_chars:
                self._drop(text)
            else:
                self._texts.append(text)
                self._chars += len(text)
                self._changed.notify_all()
        return len(text)

    def writable(self) -> bool:
        """Always."""
        return True

    def flush(self) -> None:
        """Nothing: what is queued is written as soon as it can be."""

    def fileno(self) -> int:
        """The descriptor that is written to."""
        return self._number

    def isatty(self) -> bool:
        """True when a person reads it."""
        return os.isatty(self._number)

    def drain(self, secs: float = DRAIN_SECS) -> None:
        """Wait until all is written, at most so long."""
        until = time.monotonic() + secs
        with self._changed:
            while self._chars and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _drop(self, text: str) -> None:
        lines = max(1, text.count("\n"))
        self.dropped += lines
        self._untold += lines

    def _run(self) -> None:
        while True:
            text = self._next()
            try:
                self._put(text.encode(errors="backslashreplace"))
                is_written = True
            except OSError:
                is_written = False
            with self._changed:
                self._chars -= len(text)
                if not is_written:
                    self._drop(text)
                untold, self._untold = (self._untold, 0) if is_written else (0, self._untold)
                self._changed.notify_all()
            if untold:
                structlog.get_logger().warning("log lines dropped", lines=untold)

    def _next(self) -> str:
        """Wait for some text and take it; it counts as queued until it is written."""
        with self._changed:
            while not self._texts:
                self._changed.wait()
            taken = [self._texts.popleft()]
            size = len(taken[0])
            while self._texts and size + len(self._texts[0]) <= CHUNK_CHARS:
                taken.append(self._texts.popleft())
                size += len(taken[-1])
        return "".join(taken)

    def _put(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:  # another process made the terminal or pipe non-blocking
                with contextlib.suppress(ValueError):
                    select.select([], [self._number], [], 1.0)
