"""`seller.own_txs`: our transactions are looked at, sent again, given up, whatever is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lnliquid.liquid import tx
from lnliquid.liquid.wallet import FundingPlan
from lnliquid.ports import HistoryItem
from lnliquid.seller.observe import REORG_BLOCKS
from lnliquid.seller.own_txs import CHECKED_HEIGHT, OwnTxs
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store.sqlite import Database
from lnliquid.store.survey import survey
from lnliquid.store.tables import Purpose, TxState

from .builders import ASSET, StillClock, make_swap, plan_funding, wallet_coin
from .fakes import FakeChain

FINAL_CONFS = 2


class World:
    """A chain, and a store of transactions of ours."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "seller.sqlite", StillClock())
        self.chain = FakeChain()
        self.start()

    def start(self) -> None:
        """Start the daemon, again: what was in memory is gone."""
        self.own_txs = OwnTxs(self.database, self.chain, FINAL_CONFS)

    async def store(self, number: int) -> FundingPlan:
        """A funding of one swap by two coins of its own, as after T2."""
        coins = [
            wallet_coin(10 * number + 1, 60_000, ASSET),
            wallet_coin(10 * number + 2, 90_000),
        ]
        plan = plan_funding([make_swap(number)], coins)
        signed = plan.signed
        await self.database.write(
            lambda session: own_tx_store.add(
                session,
                txid=signed.txid,
                raw=signed.raw,
                purpose=Purpose.FUNDING,
                fee_sats=signed.fee_sats,
                vsize=signed.vsize,
                signed_height=100,
            )
        )
        return plan

    def show(self, plan: FundingPlan, height: int | None) -> None:
        """The chain has it, in a block or in the mempool."""
        for script in scripts_of(plan):
            self.chain.found[script] = (HistoryItem(plan.signed.txid, height),)

    async def check(self, blocks: int = 0) -> set[str]:
        """Look at all of them, so many blocks later."""
        self.chain.height += blocks
        return await self.own_txs.check(await self.chain.tip())

    async def states(self) -> dict[str, tuple[TxState, int | None]]:
        """Of our transactions, with the heights."""
        found = await self.database.read(survey)
        return {o.txid: (o.state, o.height) for o in found.own_txs}

    async def checked(self) -> int:
        """The height that the next look is counted from."""
        return await self.database.read(lambda s: coin_store.cursor(s, CHECKED_HEIGHT))


def scripts_of(plan: FundingPlan) -> set[bytes]:
    """All scripts that it pays to."""
    return {o.script_pubkey for o in tx.parse(plan.signed.raw).outputs if not o.is_fee}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing is stored."""
    made = World(tmp_path)
    yield made
    made.database.close()


async def test_one_that_is_refused_is_looked_at_later_and_holds_up_no_other(world: World) -> None:
    """A reorg that undoes it is found however long that took, also after a restart."""
    refused, other = await world.store(1), await world.store(2)
    for plan in (refused, other):
        world.show(plan, 100)
    await world.check()
    world.chain.refused = scripts_of(refused)
    for _ in range(2 * REORG_BLOCKS):
        await world.check(blocks=1)
    assert await world.checked() == world.chain.height
    world.chain.refused.clear()
    for script in scripts_of(refused):
        del world.chain.found[script]
    world.chain.calls.clear()
    world.start()
    await world.check(blocks=1)
    assert (await world.states())[refused.signed.txid] == (TxState.SIGNED, None)
    assert world.chain.calls.count("broadcast") == 1


async def test_the_mark_of_one_that_was_refused_goes_once_it_is_read(world: World) -> None:
    """It is buried by then, and costs nothing any more."""
    plan = await world.store(1)
    world.show(plan, 100)
    await world.check()
    world.chain.refused = scripts_of(plan)
    await world.check(blocks=2 * REORG_BLOCKS)
    assert await world.database.read(own_tx_store.unread_txids) == {plan.signed.txid}
    world.chain.refused.clear()
    await world.check(blocks=1)
    assert await world.database.read(own_tx_store.unread_txids) == set()
    assert (await world.states())[plan.signed.txid] == (TxState.CONFIRMED, 100)
    world.chain.calls.clear()
    await world.check(blocks=1)
    assert world.chain.calls == ["tip"]
