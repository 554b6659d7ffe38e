"""Every interleaving to a bounded depth: no money rule is broken, and each mutant of one is found.

`python -m tests.model` searches deeper.
"""

from collections.abc import Callable

import pytest

from .mutants import MUTANTS
from .rules import Rules
from .search import DEPTHS, MUTANT_DEPTH, Search

REACHED = {
    *("CREATED NONE", "CREATED CLOSED", "CREATED LOST", "CREATED PAID", "CREATED REFUNDING"),
    *("FUNDED NONE", "FUNDED ASKED", "FUNDED CLOSED", "FUNDED PAID", "FUNDED REFUNDING"),
    *("FUNDED LOST", "CLAIMED PAID", "REFUNDED REFUNDING", "REFUNDED PAID"),
    *("FUNDING 1 REPLACED", "FUNDING 1 ABANDONED", "FUNDING 1 CONFIRMED", "FUNDING 2 CONFIRMED"),
    *("REFUND 1 CONFIRMED", "REFUND 2 CONFIRMED", "REFUND 1 REPLACED", "REFUND 1 ABANDONED"),
    *("CLAIMED final", "REFUNDED final", "FAILED final", "the daemon dies and starts"),
    "the server stalls",
}
"""What a search of one swap has to come by, or it says little."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("swaps", sorted(DEPTHS))
def test_no_interleaving_breaks_a_money_rule(
    swaps: int, record_property: Callable[[str, object], None]
) -> None:
    """Swaps, families, claims, refunds, invoices, deaths, reorgs, two things going wrong."""
    found = Search(Rules(), swaps=swaps).run(DEPTHS[swaps])
    record_property("model", f"{swaps} swaps: {str(found).splitlines()[0]}")
    assert found.counter_example is None, f"\n{found}"
    assert swaps > 1 or found.reached.keys() >= REACHED
    assert found.checks.keys() == {"2", "3", "4", "5", "6", "7", "10"}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_broken_rule_is_found(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    """The model sees what it is there for: a rule of the service with one thing wrong is found."""
    found = Search(MUTANTS[name]).run(MUTANT_DEPTH)
    assert found.counter_example is not None, f"\n{found}"
    problem = found.counter_example.problem
    record_property("model", f"{name}: found in {found.states} states ({problem})")


def test_a_counter_example_is_a_way_that_can_be_read() -> None:
    """The shortest: from the beginning on, every move."""
    found = Search(MUTANTS["3: the lock counts as confirmed in the mempool"]).run(1)
    assert str(found.counter_example).splitlines() == [
        "rule 5: swap 0 is FUNDED",
        "  1. the funder signs",
        "  2. (then the daemon goes on)",
    ]
