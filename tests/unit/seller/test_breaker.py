"""The breaker for new swaps: a tip that goes back or is old."""

from lnliquid.domain.swap import Tip
from lnliquid.seller.readiness import TipBreaker

from ..builders import StillClock

BEGIN = StillClock().at


def tip(height: int, block_id: str = "a", *, time: int = BEGIN) -> Tip:
    """A tip at this height, with this time in its header."""
    return Tip(height, block_id, time)


def test_growing_chain_is_fine() -> None:
    """While blocks come, and while one is a little late, nothing is wrong."""
    clock = StillClock()
    breaker = TipBreaker(100, clock)
    assert breaker.problem(tip(5)) is None
    clock.at = BEGIN + 99
    assert breaker.problem(tip(5)) is None
    clock.at = BEGIN + 150
    assert breaker.problem(tip(6, time=BEGIN + 149)) is None


def test_standing_still_trips_until_the_next_block() -> None:
    """No block for too long refuses new swaps; the next block takes them again."""
    clock = StillClock()
    breaker = TipBreaker(100, clock)
    breaker.problem(tip(5))
    clock.at = BEGIN + 101
    problem = breaker.problem(tip(5)) or ""
    assert "has shown no block above 5, which is 101 s old" in problem
    assert "clock may be wrong" in problem
    assert breaker.problem(tip(6, time=BEGIN + 101)) is None


def test_a_tip_that_is_old_at_first_sight_trips() -> None:
    """A server that was cut off before the daemon started is known by the header's time."""
    breaker = TipBreaker(100, StillClock())
    assert "which is 101 s old" in (breaker.problem(tip(5, time=BEGIN - 101)) or "")
    # A later block that is old too, as while such a server catches up.
    assert "above 6, which is 101 s old" in (breaker.problem(tip(6, time=BEGIN - 101)) or "")
    assert breaker.problem(tip(7, time=BEGIN - 100)) is None


def test_a_header_ahead_of_the_clock_counts_from_when_it_was_seen() -> None:
    """Or a server that stands still could go unnoticed for hours."""
    clock = StillClock()
    breaker = TipBreaker(100, clock)
    assert breaker.problem(tip(5, time=BEGIN + 7_000)) is None
    clock.at = BEGIN + 101
    assert "which is 101 s old" in (breaker.problem(tip(5, time=BEGIN + 7_000)) or "")


def test_going_back_trips_until_the_height_is_regained() -> None:
    """A lower tip refuses new swaps, a reorg to the same height does not."""
    breaker = TipBreaker(100, StillClock())
    breaker.problem(tip(5))
    assert breaker.problem(tip(3)) == "the Liquid backend's tip went back from 5 to 3"
    assert breaker.problem(tip(5, "b")) is None
