"""A failure is shrunk to few steps: each step's luck is its own, so that others can be left out."""

import time
from collections.abc import Callable, Sequence

from .simulation import Failed, simulate

SHRINK_SECS = 60.0
FIRST_PARTS = 4
"""Most failures need too many blocks for half of the steps to do."""


def shrink(failure: Failed, secs: float = SHRINK_SECS) -> Failed:
    """The same kind of failure of the same seed with as few steps as are found in this time."""
    ends_at = time.monotonic() + secs
    best = failure

    def still_fails(steps: Sequence[int]) -> bool:
        nonlocal best
        try:
            simulate(failure.seed, failure.steps, frozenset(steps), with_end=failure.at_end)
        except Failed as found:
            if found.kind == failure.kind:
                best = found
                return True
        return False

    minimal(failure.played, still_fails, lambda: time.monotonic() > ends_at)
    return best


def minimal(
    steps: Sequence[int],
    still_fails: Callable[[Sequence[int]], bool],
    out_of_time: Callable[[], bool],
) -> list[int]:
    """Leave out steps, many at once and then ever fewer, for as long as it fails."""
    kept = list(steps)
    size = -(-len(kept) // FIRST_PARTS)
    while True:
        before, start = len(kept), 0
        while start < len(kept):
            if out_of_time():
                return kept
            fewer = kept[:start] + kept[start + size :]
            if still_fails(fewer):
                kept = fewer
            else:
                start += size
        if size == 1 and len(kept) == before:
            return kept
        size = max(1, size // 2)
