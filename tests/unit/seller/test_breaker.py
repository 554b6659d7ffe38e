"""The breaker for new swaps: a tip that goes back or stands still."""

from lnliquid.domain.swap import Tip
from lnliquid.seller.readiness import TipBreaker


class HandClock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.secs = 0.0

    def __call__(self) -> float:
        return self.secs


def tip(height: int, block_id: str = "a") -> Tip:
    """A tip at this height."""
    return Tip(height, block_id)


def test_growing_chain_is_fine() -> None:
    """While blocks come, and while one is a little late, nothing is wrong."""
    clock = HandClock()
    breaker = TipBreaker(100, clock)
    assert breaker.problem(tip(5)) is None
    clock.secs = 99
    assert breaker.problem(tip(5)) is None
    clock.secs = 150
    assert breaker.problem(tip(6)) is None


def test_standing_still_trips_until_the_next_block() -> None:
    """No block for too long refuses new swaps; the next block takes them again."""
    clock = HandClock()
    breaker = TipBreaker(100, clock)
    breaker.problem(tip(5))
    clock.secs = 101
    assert breaker.problem(tip(5)) == "the Liquid backend has shown no block above 5 for 101 s"
    assert breaker.problem(tip(6)) is None


def test_going_back_trips_until_the_height_is_regained() -> None:
    """A lower tip refuses new swaps, a reorg to the same height does not."""
    breaker = TipBreaker(100, HandClock())
    breaker.problem(tip(5))
    assert breaker.problem(tip(3)) == "the Liquid backend's tip went back from 5 to 3"
    assert breaker.problem(tip(5, "b")) is None
