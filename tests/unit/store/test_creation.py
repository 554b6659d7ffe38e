"""`store.creation`: T1 for many at once is the same as one after another."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from lnliquid.domain.errors import InsufficientInventory, RequestConflict, SwapError, TooManySwaps
from lnliquid.domain.swap import Swap
from lnliquid.store import swaps as store
from lnliquid.store.creation import NewSwap
from lnliquid.store.database import Database, Transaction

from ..builders import StillClock, make_request, migrated, new_swap, stock, uuid_of

TABLES = ("swap", "event", "cursor")


def everything(session: Transaction) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the tables that T1 writes."""
    return {
        t: [tuple(r) for r in session.execute(text(f"SELECT * FROM {t} ORDER BY 1"))]
        for t in TABLES
    }


def told(outcomes: list[tuple[Swap, bool] | SwapError]) -> list[Any]:
    """Outcomes that can be compared."""
    return [(type(o), str(o)) if isinstance(o, SwapError) else o for o in outcomes]


def at_once(session: Transaction, news: list[NewSwap]) -> list[tuple[Swap, bool] | SwapError]:
    """All in one call."""
    return store.create_all(session, news)


def in_turn(session: Transaction, news: list[NewSwap]) -> list[tuple[Swap, bool] | SwapError]:
    """Each in a call of its own."""
    outcomes: list[tuple[Swap, bool] | SwapError] = []
    for new in news:
        try:
            outcomes.append(store.create(session, new))
        except SwapError as error:
            outcomes.append(error)
    return outcomes


def wanted(number: int, amount: int, attempt: int, max_inflight: int = 100) -> NewSwap:
    """T1 of request `number`, as CreateSwap would ask for it the n-th time."""
    new = new_swap(make_request(number, asset_amount=amount), max_inflight=max_inflight)
    return replace(new, swap_id=uuid_of(1_000 * attempt + number))


class RolledBack(Exception):
    """Ends a write without a trace."""


async def outcome_of(database: Database, work: Callable[[Transaction], Any]) -> Any:
    """What a write returns and leaves; it is undone again."""
    result: list[Any] = []

    def undone(session: Transaction) -> None:
        result.append((work(session), everything(session)))
        raise RolledBack

    with pytest.raises(RolledBack):
        await database.write(undone)
    return result[0]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 2_000, 3_000, 9_000])), max_size=12),
    st.integers(2, 5),
    st.integers(1_120 * 2, 1_120 * 8),
)
def test_many_at_once_end_as_they_would_in_turn(
    tmp_path_factory: pytest.TempPathFactory,
    asked: list[tuple[int, int]],
    max_inflight: int,
    lbtc: int,
) -> None:
    """New, known, repeated and conflicting, refused for asset, L-BTC and number: same rows too."""
    news = [wanted(n, amount, i + 1, max_inflight) for i, (n, amount) in enumerate(asked)]

    async def compare() -> None:
        path = tmp_path_factory.mktemp("creation") / "seller.sqlite"
        database = Database(migrated(path), StillClock())
        try:
            await stock(database, asset=10_000, lbtc=lbtc)
            await database.write(lambda s: store.create(s, wanted(6, 2_000, 0)))
            results = [
                await outcome_of(database, lambda s, how=how: told(how(s, news)))  # type: ignore[misc]
                for how in (at_once, in_turn)
            ]
            assert results[0] == results[1]
        finally:
            database.close()

    asyncio.run(compare())


async def test_each_of_a_batch_gets_its_own_outcome(tmp_path: Path) -> None:
    """Two sold, one repeated, one in conflict, one too large, one too many."""
    database = Database(migrated(tmp_path / "seller.sqlite"), StillClock())
    try:
        await stock(database, asset=10_000)
        news = [
            wanted(1, 4_000, 1, 3),
            wanted(1, 4_000, 2, 3),
            wanted(1, 5_000, 3, 3),
            wanted(2, 7_000, 4, 3),
            wanted(3, 6_000, 5, 3),
            wanted(4, 0, 6, 2),
        ]
        outcomes = await database.write(lambda s: store.create_all(s, news))
    finally:
        database.close()
    first, again, conflict, large, last, many = outcomes
    assert isinstance(first, tuple)
    assert first[1]
    assert again == (first[0], False)
    assert isinstance(conflict, RequestConflict)
    assert conflict.fields == ("asset_amount",)
    assert isinstance(large, InsufficientInventory)
    assert large.available == 6_000
    assert isinstance(last, tuple)
    assert (last[0].key_index, last[1]) == (1, True)
    assert isinstance(many, TooManySwaps)
