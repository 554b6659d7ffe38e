"""Money rule 1: whatever is sent is on the disk before, with its coins, as another process sees it.

The chain backend of these tests looks into the database and its replica each time it is given a
transaction.
"""

from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect

import pytest

from lnliquid.liquid import tx
from lnliquid.seller.refund_gate import Passed
from lnliquid.settings import Settings
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database
from lnliquid.store.tables import Purpose
from lnliquid.swap import State, Swap

from .builders import (
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
from .fakes import FakeChain


class WatchfulChain(FakeChain):
    """Refuses to be given what is not committed, bytes and coins, by a look from outside."""

    def __init__(self, *files: Path) -> None:
        super().__init__()
        self._files = files
        self.sent: list[Purpose] = []

    async def broadcast(self, raw: bytes) -> None:
        """Look, and note what it was."""
        purposes = {self._purpose(path, raw) for path in self._files}
        assert len(purposes) == 1
        self.sent += purposes

    @staticmethod
    def _purpose(path: Path, raw: bytes) -> Purpose:
        parsed = tx.parse(raw)
        with closing(connect(path)) as connection:
            rows = connection.execute(
                "SELECT raw, purpose FROM own_tx WHERE txid = ?", (parsed.txid,)
            ).fetchall()
            owned = connection.execute(
                "SELECT txid, vout FROM reserved_outpoint WHERE live AND owner_txid = ?",
                (parsed.txid,),
            ).fetchall()
            swaps = connection.execute(
                "SELECT swap_id FROM swap WHERE funding_txid = ?", (parsed.txid,)
            ).fetchall()
        assert [row[0] for row in rows] == [raw], "its bytes are not committed"
        assert set(owned) == {(i.outpoint.txid, i.outpoint.vout) for i in parsed.inputs}
        purpose = Purpose(rows[0][1])
        assert bool(swaps) == (purpose is Purpose.FUNDING)
        return purpose


class World:
    """What spends the wallet's coins, over one watchful chain."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder, lanes=2))
        replica = settings.replica_path
        self.database = Database(migrated(settings.database), StillClock(), replica)
        self.chain = WatchfulChain(settings.database, replica)
        spenders = Spenders(self.database, self.chain, settings)
        self.funder, self.refunds = spenders.funder, spenders.refunds

    async def create(self, number: int) -> Swap:
        """T1."""
        new = new_swap(make_request(number))
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        return swap

    async def load(self, swap: Swap) -> Swap:
        """The swap as stored."""
        stored = await self.database.read(lambda s: swap_store.get(s, swap.swap_id))
        assert stored is not None
        return stored


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One coin of each asset."""
    made = World(tmp_path)
    coins = [wallet_coin(1, 100_000, ASSET), wallet_coin(2, 1_000_000)]
    await made.database.write(lambda s: put_coins(s, coins))
    yield made
    made.database.close()


async def test_a_funding_is_committed_before_it_is_sent(world: World) -> None:
    """T2: bytes, coins and swaps."""
    for number in range(3):
        await world.create(number)
    assert await world.funder.fund_waiting() == 3
    assert world.chain.sent == [Purpose.FUNDING]


async def test_lanes_are_committed_before_they_are_sent(world: World) -> None:
    """They spend coins of the wallet like any other."""
    assert await world.funder.even_lanes()
    assert world.chain.sent == [Purpose.LANES]


async def test_a_refund_is_committed_before_it_is_sent(world: World) -> None:
    """With the HTLC outputs that it takes back."""
    swap = await world.create(0)
    await world.funder.fund_waiting()
    before = await world.load(swap)
    funded = replace(before, state=State.FUNDED)
    assert await world.database.write(lambda s: swap_store.save(s, before, funded))
    await world.refunds.refund([Passed(funded, outpoints(funded), await world.chain.tip())])
    assert world.chain.sent == [Purpose.FUNDING, Purpose.REFUND]
