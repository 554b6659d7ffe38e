"""Money rule 1: whatever is sent is on the disk before, with its coins, as another process sees it.

The chain backend of these tests looks into the database and its replica each time it is given a
transaction.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect

import pytest

from lnlab.wait import wait_for
from lnliquid.config import Settings
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.swap import State, Swap
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database
from lnliquid.store.replica import Replica
from lnliquid.store.tables import Purpose
from lnliquid.watchers.refund_gate import Passed
from lnliquid.watchers.transactions import TransactionTracker

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
from ..fakes import DEPOSITS, FakeChain


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
        parsed = parse_transaction(raw)
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


async def test_what_is_only_in_the_database_yet_is_not_sent_by_the_tracker(
    world: World, tmp_path: Path
) -> None:
    """It reads a funding between the two commits, while the replica takes its time."""
    go_on = threading.Event()

    class Slow(Replica):
        def _carry_out(self, group: object) -> None:
            go_on.wait(30)
            super()._carry_out(group)  # type: ignore[arg-type]

    settings = Settings(**settings_values(tmp_path, lanes=2))
    await world.create(0)
    world.database.close()
    database = world.database = Database(settings.database, StillClock())
    replica = Slow(settings.database, settings.replica_path)
    replica.start()
    database._replica = replica  # where `Database` keeps its own
    spenders = Spenders(database, world.chain, settings)
    tracker = TransactionTracker(database, world.chain, spenders.outbox, 2, lambda *_: True)

    for txid, raw in DEPOSITS.items():
        scripts = {o.script_pubkey for o in parse_transaction(raw).outputs}
        world.chain.found |= dict.fromkeys(scripts, (HistoryItem(txid, 1),))

    async def is_seen() -> bool:
        return bool(await database.read(tx_store.pending))

    go_on.set()
    await tracker.check(await world.chain.tip())  # from here on it has nothing to store
    go_on.clear()
    funding = asyncio.create_task(spenders.funder.fund_waiting())
    try:
        await wait_for(is_seen, timeout_secs=3, message="the funding is in the database")
        await tracker.check(await world.chain.tip())
        assert world.chain.sent == []
        go_on.set()
        await funding
        assert world.chain.sent == [Purpose.FUNDING]
    finally:
        go_on.set()
        await asyncio.wait([funding])
