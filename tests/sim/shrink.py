"""A failure is shrunk to few steps: each step's luck is its own, so that others can be left out."""

import time
from collections.abc import Callable, Sequence

from .simulation import Failed, simulate

SHRINK_SECS = 60.0


def shrink(failure: Failed, secs: float = SHRINK_SECS) -> Failed:
    """The same kind of failure of the same seed with as few steps as are found in this time."""
    ends_at = time.monotonic() + secs
    best = failure

    def still_fails(steps: Sequence[int]) -> bool:
        nonlocal best
        try:
            simulate(failure.seed, failure.steps, only=frozenset(steps))
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
    """Leave out steps, many at once and then ever fewer, for as long as it fails (ddmin)."""
    kept, parts = list(steps), 2
    while len(kept) > 1 and not out_of_time():
        size = -(-len(kept) // parts)
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if out_of_time():
                return kept
            if still_fails(fewer):
                kept, parts = fewer, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return kept
            parts = min(parts * 2, len(kept))
    return kept
