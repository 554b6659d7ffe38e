"""Blocking work on threads of its own, waited for no longer than a deadline.

The threads are daemons: what hangs in the system (a disk, a mount, a pipe) is left behind and keeps
neither the event loop nor the end of the process waiting, as a `ThreadPoolExecutor` would.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


def started(work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` on a new thread. Raises `TimeoutError` when the system gives no more threads."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # who stops waiting does not end it

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # handed over, whatever it is
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:
        raise TimeoutError("no more threads") from None
    return done


def within(secs: float, work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises. Raises `TimeoutError` after `secs`; it is left behind then."""
    return started(work, name).result(secs)


class Look(Generic[T]):
    """A question to the system that may hang: one at a time, each with a deadline.

    `ask` must not raise. While one hangs no other is asked, so that no threads pile up.
    """

    def __init__(self, ask: Callable[[], T], deadline_secs: float, name: str) -> None:
        self._ask = ask
        self._deadline_secs = deadline_secs
        self._name = name
        self._running: Future[T] | None = None
        self._until = 0.0

    async def __call__(self) -> T:
        """The answer. Raises `TimeoutError` when there is none in time, or an older one hangs."""
        if self._running is None or self._running.done():
            self._running = started(self._ask, self._name)
            self._until = time.monotonic() + self._deadline_secs
        left_secs = max(0.0, self._until - time.monotonic())
        async with asyncio.timeout(left_secs):
            return await asyncio.shield(asyncio.wrap_future(self._running))
