"""Coins that vanish while a transaction is planned on them: nothing is signed on what is not there.

The tip, or the fee rate, is asked for after the coins are read and before anything is stored.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.config import Settings
from lnliquid.domain.swap import Coin, State, Swap, Tip
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database
from lnliquid.store.survey import survey
from lnliquid.store.tables import Purpose
from lnliquid.watchers.funding import RETRY_SECS
from lnliquid.watchers.refund_gate import Passed

from ..builders import (
    ASSET,
    Spenders,
    StillClock,
    make_request,
    migrated,
    new_swap,
    outpoints,
    put_coins,
    settings_values,
    wallet_coin,
)
from ..fakes import FakeChain

LBTC = wallet_coin(2, 1_000_000)
SPARE = wallet_coin(3, 2_000_000)


class MovingChain(FakeChain):
    """A chain under which the watcher has a round whenever tip or fee rate are asked for."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self.vanishing: Coin | None = None
        self.sent = asyncio.Event()

    async def tip(self) -> Tip:
        """A tip; meanwhile a coin vanishes."""
        await self._vanish()
        return await super().tip()

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """No estimate; meanwhile a coin vanishes."""
        await self._vanish()
        return None

    async def _vanish(self) -> None:
        coin, self.vanishing = self.vanishing, None
        if coin is not None:
            await self._database.write(lambda s: coin_store.drop_coins_of(s, coin.outpoint.txid))

    async def broadcast(self, raw: bytes) -> None:
        """Taken, and told."""
        self.sent.set()


class World:
    """What spends the wallet's coins."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder, lanes=2))
        self.database = Database(migrated(settings.database), StillClock())
        self.chain = MovingChain(self.database)
        spenders = Spenders(self.database, self.chain, settings)
        self.notices, self.funder = spenders.notices, spenders.funder
        self.refunds = spenders.refunds

    async def create(self) -> Swap:
        """T1, with a subsidy that no refund can be paid from."""
        new = new_swap(make_request(0), subsidy_sats=1)
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        return swap

    async def give(self, *coins: Coin) -> None:
        """Put coins into the wallet."""
        await self.database.write(lambda s: put_coins(s, coins))

    async def signed(self) -> list[Purpose]:
        """What our transactions are for."""
        return sorted(o.purpose for o in (await self.database.read(survey)).own_txs)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One coin of each asset."""
    made = World(tmp_path)
    await made.give(wallet_coin(1, 100_000, ASSET), LBTC)
    yield made
    made.database.close()


async def test_no_funding_spends_a_coin_that_vanished(world: World) -> None:
    """The swap stays reserved, and the next round funds it with a coin that is there."""
    await world.create()
    world.chain.vanishing = LBTC
    with pytest.raises(coin_store.CoinsGone, match=LBTC.outpoint.txid):
        await world.funder.fund_waiting()
    assert await world.signed() == []
    await world.give(SPARE)
    assert await world.funder.fund_waiting() == 1
    assert await world.signed() == [Purpose.FUNDING]


async def test_what_could_not_be_funded_is_planned_anew_at_once(world: World) -> None:
    """Nobody waits for a block or a timer when other coins are there."""
    await world.create()
    await world.give(SPARE)
    world.chain.vanishing = LBTC
    world.notices.caught_up.set()
    task = asyncio.create_task(world.funder.run())
    try:
        async with asyncio.timeout(RETRY_SECS / 2):
            await world.chain.sent.wait()
    finally:
        task.cancel()
    assert await world.signed() == [Purpose.FUNDING]


async def test_no_lanes_are_made_of_a_coin_that_vanished(world: World) -> None:
    """The others are rearranged in the next round."""
    world.chain.vanishing = LBTC
    with pytest.raises(coin_store.CoinsGone):
        await world.funder.even_lanes()
    assert await world.signed() == []
    await world.give(SPARE)
    assert await world.funder.even_lanes()


async def test_no_refund_is_paid_for_by_a_coin_that_vanished(world: World) -> None:
    """Its HTLC outputs are free for the next try."""
    swap = await world.create()
    assert await world.funder.fund_waiting() == 1
    stored = await world.database.read(lambda s: swap_store.get(s, swap.swap_id))
    assert stored is not None
    funded = replace(stored, state=State.FUNDED)
    assert await world.database.write(lambda s: swap_store.save(s, stored, funded))
    await world.give(SPARE)
    wanted = [Passed(funded, outpoints(funded), await world.chain.tip())]
    world.chain.vanishing = SPARE
    with pytest.raises(coin_store.CoinsGone):
        await world.refunds.refund(wanted)
    assert await world.signed() == [Purpose.FUNDING]
    await world.give(SPARE)
    await world.refunds.refund(wanted)
    assert await world.signed() == [Purpose.FUNDING, Purpose.REFUND]
