"""What failed and when it is due again: the one place for the retry times of the watcher."""

import asyncio
from math import inf
from typing import Any

import structlog

log = structlog.get_logger()

FIRST_RETRY_SECS, LAST_RETRY_SECS = 2.0, 300.0


class Backoff:
    """Swaps (by id) and scripts that are left alone for a while; none is ever given up.

    It has no timers: the watcher looks again at `next_due`.
    """

    def __init__(self) -> None:
        self._failed: dict[str | bytes, tuple[int, float]] = {}
        """Attempts so far, and not before when, in the loop's time."""

    def add(self, key: str | bytes, event: str, **told: Any) -> None:
        """Leave it alone for a while that doubles with each attempt, and log that."""
        attempts = self._failed.get(key, (0, 0.0))[0] + 1
        delay = min(LAST_RETRY_SECS, FIRST_RETRY_SECS * 2 ** min(attempts - 1, 10))
        self._failed[key] = (attempts, asyncio.get_running_loop().time() + delay)
        log.warning(event, **told, attempts=attempts, retry_secs=delay)

    def __contains__(self, key: str | bytes) -> bool:
        """True until it is due."""
        not_before = self._failed.get(key, (0, 0.0))[1]
        return not_before > asyncio.get_running_loop().time()

    @property
    def next_due(self) -> float:
        """The loop's time at which the next one is due, infinite when none is left alone."""
        now = asyncio.get_running_loop().time()
        return min((at for _, at in self._failed.values() if at > now), default=inf)

    def due(self) -> set[str | bytes]:
        """Those that may be tried again now."""
        now = asyncio.get_running_loop().time()
        return {key for key, (_, at) in self._failed.items() if at <= now}

    def forget(self, key: str | bytes) -> None:
        """It went well, or is not watched any more: no attempt counts."""
        self._failed.pop(key, None)
