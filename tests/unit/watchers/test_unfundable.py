"""Orders that no transaction can fund: they hold up nobody, and fail in time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lnliquid.config import Settings
from lnliquid.domain.swap import Outpoint, State, Swap
from lnliquid.liquid.keys import RECEIVE
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.coins import SeenCoin
from lnliquid.store.database import Database

from ..builders import (
    ASSET,
    Spenders,
    StillClock,
    make_request,
    migrated,
    new_swap,
    settings_values,
    stock,
    txid_of,
)
from ..fakes import FakeChain

COIN, DUST = 1_000_000, 1_500


class World:
    """A funder over a wallet of one coin of each asset, and dust on one address."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(**settings_values(folder))
        self.clock = StillClock()
        self.database = Database(migrated(self.settings.database), self.clock)
        self.funder = Spenders(self.database, FakeChain(), self.settings).funder

    async def create(self, number: int, amount: int) -> Swap:
        """T1."""
        new = new_swap(make_request(number, asset_amount=amount))
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        return swap

    async def state(self, swap: Swap) -> tuple[State, bool]:
        """Its state as stored, and whether a funding is signed."""
        stored = await self.database.read(lambda s: swap_store.get(s, swap.swap_id))
        assert stored is not None
        return stored.state, stored.funding_txid is not None

    async def reservable(self) -> int:
        """What is left of the asset."""
        return await self.database.read(lambda s: coin_store.reservable(s, ASSET))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """1,500 coins of one unit are more than one transaction can spend."""
    made = World(tmp_path)
    await stock(made.database, asset=COIN)
    dust = [SeenCoin(Outpoint(txid_of(3), n), ASSET, 1, 10, None, None) for n in range(DUST)]
    await made.database.write(
        lambda session: coin_store.replace_script_coins(session, RECEIVE, 3, dust)
    )
    yield made
    made.database.close()


async def test_an_order_that_no_transaction_can_fund_fails_after_the_slack(world: World) -> None:
    """T1 takes it because the coins hold enough; its reservation is released again."""
    swap = await world.create(0, COIN + DUST)
    assert await world.reservable() == 0
    assert await world.funder.fund_waiting() == 0
    assert await world.state(swap) == (State.CREATED, False)
    world.clock.at += world.settings.create_slack_secs + 1
    assert await world.funder.fund_waiting() == 0
    assert await world.state(swap) == (State.FAILED, False)
    assert await world.reservable() == COIN + DUST


async def test_orders_behind_one_that_cannot_be_funded_go_on(world: World) -> None:
    """In the same round, and the first waits on for other coins."""
    first = await world.create(0, COIN + DUST - 20)
    last = await world.create(1, 10)
    assert await world.funder.fund_waiting() == 1
    assert (await world.state(first), await world.state(last)) == (
        (State.CREATED, False),
        (State.CREATED, True),
    )
    assert await world.funder.fund_waiting() == 0


async def test_all_that_cannot_be_funded_fail_together(world: World) -> None:
    """Coins that are gone are gone for all that need as much; the smaller one is funded."""
    await world.database.write(
        lambda session: coin_store.replace_script_coins(session, RECEIVE, 3, [])
    )
    amounts = (400_000, 590_000, 10_000)
    swaps = [await world.create(number, amount) for number, amount in enumerate(amounts)]
    await stock(world.database, asset=300_000)
    world.clock.at += world.settings.create_slack_secs + 1
    assert await world.funder.fund_waiting() == 1
    assert [(await world.state(s))[0] for s in swaps] == [
        State.FAILED, State.FAILED, State.CREATED,
    ]  # fmt: skip
