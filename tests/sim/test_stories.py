"""What broke once, each told step by step, in the manner of `test_narrow`.

They depend on no generator: a change of the random schedules leaves them what they are.
"""

import contextlib

import pytest

from lnliquid.domain.errors import SwapError
from lnliquid.domain.swap import State
from lnliquid.store.tables import Purpose, TxState

from . import buyers, foreign
from .actions import fund
from .buyers import Deal, new_deal
from .ground import ASSET, LBTC, nothing_held, parsed
from .rules import Row
from .test_narrow import (
    everything_held,
    look,
    pay,
    play,
    play_from_deposit,
    row_of,
    to_lock_height,
    until_funded,
)
from .truth import Truth
from .world import World

BLOCKS_TO_THE_CAP = 12
"""Enough for a transaction to be bumped until its rate is at the cap."""
BLOCKS_TO_COME_RIGHT = 30
HIGH_RATE = 300
"""sat/kvB, above the floor of 100 and below the cap of 1,000."""


class HighRelayFloor(World):
    """A world whose nodes take nothing at our floor, from the first start on."""

    def start(self) -> None:
        super().start()
        self.ground.pool.relay_rate = HIGH_RATE


class HighMinerRate(World):
    """A world whose miners take no package at our floor, from the first start on."""

    def start(self) -> None:
        super().start()
        self.ground.pool.miner_rate = 600


# ---- what the stories are told with


async def blocks(world: World, count: int, *, full: bool = True) -> None:
    """So many blocks, full or empty; after each the daemon does all that it can."""
    for _ in range(count):
        world.ground.mine(1, nothing_held if full else everything_held, secs=10)
        await work(world)


async def work(world: World) -> None:
    """Let the daemon do all that it can now."""
    world.daemon.chain.resync()
    world.ground.send_deposits_again()
    for _ in range(2):
        await look(world)
        await fund(world)
    await look(world)


async def order(world: World, number: int, amount: int = 20_000) -> Deal:
    """One more buyer asks for a swap. Raises `SwapError`."""
    deal = new_deal(number, amount, 1, careful=True, claims=True)
    world.deals[deal.request.request_id] = deal
    world.daemon.renew_seller()
    deal.swap_id = (await world.daemon.seller.create_swap(deal.request)).swap_id
    return deal


async def see(world: World, deal: Deal) -> None:
    """The buyer looks at its swap."""
    swap, _ = await world.daemon.seller.swap(deal.swap_id or "")
    deal.see(buyers.shown(swap))


def claim(world: World, deal: Deal, outputs: str, rate: int) -> str:
    """The buyer sends a claim that signals replacement."""
    raw = buyers.claim(deal, world.ground, outputs, rate, final=False)
    assert raw is not None
    txid = world.ground.send(raw)
    assert txid is not None, "the network takes the claim"
    deal.claim_txids.append(txid)
    return txid


def own_txs(world: World, purpose: Purpose) -> list[Row]:
    """Our transactions of a purpose as stored, in the order in which they were signed."""
    query = "SELECT * FROM own_tx WHERE purpose = ? ORDER BY rowid"
    return world.rules.ask(query, int(purpose))


def rate_of(world: World, txid: str) -> int:
    """The rate that an unconfirmed transaction pays, in sat/kvB."""
    entry = world.ground.pool.entries[txid]
    return entry.fee_sats * 1000 // entry.vsize


def spender(world: World, deal: Deal) -> str:
    """What spends the asset output of a swap."""
    row = row_of(world, deal)
    found = world.ground.spender(row["funding_txid"], row["asset_vout"])
    assert found is not None
    return found.txid


def undo_deposit(world: World, depth: int) -> None:
    """A reorg takes the last deposit away, and its sender spends its coins otherwise."""
    deposit = world.ground.deposits[-1]

    def between(_gone: object) -> None:
        world.ground.forget(deposit.txid)
        assert world.ground.take_back(deposit) is not None

    world.ground.reorg(depth, 0, nothing_held, between)
    assert world.ground.find(deposit.txid) is None


def sweep_inputs(world: World, own: Row, *assets: str) -> None:
    """The network forgets it, and another wallet with our seed spends its coins, or of these."""
    world.ground.forget(own["txid"])
    for txin in parsed(own["raw"]).inputs:
        coin = world.ground.chain.coin(*txin.outpoint)
        assert coin is not None
        assert (assets and coin.asset not in assets) or foreign.sweep(world, txin.outpoint)


def undo_sweeps(world: World, own: Row, *gone: str, mined: bool) -> None:
    """A reorg takes those spends away, and what else is `gone`.

    `mined`: a miner has ours in the first block instead.
    """
    rivals = {world.ground.spender(*txin.outpoint) for txin in parsed(own["raw"]).inputs}
    txids = [rival.txid for rival in rivals if rival is not None]
    depth = max(map(world.ground.confirmations, txids))
    assert depth > world.settings.final_confs
    if mined:
        assert world.ground.reorg_to(depth, own["raw"])
    else:
        txids += gone

        def between(_gone: object) -> None:
            for txid in txids:
                world.ground.forget(txid)

        world.ground.reorg(depth, 0, nothing_held, between)


def nothing_is_frozen(world: World) -> None:
    """Every coin on the chain is available and all business is done."""
    world.rules.committed()
    Truth(world.rules).nothing_is_frozen(world.daemon.available())


async def until_finished(world: World, *deals: Deal) -> None:
    """Mine past the lock heights, and until what was refunded is buried."""
    height = max(row_of(world, d)["refund_lock_height"] or 0 for d in deals)
    while world.ground.chain.tip_height < height:
        await blocks(world, 1)
    await blocks(world, world.settings.final_confs + 3)


async def until_locked(world: World, *deals: Deal) -> None:
    """Mine until the fundings of all of these have confirmed, at most for some time."""
    for _ in range(BLOCKS_TO_COME_RIGHT):
        await blocks(world, 1)
        if not any(row_of(world, d)["state"] in (State.CREATED, State.FAILED) for d in deals):
            return
    raise AssertionError([State(row_of(world, d)["state"]).name for d in deals])


# ---- 1: a claim that is known stands


def test_a_refund_is_not_bumped_past_a_claim() -> None:
    """The operator ordered the refund; the claim replaces it, and a higher fee would win."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        pay(world, deal)
        to_lock_height(world, deal)
        await work(world)
        assert row_of(world, deal)["paid_unclaimed"]
        await world.daemon.operator.refund(deal.swap_id or "", "the buyer is gone")
        await work(world)
        claimed = claim(world, deal, "both", rate_of(world, spender(world, deal)) + 200)
        await blocks(world, BLOCKS_TO_THE_CAP, full=False)
        assert spender(world, deal) == claimed
        assert len(own_txs(world, Purpose.REFUND)) == 1
        await blocks(world, world.settings.final_confs + 1)
        assert row_of(world, deal)["state"] == State.CLAIMED
        assert row_of(world, deal)["finished"]
        nothing_is_frozen(world)

    play(story)


def test_a_refund_that_a_claim_beat_may_still_come_back() -> None:
    """A deep reorg has the ordered refund in a block after all: the store follows it again."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        pay(world, deal)
        to_lock_height(world, deal)
        await work(world)
        await world.daemon.operator.refund(deal.swap_id or "", "the buyer is gone")
        await work(world)
        [refund] = own_txs(world, Purpose.REFUND)
        claimed = claim(world, deal, "both", rate_of(world, refund["txid"]) + 200)
        await blocks(world, world.settings.final_confs + 2)
        assert row_of(world, deal)["finished"]
        assert own_txs(world, Purpose.REFUND)[0]["state"] == TxState.ABANDONED
        assert world.ground.reorg_to(world.ground.confirmations(claimed), refund["raw"])
        await blocks(world, world.settings.final_confs + 1)
        [again] = own_txs(world, Purpose.REFUND)
        assert (again["txid"], again["state"]) == (refund["txid"], TxState.CONFIRMED)
        assert row_of(world, deal)["state"] == State.REFUNDED
        nothing_is_frozen(world)

    play(story)


def test_a_leftover_is_not_bumped_past_the_buyers_own_claim_of_it() -> None:
    """The buyer took the asset first; its claim of the subsidy replaces our sweep of that."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        pay(world, deal)
        claim(world, deal, "asset", 200)
        to_lock_height(world, deal)
        await work(world)
        assert row_of(world, deal)["state"] == State.CLAIMED
        [sweep] = own_txs(world, Purpose.REFUND)
        row = row_of(world, deal)
        subsidy = (row["funding_txid"], row["subsidy_vout"])
        world.ground.forget(sweep["txid"])  # so that the claim needs not pay more than the sweep
        claimed = claim(world, deal, "subsidy", 200)
        await blocks(world, BLOCKS_TO_THE_CAP, full=False)
        found = world.ground.spender(*subsidy)
        assert found is not None
        assert found.txid == claimed
        assert len(own_txs(world, Purpose.REFUND)) == 1
        await blocks(world, world.settings.final_confs + 1)
        assert row_of(world, deal)["finished"]
        nothing_is_frozen(world)

    play(story)


def test_a_leftover_is_not_swept_while_a_claim_of_it_is_known() -> None:
    """The claim of the subsidy waits in the mempool while its lock height passes."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        pay(world, deal)
        claim(world, deal, "asset", 200)
        await blocks(world, 1)
        claim(world, deal, "subsidy", 200)
        left = row_of(world, deal)["refund_lock_height"] - world.ground.chain.tip_height
        await blocks(world, left + BLOCKS_TO_THE_CAP, full=False)
        assert own_txs(world, Purpose.REFUND) == []
        await blocks(world, world.settings.final_confs + 1)
        assert row_of(world, deal)["finished"]

    play(story)


# ---- 2: one lock for a swap, whichever version of its funding confirms


@pytest.mark.parametrize("paid", [False, True])
def test_a_swap_is_not_funded_twice_when_versions_confirm_in_turn(paid: bool) -> None:
    """The older funding confirms, then a reorg has the newer one in its place."""

    async def story(world: World, deal: Deal) -> None:
        older = row_of(world, deal)["funding_txid"]
        await blocks(world, world.settings.bump_after_blocks + 1, full=False)
        newer = row_of(world, deal)["funding_txid"]
        assert newer != older, "it was bumped"
        raws = {own["txid"]: own["raw"] for own in own_txs(world, Purpose.FUNDING)}
        assert world.ground.mine_version(raws[older])
        await work(world)
        assert row_of(world, deal)["funding_txid"] == older
        depth = 1
        if paid:
            await blocks(world, 1)
            depth += 1
            await see(world, deal)
            pay(world, deal)
        assert world.ground.reorg_to(depth, raws[newer])
        assert world.ground.confirmations(newer) == depth
        await blocks(world, world.settings.final_confs)
        assert row_of(world, deal)["funding_txid"] == newer
        assert row_of(world, deal)["state"] == State.FUNDED
        alive = [own for own in own_txs(world, Purpose.FUNDING) if world.ground.find(own["txid"])]
        assert [own["txid"] for own in alive] == [newer]
        await see(world, deal)
        assert deal.outpoints is not None
        assert deal.outpoints[0][0] == newer
        if not deal.paid:
            pay(world, deal)
        claim(world, deal, "both", 200)
        await blocks(world, world.settings.final_confs + 1)
        assert row_of(world, deal)["state"] == State.CLAIMED
        nothing_is_frozen(world)

    play(story)


def test_a_swap_is_funded_once_when_the_versions_change_places_again_and_again() -> None:
    """Three versions; each of them is in the block for a while."""

    async def story(world: World, deal: Deal) -> None:
        while len(own_txs(world, Purpose.FUNDING)) < 3:
            await blocks(world, 1, full=False)
        versions = [own["raw"] for own in own_txs(world, Purpose.FUNDING)]
        assert world.ground.mine_version(versions[0])
        await work(world)
        for raw in (versions[2], versions[1], versions[0], versions[1]):
            assert world.ground.reorg_to(1, raw)
            await work(world)
            assert row_of(world, deal)["funding_txid"] == parsed(raw).txid
        assert len(own_txs(world, Purpose.FUNDING)) == 3
        await until_finished(world, deal)
        assert row_of(world, deal)["state"] == State.REFUNDED
        nothing_is_frozen(world)

    play(story)


@pytest.mark.parametrize("sent_by", ["a miner", "the daemon"])
def test_a_swap_is_locked_once_when_an_abandoned_funding_comes_back(sent_by: str) -> None:
    """Both coins of it were spent elsewhere and buried; a deep reorg makes it possible again."""

    async def story(world: World, deal: Deal) -> None:
        world.deposit(300_000, 50_000)
        await blocks(world, world.settings.final_confs + 1)
        other = await order(world, 1)
        await fund(world)
        [_, funding] = own_txs(world, Purpose.FUNDING)
        sweep_inputs(world, funding)
        await blocks(world, world.settings.final_confs + 2)
        assert world.ground.find(row_of(world, other)["funding_txid"]) is None
        assert row_of(world, other)["state"] == State.FAILED
        undo_sweeps(world, funding, mined=sent_by == "a miner")
        await blocks(world, world.settings.final_confs)
        row = row_of(world, other)
        assert (row["funding_txid"], row["state"]) == (funding["txid"], State.FUNDED)
        assert len(own_txs(world, Purpose.FUNDING)) == 2
        await until_finished(world, deal, other)
        assert row_of(world, other)["state"] == State.REFUNDED
        nothing_is_frozen(world)

    play(story)


def test_an_abandoned_funding_gives_way_to_another_that_took_its_coin() -> None:
    """The asset coin came free and funds the next swap; after the reorg either could confirm."""

    async def story(world: World, deal: Deal) -> None:
        world.deposit(300_000, 50_000)
        await blocks(world, world.settings.final_confs + 1)
        first = await order(world, 1, 290_000)
        await fund(world)
        [_, funding] = own_txs(world, Purpose.FUNDING)
        sweep_inputs(world, funding, LBTC)
        await blocks(world, world.settings.final_confs + 1)
        second = await order(world, 2, 290_000)
        await fund(world)
        assert row_of(world, first)["state"] == State.FAILED
        undo_sweeps(world, funding, row_of(world, second)["funding_txid"], mined=False)
        await blocks(world, world.settings.final_confs + 2)
        assert world.ground.find(funding["txid"]) is None
        assert row_of(world, first)["state"] == State.FAILED
        assert row_of(world, second)["state"] == State.FUNDED
        await until_finished(world, deal, second)
        nothing_is_frozen(world)

    play(story)


def test_abandoned_lanes_that_come_back_are_for_sale() -> None:
    """A deep reorg takes away what spent their coins; their addresses were used long ago."""

    async def story(world: World, deal: Deal) -> None:
        await until_finished(world, deal)
        world.deposit(5_000_000, 500_000)  # so much that the lanes are made anew
        await blocks(world, world.settings.final_confs, full=False)
        before = len(own_txs(world, Purpose.LANES))
        while len(own_txs(world, Purpose.LANES)) == before:
            await blocks(world, 1)
        lanes = own_txs(world, Purpose.LANES)[-1]
        while world.ground.confirmations(lanes["txid"]):
            world.ground.reorg(1, 0, everything_held, lambda _: None)
        sweep_inputs(world, lanes)
        later = "UPDATE cursor SET value = value + 100 WHERE name = 'next_change_index'"
        world.rules.store.execute(later)
        world.rules.store.commit()
        await blocks(world, world.settings.final_confs + 2)
        undo_sweeps(world, lanes, mined=True)
        await blocks(world, world.settings.final_confs)
        assert world.ground.find(lanes["txid"]) is not None
        nothing_is_frozen(world)

    play(story)


# ---- 3: a deposit that is undone


@pytest.mark.parametrize("spent_by", ["an order", "lanes"])
def test_a_fresh_deposit_that_is_undone_freezes_nothing(spent_by: str) -> None:
    """It had one confirmation; what was merged with it must not die with it."""

    async def story(world: World, deal: Deal) -> None:
        await blocks(world, world.settings.final_confs)
        if spent_by == "an order":
            world.deposit(300_000, 50_000)
            await blocks(world, 1)
            with contextlib.suppress(SwapError):  # refused, if it is not counted yet
                await order(world, 1, 500_000)
        else:
            world.deposit(5_000_000, 500_000)  # so much that the lanes are made anew
            await blocks(world, 1)
        await work(world)
        undo_deposit(world, 1)
        await work(world)
        await until_finished(world, deal)
        waiting = [r for r in world.rules.rows.values() if not r["finished"]]
        while waiting and world.ground.chain.tip_height < 200:
            await blocks(world, 10)
            world.rules.committed()
            waiting = [r for r in world.rules.rows.values() if not r["finished"]]
        nothing_is_frozen(world)
        other = await order(world, 2, 300_000)
        await work(world)
        await blocks(world, 3)
        assert row_of(world, other)["state"] == State.FUNDED

    play(story)


def test_a_deposit_that_is_replaced_in_the_mempool_freezes_nothing() -> None:
    """It was never in a block: nothing may build on it, nothing may be sold on it."""

    async def story(world: World, deal: Deal) -> None:
        await blocks(world, world.settings.final_confs)
        world.deposit(300_000, 50_000)
        await work(world)
        with pytest.raises(SwapError):
            await order(world, 1, 500_000)
        deposit = world.ground.deposits[-1]
        world.ground.forget(deposit.txid)
        assert world.ground.take_back(deposit) is not None
        await work(world)
        await until_finished(world, deal)
        nothing_is_frozen(world)

    play(story)


def test_a_buried_deposit_that_is_undone_frees_what_was_merged_with_it() -> None:
    """A reorg deeper than `final_confs` takes it: what was signed on it can never confirm."""

    async def story(world: World, deal: Deal) -> None:
        await until_finished(world, deal)
        world.deposit(300_000, 50_000)
        await blocks(world, world.settings.final_confs + 1)
        merged = await order(world, 1, 500_000)
        await fund(world)
        assert row_of(world, merged)["funding_txid"]
        undo_deposit(world, world.settings.final_confs + 1)
        await blocks(world, world.settings.final_confs + 3)
        row = row_of(world, merged)
        assert not (row["funding_txid"] and world.ground.find(row["funding_txid"]))
        await world.daemon.operator.set_paused(False)
        await blocks(world, BLOCKS_TO_COME_RIGHT)
        assert row_of(world, merged)["state"] == State.FAILED
        nothing_is_frozen(world)
        other = await order(world, 2, 300_000)
        await work(world)
        await blocks(world, 3)
        assert row_of(world, other)["state"] == State.FUNDED

    play(story)


# ---- 4: a paid swap in a funding that is dead


def test_a_paid_swap_in_a_dead_funding_holds_up_no_other() -> None:
    """Another wallet with our seed spent its coin: the paid one is shown, the others fail."""

    async def story(world: World, deal: Deal) -> None:
        await blocks(world, 2)
        payer, other = await order(world, 1), await order(world, 2)
        await fund(world)
        await blocks(world, 2)
        dead = row_of(world, payer)["funding_txid"]
        assert row_of(world, other)["funding_txid"] == dead
        assert row_of(world, payer)["state"] == State.FUNDED
        await see(world, payer)
        pay(world, payer)
        await work(world)
        [funding] = [own for own in own_txs(world, Purpose.FUNDING) if own["txid"] == dead]

        def between(_gone: object) -> None:
            world.ground.forget(dead)
            coin = next(
                i.outpoint
                for i in parsed(funding["raw"]).inputs
                if world.ground.chain.coin(*i.outpoint).asset == ASSET  # type: ignore[union-attr]
            )
            assert foreign.sweep(world, coin)

        world.ground.reorg(2, 0, nothing_held, between)
        await blocks(world, world.settings.final_confs + 3)
        assert row_of(world, payer)["paid_unclaimed"], "the operator is told"
        assert row_of(world, other)["state"] == State.FAILED
        held = "SELECT * FROM reserved_outpoint WHERE owner_txid = ? AND live = 1"
        assert world.rules.ask(held, dead) == []
        await blocks(world, BLOCKS_TO_COME_RIGHT)
        await until_finished(world, deal, other)
        nothing_is_frozen(world)

    play(story)


# ---- 5: a package that is stuck at its root


@pytest.mark.parametrize("kind", [HighRelayFloor, HighMinerRate])
def test_what_is_signed_at_the_floor_while_the_rate_is_higher_comes_right(
    kind: type[World],
) -> None:
    """The lanes are signed at our floor, which no node takes; an order waits behind them."""

    async def story(world: World, deal: Deal) -> None:
        await until_locked(world, deal)
        await blocks(world, 1)
        assert own_txs(world, Purpose.LANES)
        other = await order(world, 1)
        await until_locked(world, other)
        await until_finished(world, deal, other)
        await blocks(world, BLOCKS_TO_COME_RIGHT)
        nothing_is_frozen(world)

    play(story, kind)


@pytest.mark.parametrize("kind", [HighRelayFloor, HighMinerRate])
def test_a_first_start_below_the_going_rate_comes_right(kind: type[World]) -> None:
    """The lanes of the first coins wait, and all orders with them."""

    async def story(world: World) -> None:
        await work(world)
        assert not any(world.ground.confirmations(o["txid"]) for o in own_txs(world, Purpose.LANES))
        deals = [await order(world, 0)]
        await work(world)
        deals.append(await order(world, 1))
        await until_locked(world, *deals)
        await until_finished(world, *deals)
        await blocks(world, BLOCKS_TO_COME_RIGHT)
        nothing_is_frozen(world)

    play_from_deposit(story, kind)


@pytest.mark.parametrize(("floor", "is_ready"), [(300, True), (5_000, False)])
def test_sales_stop_while_the_node_takes_no_funding_at_our_fees(floor: int, is_ready: bool) -> None:
    """Up to the cap it is raised; above the cap nothing more is sold until the node takes it."""

    async def problem(world: World) -> str | None:
        world.daemon.renew_seller()
        return await world.daemon.readiness.problem()

    async def story(world: World, deal: Deal) -> None:
        await until_locked(world, deal)
        await blocks(world, 3)
        world.ground.pool.relay_rate = floor
        other = await order(world, 1)
        await work(world)
        await work(world)
        if is_ready:
            assert await problem(world) is None
        else:
            told = await problem(world) or ""
            assert told.startswith("funding cannot be done: the node refuses ")
            assert "min fee not met" in told
            world.ground.pool.relay_rate = 0
            await blocks(world, 1)
            assert await problem(world) is None
        await until_locked(world, other)

    play(story)


def test_nothing_is_built_on_what_the_node_has_not_accepted() -> None:
    """The nodes' minimum rises and forgets the first funding: the next one is built elsewhere."""

    async def story(world: World, deal: Deal) -> None:
        first = row_of(world, deal)["funding_txid"]
        world.ground.pool.relay_rate = rate_of(world, first) + 50
        world.ground.forget(first)
        world.daemon.chain.resync()
        await look(world)
        other = await order(world, 1)
        await fund(world)
        for own in own_txs(world, Purpose.FUNDING)[1:]:
            for txin in parsed(own["raw"]).inputs:
                assert world.ground.find(txin.outpoint[0]) is not None, "it is known to the node"
        await until_locked(world, deal, other)

    play(story)


def test_a_chain_of_fundings_below_the_going_rate_comes_right() -> None:
    """The rate rises after the first funding was sent; two others were built on its change."""

    async def story(world: World, deal: Deal) -> None:
        deals = [deal]
        for number in (1, 2, 3):
            deals.append(await order(world, number))
            await fund(world)
        world.ground.pool.miner_rate = 500
        await until_locked(world, *deals)

    play(story)


def test_nothing_is_bumped_because_its_parent_is_missing() -> None:
    """The deposit left the chain and will come again: a higher fee would not help."""

    async def story(world: World, deal: Deal) -> None:
        before = len(own_txs(world, Purpose.FUNDING))
        parents = {i.outpoint[0] for i in parsed(own_txs(world, Purpose.FUNDING)[-1]["raw"]).inputs}
        for txid in parents:
            world.server.withheld.add(txid)
        world.ground.forget(row_of(world, deal)["funding_txid"])
        deposit = world.ground.deposits[0]
        height = world.ground.chain.tip_height
        deep = world.ground.confirmations(deposit.txid)

        def between(_gone: object) -> None:
            world.ground.forget(deposit.txid)

        world.ground.reorg(deep, 0, everything_held, between)
        assert world.ground.chain.tip_height == height
        for _ in range(world.settings.bump_after_blocks + 4):
            world.ground.mine(1, everything_held, secs=10)
            world.daemon.chain.resync()
            await look(world)
        assert len(own_txs(world, Purpose.FUNDING)) == before
        world.server.heal()
        await blocks(world, 5)
        assert row_of(world, deal)["state"] == State.FUNDED

    play(story)


# ---- 6: an ordered refund stands apart


def test_an_ordered_refund_holds_up_no_other_buyers_refund() -> None:
    """The buyer of the ordered one claims after all; the other refund must not go with it."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        pay(world, deal)
        other = await order(world, 1)
        await fund(world)
        await blocks(world, 3)
        assert row_of(world, other)["state"] == State.FUNDED
        to_lock_height(world, deal)
        await work(world)
        assert row_of(world, deal)["paid_unclaimed"]
        world.ground.mine(
            row_of(world, other)["refund_lock_height"] - world.ground.chain.tip_height - 1, secs=10
        )
        await work(world)  # the invoice of the other one is deleted
        await world.daemon.operator.refund(deal.swap_id or "", "the buyer is gone")
        world.ground.mine(1, everything_held, secs=10)
        world.daemon.chain.resync()
        await look(world)
        ordered, due = spender(world, deal), spender(world, other)
        assert ordered != due
        claim(world, deal, "both", rate_of(world, ordered) + 200)
        assert world.ground.find(due) is not None
        await blocks(world, world.settings.final_confs + 1)
        assert row_of(world, deal)["state"] == State.CLAIMED
        assert row_of(world, other)["state"] == State.REFUNDED
        nothing_is_frozen(world)

    play(story)
