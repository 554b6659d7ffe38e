"""The price at run time: it counts from the next swap on, and nothing is sold once it ran out."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lnliquid.domain.errors import AssetNotOffered, InvalidRequest, PriceAboveCap, PriceStale
from lnliquid.domain.swap import Request, Swap
from lnliquid.domain.terms import total_price_msat
from lnliquid.store.database import Database

from ..builders import ASSET, NOW, make_request
from ..seller_world import SellerWorld

SETTINGS = 300_000_000
"""msat a unit, as the world's settings have it."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SellerWorld]:
    """A seller with coins."""
    made = SellerWorld(tmp_path, create_wait_secs=0)
    await made.stock()
    yield made
    await made.close()


def request(number: int, cap: int = 10**12) -> Request:
    """For 1,000 units."""
    return make_request(number, asset_amount=1_000, max_total_price_msat=cap)


def cost(msat_per_unit: int) -> int:
    """What 1,000 of the smallest unit cost then."""
    return total_price_msat(1_000, msat_per_unit, 8)


async def test_it_counts_from_the_next_swap_on(world: SellerWorld) -> None:
    """Existing swaps keep theirs, repeated requests too; cleared, that of the settings counts."""
    first = await world.seller.create_swap(request(1))
    await world.operator.set_price(ASSET, 2 * SETTINGS, 0)
    second = await world.seller.create_swap(request(2))
    assert (first.total_price_msat, second.total_price_msat) == (cost(SETTINGS), cost(2 * SETTINGS))
    assert (await world.seller.create_swap(request(1))).total_price_msat == cost(SETTINGS)
    assert (await world.seller.offer(ASSET)).price_msat_per_asset_unit == 2 * SETTINGS
    await world.operator.set_price(ASSET, 0, 0)
    third = await world.seller.create_swap(request(3))
    assert third.total_price_msat == cost(SETTINGS)


async def test_it_outlives_a_restart(world: SellerWorld) -> None:
    """It is stored."""
    await world.operator.set_price(ASSET, 5 * SETTINGS, 60)
    world.database.close()
    reopened = Database(world.settings.database, world.clock)
    try:
        world.operator._database = reopened
        [asset, lbtc] = await world.operator.holdings()
    finally:
        reopened.close()
    assert asset.price is not None
    assert (asset.price.msat_per_unit, asset.price.valid_until) == (5 * SETTINGS, NOW + 60)
    assert lbtc.price is None


async def test_nothing_is_sold_once_it_ran_out(world: SellerWorld) -> None:
    """To the second; readiness says so; a new price, or none, sells again."""
    await world.operator.set_price(ASSET, SETTINGS, 60)
    assert (await world.seller.offer(ASSET)).price_valid_until == NOW + 60
    world.clock.at = NOW + 59
    await world.seller.create_swap(request(1))
    world.clock.at = NOW + 60
    for ask in (world.seller.offer(ASSET), world.seller.create_swap(request(2))):
        with pytest.raises(PriceStale):
            await ask
    assert "price" in (await world.readiness.problem() or "")
    swap = await world.seller.create_swap(request(1))  # known before
    assert swap.total_price_msat == cost(SETTINGS)
    await world.operator.set_price(ASSET, 3 * SETTINGS, 60)
    assert await world.readiness.problem() is None
    assert (await world.seller.create_swap(request(2))).total_price_msat == cost(3 * SETTINGS)


async def test_the_least_amount_follows_the_price(tmp_path: Path) -> None:
    """No swap is sold for less than the L-BTC that it can cost."""
    world = SellerWorld(tmp_path, min_swap_amount=None, allow_sales_below_cost=False)
    await world.stock()
    try:
        least = (await world.seller.offer(ASSET)).min_swap_amount
        await world.operator.set_price(ASSET, SETTINGS // 10, 0)
        offer = await world.seller.offer(ASSET)
        assert offer.min_swap_amount > 9 * least
        small = make_request(1, asset_amount=offer.min_swap_amount - 1, max_total_price_msat=10**12)
        with pytest.raises(InvalidRequest, match="between"):
            await world.seller.create_swap(small)
    finally:
        await world.close()


async def test_another_asset_is_not_sold(world: SellerWorld) -> None:
    """Nor priced."""
    with pytest.raises(AssetNotOffered):
        await world.operator.set_price("b6" * 32, 1_000, 0)


async def test_changes_race_with_orders(world: SellerWorld) -> None:
    """Each swap has a price that counted while it was made, and none above its buyer's cap."""
    rng = random.Random()
    prices = [SETTINGS]
    cap = cost(2 * SETTINGS)

    async def change() -> None:
        for _ in range(30):
            prices.append(rng.randrange(SETTINGS // 2, 4 * SETTINGS))
            await world.operator.set_price(ASSET, prices[-1], 3600)
            await asyncio.sleep(0)

    async def buy(number: int) -> Swap | PriceAboveCap:
        for _ in range(rng.randrange(40)):
            await asyncio.sleep(0)
        try:
            return await world.seller.create_swap(request(number, cap))
        except PriceAboveCap as error:
            return error

    first = await world.seller.create_swap(request(99, cap))  # whatever comes first later
    changing = asyncio.create_task(change())
    outcomes = await asyncio.gather(*(buy(number) for number in range(60)))
    await changing
    made = [first, *(o for o in outcomes if isinstance(o, Swap))]
    assert {swap.total_price_msat for swap in made} <= {cost(price) for price in prices}
    assert all(swap.total_price_msat <= cap for swap in made)
    assert all(error.total_price_msat > cap for error in outcomes if not isinstance(error, Swap))
