"""The daemon's own code under random schedules, every money rule checked after each step.

Each run plays fixed seeds and fresh ones. The first fresh one is in pytest's header, and a failure
prints the command that plays it again, shrunk to few steps. `SIM_SEED` sets the first fresh seed,
`SIM_FRESH` how many there are.
"""

import os
from collections.abc import Callable

import pytest

from .shrink import minimal, shrink
from .simulation import Failed, simulate

STEPS = 400
FIXED = range(1, 11)
"""What broke once is told by `test_stories`, not by these."""
FIRST_FRESH = int(os.environ["SIM_SEED"])
FRESH = range(FIRST_FRESH, FIRST_FRESH + int(os.environ.get("SIM_FRESH", "10")))
SHRINK_SECS = 45


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [*FIXED, *FRESH])
def test_money_rules_hold(seed: int, record_property: Callable[[str, object], None]) -> None:
    """Buyers, chain, Lightning, faults, reorgs and deaths in any order break no money rule."""
    try:
        result = simulate(seed, STEPS)
    except Failed as failure:
        raise shrink(failure, SHRINK_SECS) from None
    record_property("actions", dict(result.counts))
    record_property("swaps", dict(result.swaps))
    assert result.counts.total() - result.counts["death"] == STEPS, "every step was taken"


@pytest.mark.parametrize("only", [None, frozenset(range(0, 120, 3))])
def test_a_seed_gives_the_same_run_again(only: frozenset[int] | None) -> None:
    """The trace of a failure can be had again: it depends on seed and steps alone."""
    first, second = simulate(1, 120, only), simulate(1, 120, only)
    assert first.trace == second.trace


def test_a_failure_is_shrunk_to_the_steps_that_it_needs() -> None:
    """All that is needed is left, and nothing else."""
    needed = {3, 17, 211}
    found = minimal(range(400), lambda steps: needed <= set(steps), lambda: False)
    assert found == sorted(needed)
