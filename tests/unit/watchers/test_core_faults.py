"""Faults of the core that a second reader found; each test fails as long as its fault is there."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import ChainFacts
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Swap, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Transaction
from lnliquid.store.tables import OwnTxRow, TxState
from lnliquid.watchers.families import Standing
from lnliquid.watchers.family_store import abandon, family_with, settle
from lnliquid.watchers.refund_gate import may_take_back

from ..builders import ASSET, LOCK_HEIGHT, POLICY_ASSET, put_coins, wallet_coin
from .test_refund_gate import ABSENT, FUNDED, OURS, POLICY, SWAP, spend
from .test_transaction_stories import SMALL, World, of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing is signed."""
    made = World(tmp_path)
    yield made
    made.database.close()


async def test_an_older_version_that_builds_on_nothing_dead_is_not_abandoned(
    world: World,
) -> None:
    """The first version may still confirm: its swap must not be funded a second time.

    A bump tops up from a coin of another of ours; that one is abandoned after a reorg.
    """
    await world.give(wallet_coin(1, 60_000, ASSET), SMALL)
    await world.give(wallet_coin(3, 70_000, ASSET), wallet_coin(4, 80_000))
    helper = await world.fund(2, [wallet_coin(3, 70_000, ASSET), wallet_coin(4, 80_000)])

    def confirm(session: Transaction) -> None:
        tx_store.set_state(session, helper.signed.txid, TxState.CONFIRMED, 100)
        for coin in helper.change:
            seen = coin_store.SeenCoin(coin.outpoint, coin.asset_id, coin.value, 100, None, None)
            coin_store.replace_script_coins(session, coin.branch, coin.index, [seen])

    world.judge.chain.generate()
    await world.database.write(confirm)
    plan = await world.fund(1, [wallet_coin(1, 60_000, ASSET), SMALL])
    await world.bump()
    family = plan.signed.txid
    versions = await world.database.read(lambda s: tx_store.versions(s, family))
    assert len(versions) == 2
    topped_up = {i.outpoint for i in parse_transaction(versions[1].raw).inputs}
    assert of(helper, POLICY_ASSET).outpoint in topped_up
    # A reorg takes the helper out, and something else spends its input for good.
    await world.database.write(lambda s: abandon(s, helper.signed.txid, 0))
    waiting = await world.database.read(lambda s: swap_store.waiting(s, 9))
    assert plan.swaps[0].swap_id not in {s.swap_id for s in waiting}


async def test_a_deposit_that_tops_a_bump_up_is_kept(world: World) -> None:
    """T2 of a replacement is like any other: what it builds on lives and dies with it."""
    helper = wallet_coin(5, 50_000)
    await world.give(wallet_coin(1, 60_000, ASSET), SMALL, helper)
    await world.fund(1, [wallet_coin(1, 60_000, ASSET), SMALL])
    await world.bump()
    [newer] = [r for r in await world.rows() if r.state == TxState.ACCEPTED]
    assert helper.outpoint in {i.outpoint for i in parse_transaction(newer.raw).inputs}
    known = await world.database.read(lambda s: tx_store.known(s, [helper.outpoint.txid]))
    assert known == {helper.outpoint.txid}


async def test_a_child_is_raised_after_an_older_version_of_its_parent_confirmed(
    world: World,
) -> None:
    """Its older input is bound to itself: that is not something else."""
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    parent = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    await world.fund(2, parent.change)
    await world.bump()

    def older_confirms(session: Transaction) -> None:
        versions = family_with(session, parent.signed.txid)
        standing = Standing(parent.signed.txid, TxState.CONFIRMED, 101)
        settle(session, versions, standing)

    await world.database.write(older_confirms)
    [child] = [r for r in await world.rows() if r.state == TxState.ACCEPTED]
    await world.database.write(lambda s: tx_store.mark_sent(s, child.txid, TxState.REFUSED))
    before = len(await world.rows())
    await world.database.write(
        lambda s: s.query(OwnTxRow).update({"signed_height": 1})  # long ago
    )
    await world.bump()
    assert len(await world.rows()) == before + 1


async def test_a_package_is_raised_again_after_its_older_versions_stood(world: World) -> None:
    """The same fee gives the same parent again; its output is bound to the child, by the child."""
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    parent = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    child = await world.fund(2, parent.change)
    await world.bump()

    def older_stand(session: Transaction) -> None:
        for plan in (parent, child):
            versions = family_with(session, plan.signed.txid)
            settle(session, versions, Standing(plan.signed.txid, TxState.ACCEPTED, None))
        session.query(OwnTxRow).update({"signed_height": 1})

    await world.database.write(older_stand)
    await world.bump()
    states = {r.txid: r.state for r in await world.rows()}
    assert states[parent.signed.txid] == states[child.signed.txid] == TxState.REPLACED


@pytest.mark.parametrize(
    ("facts", "ours"),
    [
        (replace(FUNDED, subsidy_spend=spend()), set()),
        (replace(FUNDED, subsidy_spend=spend(height=LOCK_HEIGHT)), set()),
        (replace(FUNDED, asset_spend=spend(OURS), subsidy_spend=spend()), {OURS}),
    ],
    ids=["in the mempool", "in a block", "beside a refund of ours"],
)
def test_a_claim_of_the_subsidy_closes_the_gate(facts: ChainFacts, ours: set[str]) -> None:
    """It shows the preimage: its owner paid, or may; and a spend of the HTLC is known."""
    tip = Tip(LOCK_HEIGHT + 10, "tip")
    assert may_take_back(SWAP, facts, ABSENT, tip, POLICY, ours) == ()


@pytest.mark.parametrize("status", [InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED])
def test_an_ordered_refund_waits_while_the_invoice_is_there(status: InvoiceStatus) -> None:
    """One that was lost and came back can be paid: an order does not make it go away."""
    lost = replace(SWAP, invoice_mark=InvoiceMark.LOST, forced_refund_reason="asked")
    bill = Invoice(SWAP.swap_id, status)
    tip = Tip(LOCK_HEIGHT + 10, "tip")
    assert may_take_back(lost, FUNDED, bill, tip, POLICY, ()) == ()


async def test_a_swap_with_a_payable_invoice_does_not_fail(world: World) -> None:
    """Its refund was ordered while the invoice was lost; then it came back, and a reorg came.

    A final swap is not watched: nothing would ever delete its invoice.
    """
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    plan = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    swap_id = plan.swaps[0].swap_id

    def write(session: Transaction) -> Swap:
        swap = swap_store.get(session, swap_id)
        assert swap is not None
        payable = replace(
            swap, invoice_mark=InvoiceMark.ASKED, bolt11="lnert1", forced_refund_reason="asked"
        )
        swap_store.save(session, swap, payable)
        abandon(session, plan.signed.txid, 0)
        after = swap_store.get(session, swap_id)
        assert after is not None
        return after

    assert (await world.database.write(write)).state is State.CREATED


async def test_a_deposit_that_came_back_is_followed_again(world: World) -> None:
    """It was abandoned, a deep reorg brought it back, and it is spent anew."""
    coins = [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)]
    await world.give(*coins)
    await world.fund(1, coins)
    for coin in coins:
        await world.database.write(lambda s: abandon(s, coin.outpoint.txid, 0))  # noqa: B023
    world.judge.chain.drop_mempool(world.judge.chain.mempool_txids()[0])
    await world.database.write(lambda s: put_coins(s, coins))
    await world.fund(2, coins)
    rows = await world.database.read(lambda s: tx_store.moving(s, 0))
    assert {c.outpoint.txid for c in coins} <= {r.txid for r in rows}


async def test_rival_children_of_two_versions_do_not_stop_the_bumper(world: World) -> None:
    """Each was built on another version of one parent: both are not signed on its next version.

    `StoreFailure` ends the watcher's round, and the next one meets it again: no other package is
    raised, and after a restart the funder never begins (money rule 10).
    """
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    parent = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    await world.bump()
    family = parent.signed.txid
    [_, newer] = await world.database.read(lambda s: tx_store.versions(s, family))
    change = await world.database.read(lambda s: coin_store.coins_of(s, {newer.txid}))
    await world.fund(2, change)

    def older_stands(session: Transaction) -> None:
        versions = family_with(session, family)
        settle(session, versions, Standing(family, TxState.ACCEPTED, None))

    await world.database.write(older_stands)
    world.judge.chain.drop_mempool(newer.txid)
    world.judge.chain.submit(parent.signed.raw)
    await world.fund(3, parent.change)
    await world.database.write(lambda s: s.query(OwnTxRow).update({"signed_height": 1}))
    await world.bump()
    states = {r.txid: r.state for r in await world.rows()}
    assert states[family] == TxState.REPLACED


async def test_a_version_that_a_deep_reorg_brings_back_has_its_inputs(world: World) -> None:
    """They were freed when another version was buried: one outpoint, one owner (money rule 2)."""
    await world.give(wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000))
    parent = await world.fund(1, [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)])
    child = await world.fund(2, parent.change)
    await world.bump()

    def write(session: Transaction) -> set[Outpoint]:
        families = [family_with(session, p.signed.txid) for p in (parent, child)]
        for versions in families:
            newest = versions[-1]
            settle(session, versions, Standing(newest.txid, TxState.CONFIRMED, 101))
            spent = {i.outpoint for i in parse_transaction(newest.raw).inputs}
            coin_store.keep_outpoints(session, newest.txid, spent)
        for versions in families:
            settle(session, versions, Standing(versions[0].txid, TxState.CONFIRMED, 101))
        inputs = {c.outpoint for c in child.inputs}
        return inputs - coin_store.bound_outpoints(session, inputs)

    assert await world.database.write(write) == set()


async def test_what_a_deposit_spends_is_not_bound(world: World) -> None:
    """It is of others. Found in another block, it would take its inputs, and no audit be exact."""
    coins = [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 90_000)]
    await world.give(*coins)
    await world.fund(1, coins)

    def elsewhere(session: Transaction) -> set[Outpoint]:
        family = coins[0].outpoint.txid
        versions = family_with(session, family)
        settle(session, versions, Standing(family, TxState.CONFIRMED, 11))
        return coin_store.bound_outpoints(session, versions[0].inputs)

    assert await world.database.write(elsewhere) == set()
