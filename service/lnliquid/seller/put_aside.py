"""Swaps whose actions are left alone for a while because one of them failed (money rule 10)."""

import asyncio
from math import inf

import structlog

from lnliquid.swap import Swap

log = structlog.get_logger()

FIRST_RETRY_SECS, LAST_RETRY_SECS = 2.0, 300.0


class PutAside:
    """The swaps put aside, each with its attempts so far; none is ever given up.

    It has no timers: who works on the swaps looks again at `next_due`.
    """

    def __init__(self) -> None:
        self._swaps: dict[str, tuple[int, float]] = {}
        """Swap id to (attempts, not before, in the loop's time)."""

    def add(self, swap: Swap, reason: str) -> float:
        """Leave a swap's actions alone for a while that doubles; returns that while, in s."""
        attempts = self._swaps.get(swap.swap_id, (0, 0.0))[0] + 1
        delay: float = min(LAST_RETRY_SECS, FIRST_RETRY_SECS * 2 ** min(attempts - 1, 10))
        self._swaps[swap.swap_id] = (attempts, asyncio.get_running_loop().time() + delay)
        log.warning(
            "swap put aside", **swap.ids, attempts=attempts, retry_secs=delay, reason=reason
        )
        return delay

    def __contains__(self, swap_id: str) -> bool:
        """True while its while lasts."""
        not_before = self._swaps.get(swap_id, (0, 0.0))[1]
        return not_before > asyncio.get_running_loop().time()

    @property
    def next_due(self) -> float:
        """The loop's time at which the next while is over, infinite when none lasts."""
        now = asyncio.get_running_loop().time()
        return min((at for _, at in self._swaps.values() if at > now), default=inf)

    def forget(self, swap_id: str) -> None:
        """An action of it went well, or it is not watched any more: no attempt counts."""
        self._swaps.pop(swap_id, None)
