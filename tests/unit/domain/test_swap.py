"""`domain.swap`: the transition table, over every pair of states, and the paths through it."""

from itertools import pairwise, product

import pytest

from lnliquid.domain.swap import ROLLBACKS, TRANSITIONS, Outpoint, State, path

from ..builders import make_swap

C, F, CL, R, X = State.CREATED, State.FUNDED, State.CLAIMED, State.REFUNDED, State.FAILED

PATHS: dict[tuple[State, State], tuple[State, ...]] = {
    (C, C): (), (C, F): (F,), (C, CL): (F, CL), (C, R): (F, R), (C, X): (X,),
    (F, C): (C,), (F, F): (), (F, CL): (CL,), (F, R): (R,), (F, X): (C, X),
    (CL, C): (F, C), (CL, F): (F,), (CL, CL): (), (CL, R): (F, R), (CL, X): (F, C, X),
    (R, C): (F, C), (R, F): (F,), (R, CL): (F, CL), (R, R): (), (R, X): (F, C, X),
    (X, C): (C,), (X, F): (C, F), (X, CL): (C, F, CL), (X, R): (C, F, R), (X, X): (),
}  # fmt: skip
"""Every pair."""


def test_the_numbers_of_the_states_are_fixed() -> None:
    """They are stored and sent, so they never change."""
    assert {s.name: int(s) for s in State} == {
        "CREATED": 1, "FUNDED": 2, "CLAIMED": 3, "REFUNDED": 4, "FAILED": 5,
    }  # fmt: skip


def test_the_table_of_pairs_here_is_complete() -> None:
    """All 25 pairs are judged below."""
    assert set(PATHS) == set(product(State, State))


@pytest.mark.parametrize(("start", "goal"), list(PATHS), ids=lambda s: s.name)
def test_path(start: State, goal: State) -> None:
    """Each pair has the one shortest way of the design."""
    assert path(start, goal) == PATHS[start, goal]


@pytest.mark.parametrize(("start", "goal"), list(PATHS), ids=lambda s: s.name)
def test_each_step_of_a_path_is_in_one_of_the_tables(start: State, goal: State) -> None:
    """No step is taken that neither growth of the chain nor a reorg allows."""
    steps = PATHS[start, goal]
    for before, after in pairwise((start, *steps)):
        assert after in TRANSITIONS[before] | ROLLBACKS[before]


def test_the_tables_say_what_the_design_says() -> None:
    """Forward and backward moves, literally; nothing else is allowed."""
    assert {
        C: frozenset({F, X}), F: frozenset({CL, R}), CL: frozenset(), R: frozenset(),
        X: frozenset(),
    } == TRANSITIONS  # fmt: skip
    assert {
        C: frozenset(), F: frozenset({C}), CL: frozenset({F}), R: frozenset({F}), X: frozenset({C}),
    } == ROLLBACKS  # fmt: skip


def test_settled_states_are_those_without_a_way_on() -> None:
    """`is_settled` follows from the table."""
    assert {s for s in State if s.is_settled} == {s for s in State if not TRANSITIONS[s]}


def test_outpoints_of_a_swap() -> None:
    """They exist once the funding is signed, and not half."""
    swap = make_swap(3)
    assert swap.asset_outpoint == Outpoint("f1" * 32, 6)
    assert swap.subsidy_outpoint == Outpoint("f1" * 32, 7)
    assert make_swap(funding_txid=None).asset_outpoint is None
    assert make_swap(asset_vout=None).asset_outpoint is None
    assert make_swap(subsidy_vout=None).subsidy_outpoint is None


def test_an_outpoint_is_written_as_txid_and_index() -> None:
    """As every other program of the field writes it; index 0 is an index."""
    assert str(Outpoint("ab" * 32, 0)) == "ab" * 32 + ":0"
    assert make_swap(asset_vout=0).asset_outpoint == Outpoint("f1" * 32, 0)
