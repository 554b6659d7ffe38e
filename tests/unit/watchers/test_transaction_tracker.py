"""`watchers.transactions`: ours are looked at, sent again, given up, whatever is refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.swap import InvoiceMark, Outpoint, State
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid.coin_selection import FundingPlan
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.survey import survey
from lnliquid.store.tables import OutpointRow, Purpose, TxState
from lnliquid.watchers.family_store import abandon
from lnliquid.watchers.observe import REORG_BLOCKS
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.transactions import CHECKED_HEIGHT, TransactionTracker

from ..builders import (
    ASSET,
    LOCK_HEIGHT,
    StillClock,
    make_request,
    migrated,
    new_swap,
    plan_funding,
    put_coins,
    wallet_coin,
)
from ..fakes import FakeChain

FINAL_CONFS = 2


class World:
    """A chain, and a store of transactions of ours."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(migrated(folder / "seller.sqlite"), StillClock())
        self.chain = FakeChain()
        self.start()

    def start(self, final_confs: int = FINAL_CONFS) -> None:
        """Start the daemon, again: what was in memory is gone."""
        outbox = Outbox(self.database, self.chain)
        self.own_txs = TransactionTracker(
            self.database, self.chain, outbox, final_confs, lambda *_: True
        )

    async def store(self, number: int, on: FundingPlan | None = None) -> FundingPlan:
        """T1 and T2 of a swap, with two coins of its own or `on` the change of another funding."""
        coins = [
            wallet_coin(10 * number + 1, 60_000, ASSET),
            wallet_coin(10 * number + 2, 90_000),
        ]
        if on is None:
            await self.database.write(lambda s: put_coins(s, coins))
        inputs = on.change if on else coins
        new = new_swap(make_request(number))
        swap, _ = await self.database.write(lambda s: swap_store.create(s, new))
        plan = plan_funding([swap], inputs)

        def write(session: Transaction) -> None:
            if on is not None:
                tx_store.mark_sent(session, on.signed.txid, TxState.ACCEPTED)
            self._add(session, plan)
            coin_store.bind_coins(session, inputs, plan.signed.txid)
            coin_store.add_own_coins(session, plan.change)
            funded = swap_store.FundedSwap(swap.swap_id, LOCK_HEIGHT, *plan.vouts[swap.swap_id])
            swap_store.bind_funding(session, plan.signed.txid, [funded])

        await self.database.write(write)
        return plan

    async def replace(self, plan: FundingPlan) -> FundingPlan:
        """What a bump does, as far as the transactions go."""
        newer = plan_funding(plan.swaps, plan.inputs, rate=200)

        def write(session: Transaction) -> None:
            self._add(session, newer, replaces=plan.signed.txid)
            tx_store.point_to(session, plan.signed.txid, newer.signed.txid)
            values = {c.outpoint.vout: c.value for c in newer.change}
            coin_store.move_coins(session, plan.signed.txid, newer.signed.txid, values)

        await self.database.write(write)
        return newer

    def _add(self, session: Transaction, plan: FundingPlan, replaces: str | None = None) -> None:
        tx_store.add(
            session,
            txid=plan.signed.txid,
            raw=plan.signed.raw,
            purpose=Purpose.FUNDING,
            fee_sats=plan.signed.fee_sats,
            vsize=plan.signed.vsize,
            signed_height=100,
            replaces=replaces,
        )

    async def abandon(self, plan: FundingPlan) -> None:
        """It alone, as before whatever spends from it was stored."""
        txid = plan.signed.txid
        await self.database.write(lambda s: tx_store.set_state(s, txid, TxState.ABANDONED))

    def reject(self, *plans: FundingPlan) -> None:
        """The node has not the coins that these spend."""
        for plan in plans:
            self.chain.unsent[plan.signed.raw] = BackendRejected("electrum", "missing inputs")

    async def state_of(self, plan: FundingPlan) -> TxState:
        """Of a transaction of ours."""
        return (await self.states())[plan.signed.txid][0]

    async def failed(self) -> int:
        """Swaps that failed."""
        swaps = await self.database.read(swap_store.everything)
        return sum(s.state is State.FAILED for s in swaps)

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
    return {o.script_pubkey for o in parse_transaction(plan.signed.raw).outputs if not o.is_fee}


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
    assert (await world.states())[refused.signed.txid] == (TxState.ACCEPTED, None)
    assert world.chain.calls.count("broadcast") == 1


async def test_the_mark_of_one_that_was_refused_goes_once_it_is_read(world: World) -> None:
    """It is buried by then, and costs nothing any more."""
    plan = await world.store(1)
    world.show(plan, 100)
    await world.check()
    world.chain.refused = scripts_of(plan)
    await world.check(blocks=2 * REORG_BLOCKS)
    assert await world.database.read(tx_store.unread_txids) == {plan.signed.txid}
    world.chain.refused.clear()
    await world.check(blocks=1)
    assert await world.database.read(tx_store.unread_txids) == set()
    assert (await world.states())[plan.signed.txid] == (TxState.CONFIRMED, 100)
    world.chain.calls.clear()
    await world.check(blocks=1)
    assert world.chain.calls == ["tip"]


async def test_what_spends_from_one_that_was_given_up_is_given_up(world: World) -> None:
    """Nothing will ever spend its inputs, so no rival can tell; its swap fails."""
    parent = await world.store(1)

    child = await world.store(2, on=parent)
    world.reject(child)
    world.show(parent, None)
    assert await world.check() == set()
    assert await world.state_of(child) is TxState.REFUSED
    await world.abandon(parent)
    swaps = {plan.swaps[0].swap_id for plan in (parent, child)}
    assert await world.check(blocks=1) == swaps
    assert await world.state_of(child) is TxState.ABANDONED
    assert await world.failed() == 2


async def test_what_was_abandoned_with_its_parent_is_not_sent(world: World) -> None:
    """Both were looked at together, and the parent was found dead before the child's turn."""
    parent = await world.store(1)
    child = await world.store(2, on=parent)
    sent: list[bytes] = []

    class Dying(FakeChain):
        """The parent is dead once it was sent."""

        async def broadcast(self, raw: bytes) -> None:
            """Refused."""
            sent.append(raw)
            await world.database.write(lambda s: abandon(s, parent.signed.txid, 99))
            raise BackendRejected("electrum", "missing inputs")

    world.chain = Dying()
    world.start()
    await world.check()
    assert sent == [parent.signed.raw]
    assert await world.state_of(child) is TxState.ABANDONED


async def test_what_spends_from_one_that_lost_is_given_up_once_that_is_buried(
    world: World,
) -> None:
    """Until then a reorg may turn it round."""
    parent = await world.store(1)
    child = await world.store(2, on=parent)
    newer = await world.replace(parent)
    world.reject(child)
    world.show(newer, world.chain.height)
    assert await world.check() == set()
    assert await world.state_of(child) is TxState.REFUSED
    assert await world.check(blocks=FINAL_CONFS - 1) == {child.swaps[0].swap_id}
    assert await world.state_of(child) is TxState.ABANDONED
    assert await world.state_of(newer) is TxState.CONFIRMED


async def test_what_may_be_paid_does_not_fail(world: World) -> None:
    """Not before the invoice of its swap is gone; it holds up no other."""
    parent = await world.store(1)
    child = await world.store(2, on=parent)
    [swap] = child.swaps

    async def mark(invoice: InvoiceMark) -> None:
        def write(session: Transaction) -> None:
            stored = swap_store.get(session, swap.swap_id)
            assert stored is not None
            swap_store.save(session, stored, replace(stored, invoice_mark=invoice))

        await world.database.write(write)

    await world.abandon(parent)
    world.reject(child)
    await mark(InvoiceMark.ASKED)
    assert await world.check() == {plan.swaps[0].swap_id for plan in (parent, child)}
    assert await world.state_of(child) is TxState.ABANDONED
    assert await world.check() == set()
    assert await world.failed() == 1
    await mark(InvoiceMark.NONE)
    assert await world.check() == {swap.swap_id}
    assert await world.failed() == 2


async def test_a_broadcast_without_an_answer_holds_up_no_other(world: World) -> None:
    """Each is tried again at every look; only without a connection there is no use in going on."""
    first, second = await world.store(1), await world.store(2)
    world.chain.unsent[first.signed.raw] = BackendTimeout("electrum", "no answer to a broadcast")
    for _ in range(2):
        world.chain.calls.clear()
        assert await world.check(blocks=1) == set()
        assert world.chain.calls.count("broadcast") == 2
    assert await world.state_of(first) is TxState.SIGNED
    assert await world.state_of(second) is TxState.ACCEPTED
    world.chain.unsent[first.signed.raw] = BackendUnavailable("electrum", "not connected")
    with pytest.raises(BackendUnavailable):
        await world.check()


async def bound(world: World, plan: FundingPlan) -> set[Outpoint]:
    """What is bound to it."""

    def look(session: Transaction) -> set[Outpoint]:
        rows = session.query(OutpointRow).filter_by(owner_txid=plan.signed.txid, live=True)
        return {Outpoint(row.txid, row.vout) for row in rows}

    return await world.database.read(look)


async def coins(world: World, plan: FundingPlan) -> dict[int, int]:
    """Values of the wallet's coins that it makes, by output."""
    found = await world.database.read(lambda s: coin_store.coins_of(s, {plan.signed.txid}))
    return {c.outpoint.vout: c.value for c in found}


def change_of(plan: FundingPlan) -> dict[int, int]:
    """The same as planned."""
    return {c.outpoint.vout: c.value for c in plan.change}


async def test_the_version_that_a_block_has_stands(world: World) -> None:
    """In both directions: its swap, its inputs and its coins are those of the family."""
    older = await world.store(1)
    newer = await world.replace(older)
    [swap] = older.swaps
    inputs = {c.outpoint for c in older.inputs}
    for shown, other in ((older, newer), (newer, older), (older, newer)):
        world.show(shown, world.chain.height)
        assert await world.check(blocks=1) == {swap.swap_id}
        assert await world.state_of(shown) is TxState.CONFIRMED
        assert await world.state_of(other) is TxState.REPLACED
        assert await bound(world, shown) == inputs
        assert await bound(world, other) == set()
        assert await coins(world, shown) == change_of(shown)
        assert await coins(world, other) == {}
        stored = await world.database.read(lambda s: swap_store.get(s, swap.swap_id))
        assert stored is not None
        assert stored.funding_txid == shown.signed.txid
        assert await world.check(blocks=1) == set()


async def test_what_no_block_has_is_sent_until_one_version_is_taken(world: World) -> None:
    """The newest first; the one that a node takes stands from then on."""
    older = await world.store(1)
    newer = await world.replace(older)
    world.reject(newer)
    world.chain.calls.clear()
    assert await world.check() == {older.swaps[0].swap_id}
    assert world.chain.calls.count("broadcast") == 2
    assert await world.state_of(older) is TxState.ACCEPTED
    assert await world.state_of(newer) is TxState.REPLACED
    assert await coins(world, older) == change_of(older)


async def test_an_abandoned_family_gives_everything_back(world: World) -> None:
    """All versions, their coins, and all that builds on any of them; others are not touched."""
    parent = await world.store(1)
    newer = await world.replace(parent)
    child = await world.store(2, on=newer)
    other = await world.store(3)
    family = parent.signed.txid
    swaps = await world.database.write(lambda s: abandon(s, family, 99))
    assert swaps == {plan.swaps[0].swap_id for plan in (parent, child)}
    for plan, state in (
        (parent, TxState.REPLACED),
        (newer, TxState.ABANDONED),
        (child, TxState.ABANDONED),
    ):
        assert await world.state_of(plan) is state
        assert await bound(world, plan) == set()
    assert await world.state_of(other) is TxState.SIGNED
    assert await bound(world, other) == {c.outpoint for c in other.inputs}
    assert await coins(world, other) == change_of(other)
    assert await world.failed() == 2
    available = await world.database.read(coin_store.available_coins)
    assert {c.outpoint for c in available} == {c.outpoint for c in parent.inputs}
    assert await world.database.write(lambda s: abandon(s, family, 99)) == set()


@pytest.mark.parametrize(
    ("final_confs", "later"),
    [(FINAL_CONFS, FINAL_CONFS), (REORG_BLOCKS + 8, REORG_BLOCKS + 8), (REORG_BLOCKS + 8, 2)],
    ids=["few", "more than are looked at for a reorg", "less after a restart"],
)
async def test_what_only_a_newer_version_spent_is_freed(
    world: World, final_confs: int, later: int
) -> None:
    """The coin that helped it to pay is free again once an older one is buried."""
    plan = await world.store(1)
    newer = await world.replace(plan)
    helper = Outpoint("07" * 32, 0)
    txid = newer.signed.txid
    await world.database.write(lambda s: coin_store.bind_outpoints(s, [helper], txid))

    async def is_bound() -> bool:
        return bool(await world.database.read(lambda s: coin_store.bound_outpoints(s, [helper])))

    world.start(final_confs)
    world.show(plan, world.chain.height)
    await world.check()
    for _ in range(final_confs - 2):
        await world.check(blocks=1)
    assert await is_bound()
    world.start(later)
    await world.check(blocks=later == final_confs)
    assert not await is_bound()
