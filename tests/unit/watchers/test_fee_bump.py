"""Fee bumping: packages are replaced whole, also while the funder works."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lnliquid.config import Settings
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.survey import survey
from lnliquid.store.tables import OutpointRow, TxState
from lnliquid.watchers.families import Standing
from lnliquid.watchers.family_store import family_with, settle
from lnliquid.watchers.funding import Funder

from ..builders import (
    ASSET,
    Spenders,
    StillClock,
    make_request,
    migrated,
    new_swap,
    put_coins,
    settings_values,
    wallet_coin,
)
from ..fakes import FakeChain

TURNS = 50


class BusyChain(FakeChain):
    """A chain that lets the funder begin a round while a fee is estimated."""

    funder: Funder | None = None
    round: asyncio.Task[int] | None = None

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """No estimate."""
        funder, self.funder = self.funder, None
        if funder is not None:
            self.round = asyncio.create_task(funder.fund_waiting())
            for _ in range(TURNS):
                await asyncio.sleep(0)
        return None


class World:
    """A funder and a bumper over one wallet."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder, fee_cap_sats_per_kvb=1_000))
        self.database = Database(migrated(settings.database), StillClock())
        self.chain = BusyChain()
        self.parts = Spenders(self.database, self.chain, settings)
        self.funder = self.parts.funder
        self.later = Tip(self.chain.height + settings.bump_after_blocks, "later")

    async def create(self, number: int) -> None:
        """T1."""
        new = new_swap(make_request(number))
        await self.database.write(lambda s: swap_store.create(s, new))

    async def bump(self, but: Collection[str] = ()) -> None:
        """Long after the signing, with all of ours found in no block `but` these."""
        txids = {o.txid for o in (await self.database.read(survey)).own_txs}
        await self.parts.bumper.bump_stuck(self.later, txids - set(but), self.parts.gate)

    async def states(self) -> list[TxState]:
        """Of our transactions."""
        return sorted(o.state for o in (await self.database.read(survey)).own_txs)

    async def require_sound(self) -> None:
        """One version stands for each family, it has its inputs, and its parents stand too."""
        own = (await self.database.read(survey)).own_txs
        standing = {o.txid: parse_transaction(o.raw) for o in own if o.is_living}
        assert len(standing) == len({o.family for o in own})
        over = {o.txid for o in own} - standing.keys()
        for txid, parsed in standing.items():
            inputs = {i.outpoint for i in parsed.inputs}
            assert not over & {o.txid for o in inputs}, "it spends from what was replaced"
            assert inputs <= await self.database.read(lambda s, t=txid: bound_to(s, t))  # type: ignore[misc]


def bound_to(session: Transaction, txid: str) -> set[Outpoint]:
    """What is bound to a transaction of ours."""
    rows = session.query(OutpointRow).filter_by(owner_txid=txid, live=True)
    return {Outpoint(row.txid, row.vout) for row in rows}


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
    assert await world.states() == [TxState.REPLACED, TxState.ACCEPTED]


async def test_one_is_replaced_again_after_it_had_confirmed_and_was_lost(world: World) -> None:
    """The same fee gives the same replacement, which is kept already: it stands in again."""
    await world.bump()
    rows = {o.state: o for o in (await world.database.read(survey)).own_txs}
    older, newer = rows[TxState.REPLACED], rows[TxState.ACCEPTED]

    def older_stands_after_all(session: Transaction) -> None:
        versions = family_with(session, older.txid)
        settle(session, versions, Standing(older.txid, TxState.SIGNED, None))

    await world.database.write(older_stands_after_all)
    await world.bump()
    states = {o.txid: o.state for o in (await world.database.read(survey)).own_txs}
    assert states == {older.txid: TxState.REPLACED, newer.txid: TxState.ACCEPTED}
    [swap] = await world.database.read(lambda s: swap_store.funded_by(s, newer.txid))
    assert swap.funding_txid == newer.txid


async def test_nothing_is_built_meanwhile_on_what_is_replaced(world: World) -> None:
    """It would lose its coins for ever, and its swap its lock: the funder waits and builds on."""
    await world.create(1)
    world.chain.funder = world.funder
    await world.bump()
    assert world.chain.round is not None
    assert await world.chain.round == 1
    assert await world.states() == [TxState.REPLACED, TxState.ACCEPTED, TxState.ACCEPTED]
    await world.require_sound()


async def test_what_was_built_on_it_is_signed_again_too(world: World) -> None:
    """On the new outputs: parent and child are replaced together."""
    await world.create(1)
    assert await world.funder.fund_waiting() == 1
    await world.bump()
    assert await world.states() == [TxState.REPLACED] * 2 + [TxState.ACCEPTED] * 2
    await world.require_sound()


async def test_what_could_not_be_read_is_not_replaced(world: World) -> None:
    """It may be in a block for all that is known, and then no replacement ever is."""
    [funding] = (await world.database.read(survey)).own_txs
    await world.bump(but=[funding.txid])
    assert await world.states() == [TxState.ACCEPTED]


async def test_a_parent_is_not_replaced_under_a_child_that_could_not_be_read(world: World) -> None:
    """The child may be in a block, and its parent with it."""
    await world.create(1)
    assert await world.funder.fund_waiting() == 1
    child = (await world.database.read(tx_store.pending))[-1]
    await world.bump(but=[child.txid])
    assert await world.states() == [TxState.ACCEPTED] * 2


@pytest.mark.parametrize(
    "shown", [{"state": State.FUNDED}, {"invoice_mark": InvoiceMark.ASKED}], ids=str
)
async def test_a_funding_that_a_buyer_was_shown_is_not_replaced(
    world: World, shown: dict[str, Any]
) -> None:
    """The buyer pays for that very one; the child that builds on it pays for both."""
    [funding] = await world.database.read(tx_store.pending)
    [swap] = await world.database.read(lambda s: swap_store.funded_by(s, funding.txid))
    await world.database.write(lambda s: swap_store.save(s, swap, replace(swap, **shown)))
    await world.bump()
    assert await world.states() == [TxState.ACCEPTED]
    await world.create(1)
    assert await world.funder.fund_waiting() == 1
    await world.bump()
    assert await world.states() == [TxState.REPLACED] + [TxState.ACCEPTED] * 2
    [same] = await world.database.read(lambda s: swap_store.funded_by(s, funding.txid))
    assert same.swap_id == swap.swap_id
