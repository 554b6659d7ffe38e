"""Fee bumping while the funder works: nothing that was built on is replaced."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from lnliquid.liquid import tx
from lnliquid.seller.bump import Bumper
from lnliquid.seller.funder import Funder
from lnliquid.seller.inventory import Inventory
from lnliquid.seller.journal import RescueJournal
from lnliquid.seller.notices import Notices
from lnliquid.seller.own_txs import _give_back_change
from lnliquid.settings import Settings
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.survey import survey
from lnliquid.store.tables import TxState
from lnliquid.swap import Tip

from .builders import (
    ASSET,
    SELLER,
    StillClock,
    make_request,
    migrated,
    new_swap,
    put_coins,
    settings_values,
    wallet_coin,
)
from .fakes import FakeChain


class BusyChain(FakeChain):
    """A chain that takes so long to estimate a fee that the funder has a round meanwhile."""

    funder: Funder | None = None

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """No estimate."""
        funder, self.funder = self.funder, None
        if funder is not None:
            assert await funder.fund_waiting() == 1
        return None


class World:
    """A funder and a bumper over one wallet."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder, fee_cap_sats_per_kvb=1_000))
        self.database = Database(migrated(settings.database), StillClock())
        self.chain, notices = BusyChain(), Notices()
        inventory = Inventory(self.database, self.chain, SELLER)
        rescue = RescueJournal(settings.rescue_journal_path)
        common = (self.database, self.chain, inventory, rescue, SELLER, settings, notices)
        self.funder, self.bumper = Funder(*common), Bumper(*common)
        self.later = Tip(self.chain.height + settings.bump_after_blocks, "later")

    async def create(self, number: int) -> None:
        """T1."""
        new = new_swap(make_request(number))
        await self.database.write(lambda s: swap_store.create(s, new))

    async def bump(self, but: Collection[str] = ()) -> None:
        """Long after the signing, with all of ours found in no block `but` these."""
        txids = {o.txid for o in (await self.database.read(survey)).own_txs}
        await self.bumper.bump_stuck(self.later, txids - set(but))

    async def states(self) -> list[TxState]:
        """Of our transactions."""
        return sorted(o.state for o in (await self.database.read(survey)).own_txs)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One coin of each asset, and a first swap whose funding is stuck."""
    made = World(tmp_path)
    coins = [wallet_coin(1, 100_000, ASSET), wallet_coin(2, 1_000_000)]
    await made.database.write(lambda s: put_coins(s, coins))
    await made.create(0)
    assert await made.funder.fund_waiting() == 1
    yield made
    made.database.close()


async def test_a_stuck_funding_is_replaced(world: World) -> None:
    """By one that pays more for the same outputs."""
    await world.bump()
    assert await world.states() == [TxState.SIGNED, TxState.REPLACED]


async def test_one_is_replaced_again_after_it_had_confirmed_and_was_lost(world: World) -> None:
    """The same fee gives the same replacement, which is kept already: it stands in again."""
    await world.bump()
    rows = {o.state: o for o in (await world.database.read(survey)).own_txs}
    older, newer = rows[TxState.REPLACED], rows[TxState.SIGNED]

    def older_confirms_after_all(session: Transaction) -> None:
        own_tx_store.point_to(session, newer.txid, older.txid)
        _give_back_change(session, newer.txid, tx.parse(older.raw))

    await world.database.write(older_confirms_after_all)
    await world.bump()
    states = {o.txid: o.state for o in (await world.database.read(survey)).own_txs}
    assert states == {older.txid: TxState.REPLACED, newer.txid: TxState.SIGNED}
    [swap] = await world.database.read(lambda s: swap_store.funded_by(s, newer.txid))
    assert swap.funding_txid == newer.txid


async def test_what_is_built_on_meanwhile_is_not_replaced(world: World) -> None:
    """The funding on top would lose its coins for ever, and its swap its lock."""
    await world.create(1)
    world.chain.funder = world.funder
    await world.bump()
    assert world.chain.funder is None
    assert await world.states() == [TxState.SIGNED, TxState.SIGNED]


async def test_what_could_not_be_read_is_not_replaced(world: World) -> None:
    """It may be in a block for all that is known, and then no replacement ever is."""
    [funding] = (await world.database.read(survey)).own_txs
    await world.bump(but=[funding.txid])
    assert await world.states() == [TxState.SIGNED]
