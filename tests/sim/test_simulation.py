"""The daemon's own code under random schedules, every money rule checked after each step.

A failure prints its seed and its trace; `python -m tests.sim --seed S --steps N` plays it again.
"""

import os

import pytest

from .simulation import simulate

FIRST_SEED = int(os.environ.get("SIM_FIRST_SEED", "1"))
STEPS = 250
SEEDS = range(FIRST_SEED, FIRST_SEED + 40)


@pytest.mark.parametrize("seed", SEEDS)
def test_money_rules_hold(seed: int) -> None:
    """Buyers, chain, Lightning, faults, reorgs and deaths in any order break no money rule."""
    result = simulate(seed, STEPS)
    assert result.counts.total() - result.counts["death"] == STEPS, "every step was taken"
