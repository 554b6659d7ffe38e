"""`store.transactions`, `store.queries`: our transactions followed and replaced, swaps counted."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.domain.swap import Outpoint, State
from lnliquid.store import coins as coin_store
from lnliquid.store import queries, transactions
from lnliquid.store import swaps as store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose, TxState

from ..builders import StillClock, migrated, stock, txid_of
from .test_swaps import FUNDING, created, fund, load, store_funding


@pytest.fixture
def clock() -> StillClock:
    """The clock of the database."""
    return StillClock()


@pytest.fixture
def database(tmp_path: Path, clock: StillClock) -> Iterator[Database]:
    """A fresh database."""
    made = Database(migrated(tmp_path / "seller.sqlite"), clock)
    yield made
    made.close()


STATES = [
    (TxState.SIGNED, None), (TxState.CONFIRMED, 10), (TxState.CONFIRMED, 11),
    (TxState.ABANDONED, None), (TxState.REPLACED, None), (TxState.SIGNED, None),
    (TxState.ACCEPTED, None), (TxState.REFUSED, None),
]  # fmt: skip


async def store_txs(database: Database, clock: StillClock) -> None:
    """Store transactions 1 to 8 in the states above, a second and a block apart."""
    for number, (state, height) in enumerate(STATES, 1):

        def write(session: Transaction) -> None:
            store_funding(session, txid_of(number), 100 + number)  # noqa: B023
            transactions.set_state(session, txid_of(number), state, height)  # noqa: B023

        clock.at += 1
        await database.write(write)


async def test_own_transactions_are_followed_until_they_are_buried(
    database: Database, clock: StillClock
) -> None:
    """Those to confirm always, confirmed ones above the height, given up ones never; in order."""
    await store_txs(database, clock)
    rows = await database.read(lambda s: transactions.moving(s, 10))
    assert [row.txid for row in rows] == [txid_of(n) for n in (1, 3, 6, 7, 8)]


async def test_transactions_that_are_to_confirm_are_found(
    database: Database, clock: StillClock
) -> None:
    """In the order in which they were stored."""
    await store_txs(database, clock)
    rows = await database.read(transactions.pending)
    assert [row.txid for row in rows] == [txid_of(n) for n in (1, 6, 7, 8)]


async def test_a_replacement_takes_over_inputs_and_swaps(database: Database) -> None:
    """And gives them back when the one it replaced confirms instead."""
    await stock(database)
    [swap] = await fund(database, await created(database))
    coin, newer = Outpoint(txid_of(1), 0), txid_of(78)
    await database.write(lambda s: coin_store.bind_outpoints(s, [coin], FUNDING))

    def replace_it(session: Transaction) -> None:
        store_funding(session, newer)
        transactions.point_to(session, FUNDING, newer)

    await database.write(replace_it)
    assert (await load(database, swap.swap_id)).funding_txid == newer
    assert await database.read(lambda s: store.funded_by(s, FUNDING)) == []
    assert await database.read(lambda s: coin_store.live_children(s, coin.txid)) == {newer}
    moving = await database.read(lambda s: transactions.moving(s, 0))
    assert [row.txid for row in moving] == [newer]
    await database.write(lambda s: transactions.point_to(s, newer, FUNDING))
    assert await load(database, swap.swap_id) == swap
    assert await database.read(lambda s: coin_store.live_children(s, coin.txid)) == {FUNDING}


async def test_a_family_is_found_by_any_of_its_versions(database: Database) -> None:
    """The first, a replacement of it, and another replacement that came after a reorg."""
    first, second, other = family = [txid_of(1), txid_of(2), txid_of(3)]

    def write(session: Transaction) -> None:
        for txid, replaces in ((first, None), (second, first), (other, first)):
            store_funding(session, txid, replaces=replaces)

    await database.write(write)
    for txid, versions in (*((version, family) for version in family), (txid_of(4), [])):
        rows = await database.read(lambda s: transactions.versions(s, txid))  # noqa: B023
        assert [row.txid for row in rows] == versions


async def test_swaps_are_listed_newest_first(database: Database) -> None:
    """By state, by need of the operator, up to a limit."""
    await stock(database)
    swaps = [await created(database, n) for n in range(4)]
    await database.write(lambda s: store.fail_waiting(s, swaps[1], "no"))
    unclaimed = replace(swaps[2], paid_unclaimed=True)
    await database.write(lambda s: store.save(s, swaps[2], unclaimed))

    async def listed(*states: State, only: bool = False, limit: int = 9) -> list[int]:
        wanted = queries.Filter(states, only)
        found = await database.read(lambda s: queries.listed(s, wanted, limit))
        return [swap.key_index for swap in found]

    assert await listed() == [3, 2, 1, 0]
    assert await listed(limit=2) == [3, 2]
    assert await listed(State.FAILED) == [1]
    assert await listed(State.FAILED, State.CREATED) == [3, 2, 1, 0]
    assert await listed(only=True) == [2]


async def test_what_is_locked_is_added_up(database: Database) -> None:
    """Amounts and subsidies of swaps with a funding that are neither claimed nor refunded."""
    await stock(database)
    swaps = [await created(database, n) for n in range(4)]
    assert await database.read(queries.locked) == (0, 0)
    first, _, last = await fund(database, *swaps[:3])
    assert await database.read(queries.locked) == (3_000, 1_500)
    for swap, state in ((first, State.CLAIMED), (last, State.FUNDED)):
        await database.write(lambda s: store.save(s, swap, replace(swap, state=state)))  # noqa: B023
    assert await database.read(queries.locked) == (2_000, 1_000)


async def test_swaps_are_counted(database: Database) -> None:
    """By state, open ones, those that need the operator, the next lock height of the others."""
    await stock(database)
    nothing = await database.read(queries.counts)
    assert nothing == queries.Counts({}, 0, 0, None)
    swaps = [await created(database, n) for n in range(4)]
    first, second, third = await fund(database, *swaps[:3])
    await database.write(lambda s: store.fail_waiting(s, swaps[3], "no"))
    for swap, changes in (
        (first, {"state": State.FUNDED, "paid_unclaimed": True, "refund_lock_height": 500}),
        (third, {"state": State.FUNDED}),
        (second, {"state": State.CLAIMED, "finished": True}),
    ):
        after = replace(swap, **changes)
        await database.write(lambda s: store.save(s, swap, after))  # noqa: B023
    assert await database.read(queries.counts) == queries.Counts(
        {State.FUNDED: 2, State.CLAIMED: 1, State.FAILED: 1}, 2, 1, 600
    )


async def test_a_family_is_named_by_its_first_version(database: Database) -> None:
    """However long the chain of replacements; the same bytes again change nothing of that."""
    first, second, third, other = (txid_of(n) for n in range(1, 5))

    def write(session: Transaction) -> None:
        for txid, replaces in ((first, None), (second, first), (other, None), (third, second)):
            store_funding(session, txid, replaces=replaces)
        store_funding(session, second, signed_height=130, replaces=third)

    await database.write(write)
    for txid in (first, second, third):
        rows = await database.read(lambda s: transactions.versions(s, txid))  # noqa: B023
        assert {r.family for r in rows} == {first}
        assert [(r.txid, r.signed_height) for r in rows] == [
            (first, 100), (second, 130), (third, 100),
        ]  # fmt: skip
    [row] = await database.read(lambda s: transactions.versions(s, other))
    assert (row.txid, row.family) == (other, other)


@pytest.mark.parametrize("state", list(TxState))
async def test_the_version_that_stands_is_told_for_each(database: Database, state: TxState) -> None:
    """None for what is not stored, or where no version lives."""
    first, second = txid_of(1), txid_of(2)

    def write(session: Transaction) -> None:
        store_funding(session, first)
        store_funding(session, second, replaces=first)
        transactions.set_state(session, first, TxState.REPLACED)
        transactions.set_state(session, second, state, 7)

    await database.write(write)
    asked = [first, second, txid_of(3)]
    found = await database.read(lambda s: transactions.standing_for(s, asked))
    lives = state not in (TxState.ABANDONED, TxState.REPLACED)
    assert found == (dict.fromkeys((first, second), second) if lives else {})
    assert await database.read(lambda s: transactions.standing_for(s, [])) == {}


@pytest.mark.parametrize("answer", [TxState.ACCEPTED, TxState.REFUSED])
@pytest.mark.parametrize("state", list(TxState))
async def test_an_answer_counts_for_what_is_to_confirm(
    database: Database, state: TxState, answer: TxState
) -> None:
    """One that comes late changes nothing of what was settled meanwhile."""

    def write(session: Transaction) -> None:
        store_funding(session, txid_of(1))
        transactions.set_state(session, txid_of(1), state)
        transactions.mark_sent(session, txid_of(1), answer)

    await database.write(write)
    [row] = await database.read(lambda s: transactions.versions(s, txid_of(1)))
    is_pending = state in (TxState.SIGNED, TxState.ACCEPTED, TxState.REFUSED)
    assert row.state == (answer if is_pending else state)


async def test_a_family_is_followed_with_all_its_versions(database: Database) -> None:
    """While one is to confirm, is not deep enough yet, or could not be read."""
    families = [
        (TxState.SIGNED, None), (TxState.CONFIRMED, 11), (TxState.CONFIRMED, 10),
        (TxState.ABANDONED, None), (TxState.CONFIRMED, 9),
    ]  # fmt: skip

    def write(session: Transaction) -> None:
        for number, (state, height) in enumerate(families):
            older, newer = txid_of(10 * number), txid_of(10 * number + 1)
            store_funding(session, older)
            store_funding(session, newer, replaces=older)
            transactions.set_state(session, older, TxState.REPLACED)
            transactions.set_state(session, newer, state, height)
        transactions.set_unread(session, {txid_of(41)})

    await database.write(write)
    rows = await database.read(lambda s: transactions.moving(s, 10))
    assert [row.txid for row in rows] == [txid_of(n) for n in (0, 1, 10, 11, 40, 41)]


async def test_a_deposit_that_left_the_chain_keeps_no_lanes_waiting(database: Database) -> None:
    """Only what we signed does: others decide when a deposit comes again."""

    def store(purpose: Purpose) -> Callable[[Transaction], bool]:
        def write(session: Transaction) -> bool:
            transactions.add(
                session,
                txid=f"{int(purpose):064x}",
                raw=b"",
                purpose=purpose,
                fee_sats=0,
                vsize=1,
                signed_height=1,
            )
            return transactions.signs_pending(session)

        return write

    assert not await database.write(store(Purpose.DEPOSIT))
    assert await database.write(store(Purpose.REFUND))
