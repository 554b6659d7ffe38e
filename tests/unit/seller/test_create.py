"""`seller.create` and `seller.readiness`: what a buyer gets, and that a refusal leaves nothing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from embit import ec
from embit.liquid import addresses
from embit.script import Script

from lnlab.wait import wait_for
from lnliquid.config import Settings
from lnliquid.domain import htlc
from lnliquid.domain.errors import (
    AssetNotOffered,
    BackendTimeout,
    BackendUnavailable,
    InsufficientInventory,
    InvalidRequest,
    NotReady,
    PriceAboveCap,
    RequestConflict,
    SwapError,
    SwapNotFound,
    TooManySwaps,
)
from lnliquid.domain.next_step import PayWindow
from lnliquid.domain.swap import Request, State, Swap
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.networks import MAINNET, REGTEST
from lnliquid.seller.create import Seller
from lnliquid.seller.readiness import PAUSED, Readiness
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions
from lnliquid.store.database import Database, Transaction
from lnliquid.store.swaps import FundedSwap
from lnliquid.store.tables import Purpose
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from ..builders import (
    ASSET,
    BUYER,
    NOW,
    POLICY_ASSET,
    SELLER,
    StillClock,
    count_rows,
    make_request,
    migrated,
    settings_values,
    stock,
    txid_of,
    uuid_of,
)
from ..fakes import FakeChain, FakeLightning, Gate

PRICE_MSAT = 3_000
"""Of the 1,000 smallest units that `make_request` asks for, at the price of the settings."""


class CountingFunder(Funder):
    """A funder that funds nothing and counts how often it is woken."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        """Count."""
        self.wakes += 1


@dataclass
class World:
    """A seller over a real store, with backends that the test turns on and off."""

    database: Database
    chain: FakeChain
    lightning: FakeLightning
    inventory: Inventory
    funder: CountingFunder
    notices: Notices
    settings: Settings

    def seller(self, **changes: Any) -> Seller:
        """The seller under these settings, with backends that it has not asked yet."""
        settings = Settings(**{**self.settings.model_dump(), **changes})
        readiness = Readiness(
            self.database, self.chain, self.lightning, self.inventory, settings, StillClock()
        )
        return Seller(self.database, readiness, self.funder, SELLER, settings, self.notices)

    async def rows(self) -> dict[str, int]:
        """Number of rows of every table."""
        return await self.database.read(count_rows)

    async def make_payable(self, swap: Swap, bolt11: str | None = "lnert1") -> None:
        """Fund the swap on paper and give it an invoice, as funder and watcher would."""

        def write(session: Transaction) -> None:
            transactions.add(
                session,
                txid=txid_of(1),
                raw=b"r",
                purpose=Purpose.FUNDING,
                fee_sats=1,
                vsize=1,
                signed_height=1,
            )
            swap_store.bind_funding(session, txid_of(1), [FundedSwap(swap.swap_id, 600, 0, 1)])
            before = swap_store.get(session, swap.swap_id)
            assert before is not None
            after = replace(before, state=State.FUNDED, bolt11=bolt11, invoice_expires_at=NOW)
            assert swap_store.save(session, before, after)

        await self.database.write(write)
        self.notices.swaps_changed([swap.swap_id])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Everything ready; 10,000 of the asset and 100,000 sat in the wallet."""
    settings = Settings(**settings_values(tmp_path, create_wait_secs=0))
    database = Database(migrated(settings.database), StillClock())
    chain, notices = FakeChain(), Notices()
    inventory = Inventory(database, chain, SELLER)
    inventory.synced = True
    await stock(database)
    yield World(database, chain, FakeLightning(), inventory, CountingFunder(), notices, settings)
    database.close()


async def test_a_new_swap_is_reserved_and_the_funder_woken(world: World) -> None:
    """With the settings' terms; without waiting, the swap comes back as CREATED."""
    swap = await world.seller().create_swap(make_request())
    assert (swap.state, swap.total_price_msat, swap.subsidy_sats) == (
        State.CREATED, PRICE_MSAT, 500,
    )  # fmt: skip
    assert swap.buyer_key_hash == BUYER.wallet_key(0, 0).key_hash
    assert swap.payment_hash == SELLER.payment_hash(swap.key_index, swap.swap_id)
    assert swap.seller_key_hash == SELLER.refund_key(swap.key_index).key_hash
    assert swap.max_ln_cltv_blocks == world.settings.max_ln_cltv_blocks
    assert world.funder.wakes == 1
    assert await world.database.read(lambda s: swap_store.waiting(s, 9)) == [swap]


BLINDED = str(
    addresses.address(
        Script(htlc.p2wpkh_script(BUYER.wallet_key(0, 0).key_hash)),
        ec.PrivateKey(b"\x09" * 32).get_public_key(),
        REGTEST.embit,
    )
)

REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], type[SwapError], str]] = [
    # what, request, settings, error, words
    ("asset", {"asset_id": "b6" * 32}, {}, AssetNotOffered, "b6b6"),
    ("blinded", {"buyer_claim_address": BLINDED}, {}, InvalidRequest, "blinded"),
    ("too little", {}, {"min_swap_amount": 1_001}, InvalidRequest, "between 1001 and"),
    ("too much", {}, {"max_swap_amount": 999}, InvalidRequest, "between 1 and 999 here"),
    (
        "confirmations", {"min_funding_confs": 4}, {"max_min_funding_confs": 3}, InvalidRequest,
        "min_funding_confs: must be at most 3",
    ),
    ("price", {"max_total_price_msat": 2_999}, {}, PriceAboveCap, "3000 msat, above .* 2999"),
    ("inventory", {"asset_amount": 10_001}, {}, InsufficientInventory, "10000 available"),
    ("limit", {"request_id": uuid_of(7)}, {"max_inflight_swaps": 1}, TooManySwaps, "1 swaps are"),
    ("conflict", {"request_id": uuid_of(6), "asset_amount": 9}, {}, RequestConflict, "another a"),
]  # fmt: skip


@pytest.mark.parametrize("row", REFUSED, ids=lambda r: r[0])
async def test_a_refused_request_leaves_nothing(
    world: World,
    row: tuple[str, dict[str, Any], dict[str, Any], type[SwapError], str],
) -> None:
    """No row, no index, no funder woken; the message says what is wrong."""
    _, request, settings, kind, words = row
    await world.seller().create_swap(make_request(6, asset_amount=1, max_total_price_msat=1_000))
    rows, wakes = await world.rows(), world.funder.wakes
    if kind is InsufficientInventory:
        request = {**request, "asset_amount": 10_000, "max_total_price_msat": 10**9}
        words = "9999 available"
    with pytest.raises(kind, match=words):
        await world.seller(**settings).create_swap(make_request(**request))
    assert await world.rows() == rows
    assert world.funder.wakes == wakes


async def test_an_address_of_another_network_is_refused(world: World) -> None:
    """By field, with both networks named."""
    address = p2wpkh_address(BUYER.wallet_key(0, 0).key_hash, MAINNET)
    with pytest.raises(InvalidRequest) as caught:
        await world.seller().create_swap(make_request(buyer_claim_address=address))
    [violation] = caught.value.violations
    assert violation.field == "buyer_claim_address"
    assert "liquidv1" in violation.problem
    assert "liquid-regtest" in violation.problem


async def test_all_that_is_wrong_with_a_request_is_told_at_once(world: World) -> None:
    """Address, amount and confirmations."""
    seller = world.seller(min_swap_amount=5_000, max_min_funding_confs=2, funding_confs=1)
    with pytest.raises(InvalidRequest) as caught:
        await seller.create_swap(make_request(buyer_claim_address="x" * 20, min_funding_confs=3))
    assert [v.field for v in caught.value.violations] == [
        "buyer_claim_address", "asset_amount", "min_funding_confs",
    ]  # fmt: skip


async def test_a_price_at_the_cap_is_agreed(world: World) -> None:
    """The buyer said it would pay that much."""
    request = make_request(max_total_price_msat=PRICE_MSAT)
    assert (await world.seller().create_swap(request)).total_price_msat == PRICE_MSAT


async def test_no_swap_takes_more_lbtc_than_its_price(world: World) -> None:
    """With the default least amount a buyer cannot gain by taking the subsidy, whatever it asks."""
    seller = world.seller(min_swap_amount=None, allow_sales_below_cost=False)
    await stock(world.database, asset=1_000_000)
    least = (await seller.offer(ASSET)).min_swap_amount
    for amount in (1, least - 1):
        with pytest.raises(InvalidRequest, match=f"between {least} and"):
            await seller.create_swap(make_request(asset_amount=amount))
    swap = await seller.create_swap(make_request(asset_amount=least, max_total_price_msat=10**9))
    assert swap.total_price_msat >= 1000 * (swap.subsidy_sats + swap.fee_share_sats)


def pause(session: Transaction) -> None:
    """What the operator's Pause stores."""
    coin_store.set_cursor(session, PAUSED, 1)


async def make_unready(world: World, how: str) -> str:
    """Break one thing; returns words of the reason."""
    if how == "paused":
        await world.database.write(pause)
        return "paused"
    if how == "chain down":
        world.chain.broken = BackendUnavailable("electrum", "gone")
        return "Liquid backend cannot be reached"
    if how == "chain slow":
        world.chain.broken = BackendTimeout("electrum", "slow")
        return "Liquid backend cannot be reached"
    if how == "wallet":
        world.inventory.synced = False
        return "wallet is still being read"
    if how == "lightning down":
        world.lightning.is_down = True
        return "Lightning node cannot be reached"
    if how == "lightning network":
        world.lightning.network = "bitcoin"
        return "is on bitcoin, and liquid-regtest goes with liquid-regtest"
    assert how == "capacity"
    world.lightning.receivable = PRICE_MSAT - 1
    return "can receive 2999 msat and the swap needs 3000"


UNREADY = [
    "paused", "chain down", "chain slow", "wallet", "lightning down", "lightning network",
    "capacity",
]  # fmt: skip


@pytest.mark.parametrize("how", UNREADY)
async def test_an_unready_daemon_takes_no_new_swap_and_knows_the_old(
    world: World, how: str
) -> None:
    """UNAVAILABLE with a delay and no row for a new request; the swap for a known one."""
    old = await world.seller().create_swap(make_request(1))
    words = await make_unready(world, how)
    rows, wakes = await world.rows(), world.funder.wakes
    with pytest.raises(NotReady, match=words) as caught:
        await world.seller().create_swap(make_request(2))
    assert caught.value.retry_after_secs > 0
    assert await world.rows() == rows
    assert world.funder.wakes == wakes
    assert await world.seller().create_swap(make_request(1)) == old
    with pytest.raises(RequestConflict):
        await world.seller().create_swap(make_request(1, asset_amount=7))


async def test_capacity_for_exactly_the_price_is_enough(world: World) -> None:
    """Not a msat more is asked for."""
    world.lightning.receivable = PRICE_MSAT
    await world.seller().create_swap(make_request())


async def test_a_burst_asks_lightning_once(world: World) -> None:
    """Twenty requests within the memory of the answer."""
    seller = world.seller()
    await asyncio.gather(*(seller.create_swap(make_request(n, asset_amount=1)) for n in range(20)))
    assert world.lightning.asked == 1
    assert (await world.rows())["swap"] == 20


async def test_a_raced_request_makes_one_swap(world: World) -> None:
    """Twenty at once with one id: one swap and one wake-up."""
    seller = world.seller()
    answers = await asyncio.gather(*(seller.create_swap(make_request()) for _ in range(20)))
    assert len({s.swap_id for s in answers}) == 1
    rows = await world.rows()
    assert rows["swap"] == 1
    assert world.funder.wakes == 1


async def waiting_for(world: World, task: "asyncio.Task[Swap]", request: Request) -> Swap:
    """The stored swap, once the caller waits for it to change."""
    await wait_for(lambda: world.notices._waiting or task.done())
    assert not task.done()
    swap = await world.database.read(lambda s: swap_store.swap_of_request(s, request))
    assert swap is not None
    return swap


async def test_a_caller_waits_until_the_swap_can_be_paid(world: World) -> None:
    """Every caller of one request gets the invoice as soon as it is stored."""
    seller = world.seller(create_wait_secs=60)
    tasks = [asyncio.create_task(seller.create_swap(make_request())) for _ in range(3)]
    swap = await waiting_for(world, tasks[0], make_request())
    world.notices.swaps_changed([swap.swap_id])  # a change that leads to nothing yet
    await world.make_payable(swap)
    for answer in await asyncio.wait_for(asyncio.gather(*tasks), 10):
        assert (answer.state, answer.bolt11) == (State.FUNDED, "lnert1")
    assert world.notices._waiting == {}


async def test_a_caller_gets_the_swap_as_it_stands_when_the_wait_is_over(world: World) -> None:
    """CREATED, without invoice, and nobody is left waiting inside."""
    swap = await world.seller(create_wait_secs=0.05).create_swap(make_request())
    assert (swap.state, swap.bolt11) == (State.CREATED, None)
    assert world.notices._waiting == {}


async def test_a_caller_that_hangs_up_while_waiting_cancels_nothing(world: World) -> None:
    """The same request finds the swap, payable by then."""
    seller = world.seller(create_wait_secs=60)
    task = asyncio.create_task(seller.create_swap(make_request()))
    swap = await waiting_for(world, task, make_request())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.notices._waiting == {}
    await world.make_payable(swap)
    assert (await seller.create_swap(make_request())).bolt11 == "lnert1"


async def test_a_caller_that_hangs_up_during_the_commit_cancels_nothing(world: World) -> None:
    """T1 goes to the disk and the funder hears of it: without that the swap would wait for ever."""
    gate = Gate()
    holding = asyncio.create_task(world.database.write(gate))
    await gate.reached()
    seller = world.seller()
    task = asyncio.create_task(seller.create_swap(make_request()))
    await wait_for(lambda: world.lightning.asked)
    await world.database.read(count_rows)  # time for the write to be queued behind the gate
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    await holding
    await wait_for(lambda: world.funder.wakes)
    assert (await world.rows())["swap"] == 1


@pytest.mark.parametrize(("height", "is_over"), [(387, False), (388, True)])
async def test_a_swap_that_is_funded_too_late_is_not_waited_for(
    world: World, height: int, is_over: bool
) -> None:
    """No invoice will be made: CreateSwap answers at once, and tells that it is over.

    The lock height is 600, and 212 blocks must be left when a payment starts.
    """
    seller = world.seller(create_wait_secs=60)
    task = asyncio.create_task(seller.create_swap(make_request()))
    swap = await waiting_for(world, task, make_request())
    world.chain.height = height
    await world.make_payable(swap, bolt11=None)
    if not is_over:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.2)
        world.chain.height = 388
        world.notices.swaps_changed([swap.swap_id])
    answer = await asyncio.wait_for(task, 10)
    assert (answer.state, answer.bolt11) == (State.FUNDED, None)
    assert await seller.pay_window(answer) == PayWindow(388, is_over=True)


async def test_the_offer_tells_settings_and_what_is_left(world: World) -> None:
    """What is reserved is not offered; an asset that is not sold is not known."""
    seller = world.seller()
    before = await seller.offer(ASSET)
    for name in ("network", "asset_id", "price_msat_per_asset_unit", "min_swap_amount",
                 "max_swap_amount", "fee_subsidy_sats", "refund_delta_blocks",
                 "invoice_expiry_secs", "max_min_funding_confs", "max_ln_cltv_blocks",
                 "claim_margin_blocks", "asset_precision"):  # fmt: skip
        assert getattr(before, name) == getattr(world.settings, name)
    assert (before.available_amount, before.lightning_node_id) == (10_000, "02" * 33)
    await seller.create_swap(make_request())
    assert (await seller.offer(ASSET)).available_amount == 9_000
    for other in ("b6" * 32, POLICY_ASSET):
        with pytest.raises(AssetNotOffered):
            await seller.offer(other)


@pytest.mark.parametrize("how", UNREADY)
async def test_an_offer_is_answered_by_an_unready_daemon_too(world: World, how: str) -> None:
    """It has no effect and needs no backend."""
    await make_unready(world, how)
    assert (await world.seller().offer(ASSET)).available_amount == 10_000


async def test_a_swap_is_found_by_its_id_with_its_events(world: World) -> None:
    """And an unknown id is told as such."""
    made = await world.seller().create_swap(make_request())
    swap, events = await world.seller().swap(made.swap_id)
    assert swap == made
    assert [e.to_state for e in events] == [State.CREATED]
    with pytest.raises(SwapNotFound, match="returned by CreateSwap"):
        await world.seller().swap(uuid_of(99))
