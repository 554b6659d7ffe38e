"""Waiting for a condition, with a deadline and a message that says what was waited for.

Nothing in the lab sleeps for a fixed time: it polls a predicate, fails at once when a watched
process is dead, and on time-out prints the predicate's source.
"""

import asyncio
import functools
import inspect
import textwrap
import time
from collections.abc import Callable
from typing import Any


class WaitTimeoutError(TimeoutError):
    """The condition did not become true in time; the text holds message, seconds and predicate."""


def source_of(predicate: Callable[[], object]) -> str:
    """Return the source of ``predicate``, or its repr where there is none (REPL, C code)."""
    if isinstance(predicate, functools.partial):
        predicate = predicate.func
    try:
        return textwrap.dedent(inspect.getsource(predicate)).strip()
    except (OSError, TypeError):
        return repr(predicate)


async def wait_for(
    predicate: Callable[[], Any],
    *,
    timeout_secs: float = 10.0,
    message: str = "",
    check_alive: Callable[[], None] | None = None,
    interval_secs: float = 0.02,
) -> Any:
    """Poll ``predicate`` (plain or async) until it returns something truthy, and return that.

    ``check_alive`` runs before each poll and raises when waiting has become pointless, for example
    because a node died. An exception from the predicate ends the wait. Intervals grow to ten times
    ``interval_secs``. Raises WaitTimeoutError after ``timeout_secs``.
    """
    deadline = time.monotonic() + timeout_secs
    pause_secs = interval_secs
    while True:
        if check_alive is not None:
            check_alive()
        result = predicate()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        remaining_secs = deadline - time.monotonic()
        if remaining_secs <= 0:
            what = message or "condition"
            raise WaitTimeoutError(
                f"{what}: still not so after {timeout_secs:g} s; waited for:\n"
                + textwrap.indent(source_of(predicate), "    ")
            )
        await asyncio.sleep(min(pause_secs, remaining_secs))
        pause_secs = min(pause_secs * 1.5, interval_secs * 10)
