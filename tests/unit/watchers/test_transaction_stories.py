"""Transactions of ours that build on each other, over the embedded chain."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from lnlab.nodes.embedded.chain import Rejected
from lnlab.nodes.embedded.pool import Entry
from lnlab.nodes.embedded.txmodel import Tx
from lnliquid.config import Settings
from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.swap import Coin, Outpoint, Tip
from lnliquid.liquid import tx_builder
from lnliquid.liquid.coin_selection import FundingPlan
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database
from lnliquid.store.survey import survey
from lnliquid.store.tables import OutpointRow, OwnTxRow, Purpose, TxState
from lnliquid.watchers.outbox import ToStore

from ..builders import (
    ASSET,
    LOCK_HEIGHT,
    POLICY_ASSET,
    Judge,
    Spenders,
    StillClock,
    make_request,
    migrated,
    new_swap,
    plan_funding,
    put_coins,
    settings_values,
    wallet_coin,
)
from ..fakes import FakeChain

SMALL = wallet_coin(2, 549 + tx_builder.DUST_SATS)
"""What is left of it after a funding can pay for no bump."""


class JudgedChain(FakeChain):
    """Sends to the embedded chain, which says what elementsd would."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    async def broadcast(self, raw: bytes) -> None:
        """Into the mempool, or refused."""
        try:
            self.judge.chain.submit(raw)
        except Rejected as error:
            raise BackendRejected("electrum", error.reason) from None


class World:
    """What spends the wallet's coins, over the embedded chain."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder, fee_cap_sats_per_kvb=1_000))
        self.database = Database(migrated(settings.database), StillClock())
        self.judge = Judge()
        self.chain = JudgedChain(self.judge)
        self.parts = Spenders(self.database, self.chain, settings)
        self.later = Tip(100 + settings.bump_after_blocks, "later")
        self.indexes = 0

    async def give(self, *coins: Coin) -> None:
        """Coins of the wallet, on the chain."""
        self.judge.give(coins)
        await self.database.write(lambda s: put_coins(s, coins))

    async def fund(self, number: int, coins: Sequence[Coin]) -> FundingPlan:
        """T1, T2 and the broadcast of one swap on just these coins."""
        new = new_swap(make_request(number))
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        plan = plan_funding([swap], coins)
        funded = swap_store.FundedSwap(swap.swap_id, LOCK_HEIGHT, *plan.vouts[swap.swap_id])
        to_store = ToStore(
            plan.signed, Purpose.FUNDING, plan.inputs, plan.change, indexes=(self.indexes, 2)
        )
        self.indexes += 2
        await self.parts.outbox.store(
            [to_store], 100, lambda s: swap_store.bind_funding(s, plan.signed.txid, [funded])
        )
        assert await self.parts.outbox.send(plan.signed.txid, plan.signed.raw)
        return plan

    async def bump(self) -> None:
        """Long after the signing."""
        own = (await self.database.read(survey)).own_txs
        txids = {o.txid for o in own if o.is_living}
        await self.parts.bumper.bump_stuck(self.later, txids, self.parts.gate)

    async def rows(self) -> list[OwnTxRow]:
        """All that is stored but the deposits."""
        return await self.database.read(
            lambda s: s.query(OwnTxRow).filter(OwnTxRow.purpose != Purpose.DEPOSIT).all()  # type: ignore[arg-type]
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing is signed."""
    made = World(tmp_path)
    yield made
    made.database.close()


def of(plan: FundingPlan, asset_id: str) -> Coin:
    """Its change of this asset."""
    return next(c for c in plan.change if c.asset_id == asset_id)


async def test_two_stuck_parents_of_one_child_are_raised_once(world: World) -> None:
    """The child is in both packages, and signed again with one of them."""
    await world.give(
        wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000),
        wallet_coin(3, 70_000, ASSET), wallet_coin(4, 80_000),
    )  # fmt: skip
    first = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    second = await world.fund(2, [wallet_coin(3, 70_000, ASSET), wallet_coin(4, 80_000)])
    await world.fund(3, [of(first, ASSET), of(second, POLICY_ASSET)])
    await world.bump()
    rows = await world.rows()
    living = [r for r in rows if r.state not in (TxState.REPLACED, TxState.ABANDONED)]
    assert sorted(r.family for r in living) == sorted({r.family for r in rows})
    assert {r.txid for r in living} == set(world.judge.chain.mempool_txids())


async def test_a_package_is_raised_time_and_again(world: World) -> None:
    """No outpoint gets a second owner, and the chain has the newest of both."""
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    parent = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    await world.fund(2, parent.change)
    for _ in range(3):
        await world.bump()
        await world.database.write(lambda s: s.query(OwnTxRow).update({"signed_height": 1}))
    rows = await world.database.read(lambda s: s.query(OutpointRow).filter_by(live=True).all())
    live = [Outpoint(r.txid, r.vout) for r in rows]
    assert len(set(live)) == len(live)
    assert len(world.judge.chain.mempool_txids()) == 2


async def test_a_raise_that_is_too_small_for_the_node_is_made_larger(world: World) -> None:
    """Nodes ask for what more they like: the same small step again would be refused for ever."""
    pool = world.judge.chain.mempool
    judged = pool.check

    def check(tx: Tx, *, from_block: bool = False) -> tuple[Entry, set[str]]:
        entry, replaced = judged(tx, from_block=from_block)
        older = sum(pool.entries[txid].fee_sats for txid in replaced)
        if replaced and entry.fee_sats < older + entry.vsize / 4:
            raise Rejected("insufficient fee", "rejecting replacement")
        return entry, replaced

    pool.check = check  # type: ignore[method-assign]
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    plan = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    await world.bump()
    [there] = world.judge.chain.mempool_txids()
    assert there != plan.signed.txid
