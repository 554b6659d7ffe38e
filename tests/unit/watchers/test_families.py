"""`watchers.families`: where a family stands by what is stored and seen; when it is dead."""

from collections.abc import Iterator, Mapping
from itertools import product

import pytest

from lnliquid.domain.swap import Outpoint
from lnliquid.store.tables import PENDING, TxState
from lnliquid.watchers.families import Standing, Version, is_dead, is_lost, settled, stand

SIGNED, CONFIRMED, ABANDONED = TxState.SIGNED, TxState.CONFIRMED, TxState.ABANDONED
REPLACED, ACCEPTED, REFUSED = TxState.REPLACED, TxState.ACCEPTED, TxState.REFUSED

NOT_SEEN = "not seen"
HEIGHTS: tuple[int | str | None, ...] = (NOT_SEEN, None, 50)

A, B, C = (Outpoint(f"{n:064x}", 0) for n in range(3))


def family(*states: TxState) -> list[Version]:
    """Versions named v0, v1 and so on."""
    return [
        Version(f"v{n}", state, 40 if state is CONFIRMED else None)
        for n, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("states", "seen", "standing"),
    [
        ([SIGNED], {}, Standing("v0", SIGNED, None, ("v0",))),
        ([REFUSED], {}, Standing("v0", REFUSED, None, ("v0",))),
        ([ACCEPTED], {}, Standing("v0", SIGNED, None, ("v0",))),  # evicted
        ([CONFIRMED], {}, Standing("v0", SIGNED, None, ("v0",))),  # a reorg
        ([CONFIRMED], {"v0": None}, Standing("v0", ACCEPTED, None)),
        ([REFUSED], {"v0": None}, Standing("v0", ACCEPTED, None)),
        ([SIGNED], {"v0": 50}, Standing("v0", CONFIRMED, 50)),
        ([ABANDONED], {}, None),
        ([ABANDONED], {"v0": 50}, Standing("v0", CONFIRMED, 50)),
        # The newest is sent first, then the others: a miner may have picked any.
        ([REPLACED, SIGNED], {}, Standing("v1", SIGNED, None, ("v1", "v0"))),
        ([REPLACED, REPLACED, SIGNED], {}, Standing("v2", SIGNED, None, ("v2", "v1", "v0"))),
        # One that stood by what the chain showed goes on standing.
        ([CONFIRMED, REPLACED], {}, Standing("v0", SIGNED, None, ("v0", "v1"))),
        ([REPLACED, REFUSED, REPLACED], {}, Standing("v1", REFUSED, None, ("v1", "v2", "v0"))),
        # A block outweighs the mempool, and the mempool what is stored.
        ([REPLACED, SIGNED], {"v0": 50, "v1": None}, Standing("v0", CONFIRMED, 50)),
        ([REPLACED, SIGNED], {"v0": None}, Standing("v0", ACCEPTED, None)),
        ([CONFIRMED, REPLACED], {"v0": None, "v1": 51}, Standing("v1", CONFIRMED, 51)),
        ([REPLACED, ACCEPTED, REPLACED], {"v0": None, "v2": None}, Standing("v2", ACCEPTED, None)),
        ([ABANDONED, ABANDONED], {}, None),
        ([ABANDONED, ABANDONED], {"v0": None}, Standing("v0", ACCEPTED, None)),
    ],
    ids=str,
)
def test_a_family_stands_where_the_chain_shows_it(
    states: list[TxState], seen: Mapping[str, int | None], standing: Standing | None
) -> None:
    """Else where it was stored, to be sent again."""
    assert stand(family(*states), seen) == standing


def stored_states(count: int) -> Iterator[tuple[TxState, ...]]:
    """All that can be stored: one version stands and the others are REPLACED, or none lives."""
    for nth, state in product(range(count), (*PENDING, CONFIRMED)):
        yield tuple(state if n == nth else REPLACED for n in range(count))
    yield (ABANDONED,) * count


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_rules_hold_for_every_family(count: int) -> None:
    """All states that can be stored, and all that chain and mempool can show of each version."""
    cases = 0
    for states, shown in product(stored_states(count), product(HEIGHTS, repeat=count)):
        cases += 1
        versions = family(*states)
        seen = {f"v{n}": at for n, at in enumerate(shown) if not isinstance(at, str)}
        standing = stand(versions, seen)
        in_block = {txid for txid, at in seen.items() if at is not None}
        stored = next((v for v in versions if v.state not in (REPLACED, ABANDONED)), None)
        if not seen and stored is None:
            assert standing is None
            continue
        assert standing is not None
        best = in_block or set(seen)
        if best:
            # What is seen is never sent, and what stood goes on standing when that is as good.
            assert standing.current in best
            assert standing.send == ()
            assert standing.height == seen[standing.current]
            assert standing.state is (CONFIRMED if in_block else ACCEPTED)
            assert stored is None or stored.txid not in best or standing.current == stored.txid
        else:
            assert stored is not None
            assert (standing.current, standing.height) == (stored.txid, None)
            assert standing.state is (REFUSED if stored.state is REFUSED else SIGNED)
            assert standing.send[0] == stored.txid
            assert sorted(standing.send) == [v.txid for v in versions]
            others = [int(txid[1:]) for txid in standing.send[1:]]
            assert others == sorted(others, reverse=True)
        # Storing it and looking again at the same chain changes nothing.
        settled = [
            Version(v.txid, standing.state, standing.height)
            if v.txid == standing.current
            else Version(v.txid, REPLACED, None)
            for v in versions
        ]
        assert stand(settled, seen) == standing
    assert cases == (4 * count + 1) * 3**count


@pytest.mark.parametrize(
    ("versions", "gone", "dead"),
    [
        ([{A}], set(), False),
        ([{A}], {B}, False),
        ([{A}], {A}, True),
        ([{A, B}], {B}, True),
        ([{A}, {A, B}], {B}, False),  # the first needs no B
        ([{A}, {A, B}], {A}, True),
        ([{A, C}, {A, B}], {B, C}, True),
        ([{A, C}, {A, B}, {A}], {B, C}, False),
        ([{A, B}, {A, C}, {B, C}], {A}, False),
        ([{A, B}, {A, C}, {B, C}], {A, B}, True),
    ],
)
def test_a_family_is_dead_when_no_version_can_confirm(
    versions: list[set[Outpoint]], gone: set[Outpoint], dead: bool
) -> None:
    """Each has an input that is gone; one that has not keeps the whole family alive."""
    assert is_dead(versions, gone) is dead


@pytest.mark.parametrize("winner", ["first", "second", "third"])
def test_of_those_that_replaced_each_other_one_confirms_and_the_others_are_lost(
    winner: str,
) -> None:
    """Whichever it is, and from the height on at which it is buried."""
    versions = [Version(t, REPLACED, None) for t in ("first", "second", "third")]
    stored = settled(versions, Standing(winner, CONFIRMED, 50))
    assert {v.txid for v in stored if v.state is not REPLACED} == {winner}
    for version in versions:
        assert is_lost(version.txid, stored, 50) is (version.txid != winner)
        assert not is_lost(version.txid, stored, 49)


def test_what_was_abandoned_is_lost() -> None:
    """All of it."""
    versions = [Version(t, ABANDONED, None) for t in ("first", "second")]
    assert all(is_lost(v.txid, versions, 0) for v in versions)
