"""The end of the process: asked for by SIGINT or SIGTERM, and there in time whatever hangs."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import structlog

from lnliquid.log import QueuedStderr

log = structlog.get_logger()

GRACE_SECS = 5.0
"""For how long running calls may go on."""
END_SECS = 8.0
"""After that the process ends as a power cut would end it; no shutdown work matters."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Waits for the signals on a thread of its own, which nothing that hangs can hold up."""

    def __init__(self, on_stop: Callable[[], object], stderr: QueuedStderr) -> None:
        """Call it in the main thread before other threads start: they inherit its signal mask.

        `on_stop` is called in that thread at the first signal; a second one ends the process.
        """
        self._on_stop = on_stop
        self.stderr = stderr
        self._has_begun = threading.Lock()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def begin(self, exit_code: int) -> None:
        """From now on the process has `END_SECS`, then it ends with this code. Once only."""
        if self._has_begun.acquire(blocking=False):
            threading.Thread(
                target=self._force, args=(exit_code,), name="ending", daemon=True
            ).start()

    def _wait(self) -> None:
        signal.sigwait(SIGNALS)
        self.begin(0)
        with contextlib.suppress(RuntimeError):  # the event loop is closed: it has ended already
            self._on_stop()
        signal.sigwait(SIGNALS)
        self._exit(0, "asked twice")

    def _force(self, exit_code: int) -> None:
        time.sleep(END_SECS)
        self._exit(exit_code, f"not ended within {END_SECS:g} s")

    def _exit(self, exit_code: int, reason: str) -> None:
        left = sorted({thread.name for thread in threading.enumerate()})
        log.warning("stopped at once", reason=reason, threads=left)
        self.stderr.drain(0.5)
        os._exit(exit_code)
