"""`store.swaps`: T1, T2, saving, and the event log, on a real file."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lnliquid.domain.errors import (
    InsufficientInventory,
    RequestConflict,
    StoreFailure,
    SwapError,
    TooManySwaps,
)
from lnliquid.domain.swap import IllegalTransition, InvoiceMark, Request, State, Swap
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as store
from lnliquid.store import transactions
from lnliquid.store.database import Database, Transaction
from lnliquid.store.swaps import FundedSwap
from lnliquid.store.tables import Purpose, TxState

from ..builders import (
    ASSET,
    NOW,
    POLICY_ASSET,
    SELLER,
    StillClock,
    count_rows,
    make_request,
    migrated,
    new_swap,
    stock,
    txid_of,
    uuid_of,
)

FUNDING = txid_of(77)


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


async def create(database: Database, request: Request, **changes: object) -> tuple[Swap, bool]:
    """T1 for this request."""
    new = new_swap(request, **changes)
    return await database.write(lambda s: store.create(s, new))


async def created(database: Database, number: int = 0) -> Swap:
    """A new swap; the wallet is stocked before."""
    return (await create(database, make_request(number)))[0]


async def load(database: Database, swap_id: str) -> Swap:
    """The swap as stored."""
    swap = await database.read(lambda s: store.get(s, swap_id))
    assert swap is not None
    return swap


def store_funding(
    session: Transaction, txid: str, signed_height: int = 100, replaces: str | None = None
) -> None:
    """Keep a funding transaction of ours."""
    transactions.add(
        session,
        txid=txid,
        raw=b"raw",
        purpose=Purpose.FUNDING,
        fee_sats=49,
        vsize=483,
        signed_height=signed_height,
        replaces=replaces,
    )


async def fund(database: Database, *swaps: Swap, txid: str = FUNDING) -> list[Swap]:
    """T2 for these swaps."""

    def write(session: Transaction) -> None:
        store_funding(session, txid)
        funded = [FundedSwap(s.swap_id, 600, 2 * n, 2 * n + 1) for n, s in enumerate(swaps)]
        store.bind_funding(session, txid, funded)

    await database.write(write)
    return [await load(database, s.swap_id) for s in swaps]


async def test_t1_stores_the_swap_and_its_event(database: Database, clock: StillClock) -> None:
    """One row of each, with the terms and the keys of the next index, at the time of the clock."""
    await stock(database)
    before = await database.read(count_rows)
    clock.at = NOW + 5
    swap, is_new = await create(database, make_request(7))
    assert is_new
    assert (swap.state, swap.key_index, swap.created_at) == (State.CREATED, 0, NOW + 5)
    assert swap.payment_hash == SELLER.payment_hash(0, swap.swap_id)
    assert swap.seller_key_hash == SELLER.refund_key(0).key_hash
    assert (swap.asset_amount, swap.subsidy_sats, swap.fee_share_sats) == (1_000, 500, 620)
    assert (swap.funding_txid, swap.refund_lock_height, swap.bolt11) == (None, None, None)
    assert await load(database, swap.swap_id) == swap
    after = await database.read(count_rows)
    added = {
        table: after[table] - before[table] for table in after if after[table] != before[table]
    }
    assert added == {"swap": 1, "event": 1, "cursor": 1}


async def test_the_same_request_is_the_same_swap_in_every_state(database: Database) -> None:
    """Nothing is added and nothing changed, whatever became of the swap."""
    await stock(database)
    swap = await created(database)
    [swap] = await fund(database, swap)
    rows = await database.read(count_rows)
    for state in (State.CREATED, State.FUNDED, State.CLAIMED):
        if state is not swap.state:
            after = replace(swap, state=state)
            assert await database.write(lambda s: store.save(s, swap, after))  # noqa: B023
            swap = after
            rows = await database.read(count_rows)
        again, is_new = await create(database, make_request(), swap_id=uuid_of(9))
        assert (again, is_new) == (swap, False)
        assert await database.read(lambda s: store.swap_of_request(s, make_request())) == swap
        assert await database.read(count_rows) == rows


async def test_a_request_raced_by_itself_makes_one_swap(database: Database) -> None:
    """Fifty at once: one is new, all get the same swap."""
    await stock(database)
    answers = await asyncio.gather(
        *(create(database, make_request(), swap_id=uuid_of(500 + n)) for n in range(50))
    )
    assert sum(is_new for _, is_new in answers) == 1
    assert len({swap.swap_id for swap, _ in answers}) == 1


CHANGES: dict[str, Any] = {
    "asset_id": "b6" * 32,
    "asset_amount": 1_001,
    "buyer_claim_address": "ert1other",
    "min_funding_confs": 3,
    "max_total_price_msat": 200_001,
}


def test_every_parameter_of_a_request_is_tried() -> None:
    """The id is not a parameter."""
    assert set(CHANGES) == {f for f in Request.__dataclass_fields__ if f != "request_id"}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_conflict_names_the_field_that_differs(database: Database, name: str) -> None:
    """The same id with one other parameter is refused, by lookup and by T1, and leaves no row."""
    await stock(database)
    await created(database)
    rows = await database.read(count_rows)
    other = make_request(**{name: CHANGES[name]})
    with pytest.raises(RequestConflict) as caught:
        await create(database, other, swap_id=uuid_of(9))
    assert (caught.value.request_id, caught.value.fields) == (uuid_of(0), (name,))
    with pytest.raises(RequestConflict):
        await database.read(lambda s: store.swap_of_request(s, other))
    assert await database.read(count_rows) == rows


async def test_a_conflict_names_all_fields_that_differ(database: Database) -> None:
    """In the order of the schema."""
    await stock(database)
    await created(database)
    with pytest.raises(RequestConflict) as caught:
        await create(database, make_request(**CHANGES))
    assert caught.value.fields == tuple(CHANGES)


@pytest.mark.parametrize(
    ("request_changes", "new_changes", "refusal", "available"),
    [
        ({"asset_amount": 10_001}, {}, InsufficientInventory, 10_000),
        ({"asset_id": "b6" * 32}, {}, InsufficientInventory, 0),
        ({}, {"subsidy_sats": 99_006}, InsufficientInventory, 99_625),
        ({}, {"max_inflight": 0}, TooManySwaps, None),
    ],
    ids=["asset", "another asset", "L-BTC", "open swaps"],
)
async def test_a_refusal_leaves_no_row(
    database: Database,
    request_changes: dict[str, Any],
    new_changes: dict[str, Any],
    refusal: type[SwapError],
    available: int | None,
) -> None:
    """Neither row nor index is used up; the message tells what could be had."""
    await stock(database)
    rows = await database.read(count_rows)
    with pytest.raises(refusal) as caught:
        await create(database, make_request(**request_changes), **new_changes)
    if isinstance(caught.value, InsufficientInventory):
        assert caught.value.available == available
    assert await database.read(count_rows) == rows
    assert (await created(database)).key_index == 0


@pytest.mark.parametrize(
    ("request_changes", "new_changes"),
    [({"asset_amount": 10_000}, {}), ({}, {"subsidy_sats": 99_005}), ({}, {"max_inflight": 1})],
    ids=["asset", "L-BTC", "open swaps"],
)
async def test_the_last_unit_can_be_sold(
    database: Database, request_changes: dict[str, Any], new_changes: dict[str, Any]
) -> None:
    """The limits of the refusals above, exactly reached; then nothing is left."""
    await stock(database)
    assert (await create(database, make_request(**request_changes), **new_changes))[1]
    with pytest.raises((InsufficientInventory, TooManySwaps)):
        await create(database, make_request(1, **request_changes), **new_changes)


async def test_more_demand_than_inventory(database: Database) -> None:
    """Of twenty raced requests for a tenth each, ten get it and ten leave nothing."""
    await stock(database)
    answers = await asyncio.gather(
        *(create(database, make_request(n)) for n in range(20)), return_exceptions=True
    )
    refused = [a for a in answers if isinstance(a, InsufficientInventory)]
    assert len(refused) == 10
    rows = await database.read(count_rows)
    assert rows["swap"] == 10
    assert await database.read(lambda s: coin_store.reservable(s, ASSET)) == 0
    assert await database.read(lambda s: coin_store.cursor(s, store.NEXT_SWAP)) == 10


async def test_a_finished_swap_makes_room(database: Database) -> None:
    """The limit is on open swaps."""
    await stock(database)
    swap = await created(database)
    with pytest.raises(TooManySwaps):
        await create(database, make_request(1), max_inflight=1)
    done = replace(swap, finished=True)
    await database.write(lambda s: store.save(s, swap, done))
    assert (await create(database, make_request(1), max_inflight=1))[1]


async def test_t2_gives_the_swaps_their_outputs_and_ends_their_reservations(
    database: Database,
) -> None:
    """They leave the waiting and enter the watched ones; the state stays CREATED."""
    await stock(database)
    swaps = [await created(database, n) for n in range(3)]
    assert await database.read(lambda s: store.waiting(s, 10)) == swaps
    assert await database.read(lambda s: store.waiting(s, 2)) == swaps[:2]
    first, second = await fund(database, swaps[0], swaps[2])
    assert (second.funding_txid, second.refund_lock_height) == (FUNDING, 600)
    assert (second.asset_vout, second.subsidy_vout, second.state) == (2, 3, State.CREATED)
    assert await database.read(lambda s: store.waiting(s, 10)) == [swaps[1]]
    assert await database.read(store.watched) == [first, second]
    assert await database.read(lambda s: coin_store.reservable(s, ASSET)) == 9_000


async def test_a_swap_is_never_bound_to_a_second_funding(database: Database) -> None:
    """The whole second T2 is undone, its transaction too."""
    await stock(database)
    swaps = [await created(database, n) for n in range(2)]
    await fund(database, swaps[0])
    rows = await database.read(count_rows)
    with pytest.raises(RuntimeError, match="has a funding transaction already"):
        await fund(database, swaps[1], swaps[0], txid=txid_of(78))
    assert await database.read(count_rows) == rows
    assert (await load(database, swaps[1].swap_id)).funding_txid is None


async def test_a_swap_is_not_bound_to_a_transaction_that_is_not_stored(database: Database) -> None:
    """Money rule 1 by foreign key: no swap points to bytes that are not there."""
    await stock(database)
    swap = await created(database)
    item = FundedSwap(swap.swap_id, 600, 0, 1)
    with pytest.raises(StoreFailure, match="FOREIGN KEY"):
        await database.write(lambda s: store.bind_funding(s, FUNDING, [item]))
    assert await load(database, swap.swap_id) == swap


DEAD_HEIGHT = 40


async def abandoned(database: Database, txid: str = FUNDING) -> None:
    """A funding that cannot confirm any more, by blocks up to this height."""
    await database.write(lambda s: transactions.set_state(s, txid, TxState.ABANDONED, DEAD_HEIGHT))


async def test_a_swap_fails_with_its_funding_and_reserves_nothing(database: Database) -> None:
    """It keeps what it points to, should that come back, and no other swap is touched."""
    await stock(database)
    swaps = [await created(database, n) for n in range(2)]
    [first] = await fund(database, swaps[0])
    [other] = await fund(database, swaps[1], txid=txid_of(78))
    assert await database.write(store.fail_held) == set()
    await abandoned(database)
    assert await database.read(store.held) == [first]
    assert await database.write(store.fail_held) == {swaps[0].swap_id}
    assert await database.read(store.held) == []
    assert await load(database, first.swap_id) == replace(first, **FAILED)
    events = await database.read(lambda s: store.events(s, first.swap_id))
    assert [(e.to_state, e.txid, e.height) for e in events[1:]] == [
        (State.FAILED, FUNDING, DEAD_HEIGHT)
    ]
    assert await database.read(lambda s: store.waiting(s, 9)) == []
    assert await database.read(store.watched) == [other]
    left = await database.read(lambda s: coin_store.reservable(s, ASSET))
    assert left == 10_000
    lbtc = await database.read(lambda s: coin_store.reservable_lbtc(s, POLICY_ASSET))
    assert lbtc == 100_000


STAYS: dict[str, Any] = {}
FAILED: dict[str, Any] = {"state": State.FAILED, "finished": True, "final_height": DEAD_HEIGHT}
SHOWN: dict[str, Any] = {"paid_unclaimed": True}
ORDERED: dict[str, Any] = {"forced_refund_reason": "closed by hand"}


@pytest.mark.parametrize(
    ("changes", "becomes"),
    [
        ({"state": State.FUNDED}, STAYS),
        ({"state": State.CLAIMED}, STAYS),
        ({"invoice_mark": InvoiceMark.ASKED}, STAYS),
        ({"invoice_mark": InvoiceMark.CLOSED}, STAYS),
        ({"invoice_mark": InvoiceMark.PAID}, SHOWN),
        ({"invoice_mark": InvoiceMark.LOST}, SHOWN),
        ({"invoice_mark": InvoiceMark.PAID, **SHOWN}, STAYS),
        ({"invoice_mark": InvoiceMark.REFUNDING}, FAILED),
        (
            {"invoice_mark": InvoiceMark.PAID, **SHOWN, **ORDERED},
            FAILED | {"paid_unclaimed": False},
        ),
    ],
    ids=str,
)
async def test_each_swap_of_an_abandoned_funding_goes_its_own_way(
    database: Database, changes: dict[str, Any], becomes: dict[str, Any]
) -> None:
    """None is funded again; one that was paid, or may be, does not fail, and holds up no other."""
    await stock(database)
    free, swap = await fund(database, await created(database), await created(database, 1))
    held = replace(swap, **changes)
    await database.write(lambda s: store.save(s, swap, held))
    await abandoned(database)
    changed = await database.write(store.fail_held)
    assert changed == {free.swap_id} | ({swap.swap_id} if becomes else set())
    assert await load(database, swap.swap_id) == replace(held, **becomes)
    assert await load(database, free.swap_id) == replace(free, **FAILED)
    assert await database.read(lambda s: coin_store.reservable(s, ASSET)) == 10_000
    assert await database.write(store.fail_held) == set()


async def test_only_a_swap_that_nothing_was_signed_for_may_fail(database: Database) -> None:
    """It is over then, with an event and without reservation; a funded one is refused."""
    await stock(database)
    swap, other = await created(database), await created(database, 1)
    assert await database.write(lambda s: store.fail_waiting(s, swap, "no coins"))
    failed = await load(database, swap.swap_id)
    assert (failed.state, failed.finished) == (State.FAILED, True)
    events = await database.read(lambda s: store.events(s, swap.swap_id))
    assert (events[-1].to_state, events[-1].cause) == (State.FAILED, "no coins")
    assert await database.read(lambda s: coin_store.reservable(s, ASSET)) == 9_000
    assert not await database.write(lambda s: store.fail_waiting(s, swap, "again"))
    [funded] = await fund(database, other)
    with pytest.raises(ValueError, match="may not fail"):
        await database.write(lambda s: store.fail_waiting(s, funded, "no"))


async def test_saving_writes_an_event_for_every_step(database: Database, clock: StillClock) -> None:
    """CREATED to REFUNDED passes FUNDED; numbers grow, cause and height are kept."""
    await stock(database)
    [swap] = await fund(database, await created(database))
    clock.at = NOW + 60
    after = replace(swap, state=State.REFUNDED, spend_txid=txid_of(9))
    saved = await database.write(
        lambda s: store.save(s, swap, after, cause="seen", txid=txid_of(9), height=12)
    )
    assert saved
    assert await load(database, swap.swap_id) == after
    events = await database.read(lambda s: store.events(s, swap.swap_id))
    assert [(e.from_state, e.to_state, e.cause, e.height, e.at) for e in events] == [
        (None, State.CREATED, "inventory reserved", None, NOW),
        (State.CREATED, State.FUNDED, "seen", 12, NOW + 60),
        (State.FUNDED, State.REFUNDED, "seen", 12, NOW + 60),
    ]
    assert [e.seq for e in events] == sorted({e.seq for e in events})
    later = await database.read(lambda s: store.events(s, swap.swap_id, after=events[1].seq))
    assert later == events[2:]


async def test_saving_on_an_old_picture_is_refused(database: Database) -> None:
    """Another state or another funding than was decided on: nothing is written."""
    await stock(database)
    swap = await created(database)
    [funded] = await fund(database, swap)
    rows = await database.read(count_rows)
    for before in (swap, replace(funded, state=State.FUNDED), replace(funded, swap_id="none")):
        after = replace(before, state=State.CLAIMED)
        assert not await database.write(lambda s: store.save(s, before, after))  # noqa: B023
    assert await load(database, swap.swap_id) == funded
    assert await database.read(count_rows) == rows


async def test_saving_writes_only_what_changed(database: Database) -> None:
    """What another writer set meanwhile, like the operator's order, is not overwritten."""
    await stock(database)
    [swap] = await fund(database, await created(database))
    ordered = replace(swap, forced_refund_reason="the buyer asked")
    await database.write(lambda s: store.save(s, swap, ordered))
    moved = replace(swap, state=State.FUNDED)
    await database.write(lambda s: store.save(s, swap, moved))
    assert await load(database, swap.swap_id) == replace(ordered, state=State.FUNDED)


async def test_an_illegal_transition_is_not_written(database: Database) -> None:
    """FAILED is the end, unless the swap is reopened."""
    await stock(database)
    swap = await created(database)
    failed = replace(swap, state=State.FAILED, finished=True)
    await database.write(lambda s: store.save(s, swap, failed, cause="no coins"))
    with pytest.raises(IllegalTransition):
        await database.write(lambda s: store.save(s, failed, replace(failed, state=State.FUNDED)))
    assert await load(database, swap.swap_id) == failed


async def test_only_the_changes_that_still_hold_are_saved(database: Database) -> None:
    """Of many at once: the one that was decided on an old picture is told apart, and left alone."""
    await stock(database)
    swaps = [await created(database, number) for number in range(3)]
    await fund(database, swaps[1])
    failed = [replace(s, state=State.FAILED, finished=True) for s in swaps]
    changes = [store.Change(s, after, "a test") for s, after in zip(swaps, failed, strict=True)]
    assert await database.write(lambda s: store.save_all(s, changes)) == [True, False, True]
    states = [(await load(database, s.swap_id)).state for s in swaps]
    assert states == [State.FAILED, State.CREATED, State.FAILED]
    assert len(await database.read(lambda s: store.events(s, swaps[1].swap_id))) == 1


async def test_a_lost_update_undoes_the_write(database: Database) -> None:
    """Two changes of one swap in one write: the second would overwrite the first."""
    await stock(database)
    swap = await created(database)
    funded = replace(swap, state=State.FUNDED)
    paid = replace(swap, invoice_mark=InvoiceMark.PAID)
    changes = [store.Change(swap, funded, "a test"), store.Change(swap, paid)]
    with pytest.raises(RuntimeError, match="1 swaps were to be written, 0 were"):
        await database.write(lambda s: store.save_all(s, changes))
    assert await load(database, swap.swap_id) == swap


async def test_a_failed_swap_gives_its_reservation_back(database: Database) -> None:
    """All of it can be sold to the next one."""
    await stock(database)
    swap = (await create(database, make_request(asset_amount=10_000)))[0]
    failed = replace(swap, state=State.FAILED, finished=True)
    await database.write(lambda s: store.save(s, swap, failed))
    assert await database.read(lambda s: coin_store.reservable(s, ASSET)) == 10_000
    assert (await create(database, make_request(1, asset_amount=10_000)))[1]
