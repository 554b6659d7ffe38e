"""Buying up to the payment, and dying on the way: real chain, real gRPC, whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ln_liquid_swap.v1 import swap_pb2
from lnliquid.buyer import BuyerError, Journal, Record, Step
from lnliquid.buyer.errors import (
    OrderDiffers,
    SellerDeclined,
    SellerUnavailable,
    SwapBusy,
    VerdictNotClean,
)
from lnliquid.buyer.purchase import Progress
from lnliquid.domain.errors import BackendUnavailable
from lnliquid.domain.htlc import p2wpkh_script
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import RECEIVE, Keychain, read_mnemonic
from lnliquid.liquid.networks import REGTEST

from ..buyer_seller import AMOUNT, POLICY_ASSET, PRICE_MSAT, SUBSIDY_SATS
from ..buyer_world import BuyerWorld, Killed


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BuyerWorld]:
    """A world whose seller is up."""
    async with BuyerWorld(tmp_path).serving() as world:
        yield world


async def test_a_purchase_pays_once_and_ends_with_the_asset(world: BuyerWorld) -> None:
    """Offer, create, verify, pay, claim: the asset is the buyer's and each step is announced."""
    world.mine_when("claim sent")
    outcome = await world.buy()
    assert outcome.record.step is Step.DONE
    assert outcome.claimed
    assert world.node.paid == 1
    assert world.node.max_delays == [129]  # what a lock of 200 blocks leaves
    assert await world.balance() == AMOUNT
    steps = [progress.step for progress in world.progress]
    assert list(dict.fromkeys(steps)) == [
        "create",
        "funding",
        "verify",
        "pay",
        "paid",
        "claim",
        "done",
    ]


async def test_the_claim_is_final_pays_the_buyer_and_returns_the_rest(world: BuyerWorld) -> None:
    """Inputs of the claim cannot be replaced; what the fee leaves of the subsidy is the buyer's."""
    outcome = await world.buy()
    [claim] = world.spends()
    assert {spent.sequence for spent in claim.inputs} == {tx_builder.SEQUENCE_FINAL}
    assert claim.vsize == 392
    assert claim.fee_sats == 40
    keys = Keychain(read_mnemonic(world.directory / "buyer" / "mnemonic"), REGTEST)
    script = p2wpkh_script(keys.wallet_key(RECEIVE, outcome.record.key_index).key_hash)
    assert [(o.script_pubkey, o.asset_id, o.value) for o in claim.outputs if not o.is_fee] == [
        (script, world.seller.asset_id, AMOUNT),
        (script, POLICY_ASSET, SUBSIDY_SATS - 40),
    ]


async def test_a_claim_in_the_mempool_that_the_seller_sees_is_enough(world: BuyerWorld) -> None:
    """Without a block the purchase ends as claimed, unconfirmed; resuming later finds the block."""
    outcome = await world.buy()
    assert (outcome.record.step, outcome.claimed) == (Step.CLAIMING, True)
    world.chain.generate()
    assert (await world.resume()).record.step is Step.DONE
    assert world.node.paid == 1


async def test_a_claim_that_fell_out_of_the_mempool_is_sent_again(world: BuyerWorld) -> None:
    """Resuming sends the same bytes when the claim has left the mempool."""
    first = await world.buy()
    world.chain.drop_mempool(first.record.spend_txid)
    assert world.spends() == []
    world.mine_when("claim sent")
    assert (await world.resume()).record.step is Step.DONE
    assert world.view.sent == [first.record.spend_txid] * 2


async def test_killed_at_any_act_and_resumed_it_pays_exactly_once(tmp_path: Path) -> None:
    """Dying before or after each write, call, payment and broadcast loses and doubles nothing."""
    directory = tmp_path / "uncut"
    directory.mkdir()
    async with BuyerWorld(directory).serving() as uncut:
        await uncut.buy()
    acts = uncut.fuse.acts
    assert {"before create", "after pay", "before broadcast", "after save paid"} <= set(acts)
    for number, act in enumerate(acts, start=1):
        directory = tmp_path / str(number)
        directory.mkdir()
        async with BuyerWorld(directory).serving() as world:
            world.fuse.blows_at = number
            with pytest.raises(Killed):
                await world.buy()
            outcome = await world.buy()
            assert outcome.claimed, act
            assert (world.node.paid, world.seller.created) == (1, 1), act
            assert await world.balance() == AMOUNT, act
            assert len(set(world.view.sent)) == 1, act


async def test_everything_is_on_disk_before_it_is_done(world: BuyerWorld) -> None:
    """Before each call to the outside the journal's file holds what is needed to go on from it."""
    on_disk: dict[str, Record] = {}

    def read(act: str) -> None:
        if act in ("before create", "before pay", "before broadcast"):
            on_disk[act] = Journal(world.settings.directory).load(world.order().request_id)

    world.fuse.watch = read
    await world.buy()
    assert on_disk["before create"].order == world.order()
    assert on_disk["before pay"].step is Step.PAYING
    assert on_disk["before pay"].verdict is not None
    sent = on_disk["before broadcast"]
    assert [claim["txid"] for claim in sent.claims] == world.view.sent
    assert sent.preimage


async def test_short_outages_do_not_add_up(world: BuyerWorld) -> None:
    """A seller that is away again and again, but never for long, is waited for."""
    world.settings = replace(world.settings, outage_secs=0.001)
    async with world.buyer() as buyer:
        offer = await buyer.offer(world.seller.asset_id)
        world.seller.funded_after_reads = 15
        world.seller.refusals = [None, *[(grpc.StatusCode.UNAVAILABLE, "busy"), None] * 20]
        assert (await buyer.buy(world.order(), offer=offer)).claimed


async def test_who_is_in_a_hurry_still_waits_once_it_is_paid(world: BuyerWorld) -> None:
    """`trying_for` ends an order at once; a claim is tried for the half minute of the default."""
    world.settings = world.settings.trying_for(0)
    assert world.settings.trying_for(100).outage_secs == 100
    world.seller.refusals = [(grpc.StatusCode.UNAVAILABLE, "busy")]
    with pytest.raises(SellerUnavailable):
        await world.buy()

    def outage(progress: Progress) -> None:
        """Of the Electrum server, from the payment on, until the buyer waits for its end."""
        if progress.step == "paid":
            world.view.broken = world.outage()
        elif progress.step == "wait":
            asyncio.get_running_loop().call_later(0.05, end)

    def end() -> None:
        world.view.broken = None

    world.on_progress = outage
    assert (await world.buy()).claimed
    assert "wait" in [progress.step for progress in world.progress]


async def test_key_indexes_differ_after_a_crash(world: BuyerWorld) -> None:
    """An index that was taken by a process that died is not given to the next purchase."""
    world.fuse.blows_at = 1
    with pytest.raises(Killed, match="take_index"):
        await world.buy()
    outcome = await world.buy()
    assert outcome.record.key_index == 1


async def test_nothing_is_paid_on_a_bad_verdict(world: BuyerWorld) -> None:
    """A seller that locks less than it says is refused, and no payment is tried."""
    world.seller.tamper = lambda swap: setattr(swap, "asset_vout", 0)  # the seller's own change
    with pytest.raises(VerdictNotClean, match="asset output"):
        await world.buy()
    assert world.node.max_delays == []
    record = world.record()
    assert record.step is Step.REFUSED
    assert record.verdict is not None
    assert record.verdict["ok"] is False


async def test_a_refused_purchase_is_checked_again_when_resumed(world: BuyerWorld) -> None:
    """Fees too high for the subsidy refuse a purchase; resumed at low fees it goes through."""
    world.view.rate = 2_000
    with pytest.raises(VerdictNotClean, match="claim fee"):
        await world.buy()
    world.view.rate = None
    assert (await world.resume()).claimed
    assert world.node.paid == 1


def limit_too_low(world: BuyerWorld) -> dict[str, Any]:
    """The offer alone shows that the price is above the limit."""
    return {"max_price_msat": PRICE_MSAT - 1}


def node_down(world: BuyerWorld) -> dict[str, Any]:
    """The buyer could not pay."""
    world.node.fails = world.outage()
    return {}


def seller_without_node(world: BuyerWorld) -> dict[str, Any]:
    """The invoice's signer could never be checked."""
    world.seller.offer.lightning_node_id = ""
    return {}


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (limit_too_low, BuyerError, "above your limit"),
        (node_down, BackendUnavailable, "not connected"),
        (seller_without_node, SellerUnavailable, "Lightning node"),
    ],
)
async def test_what_cannot_end_well_is_refused_before_a_swap_is_made(
    world: BuyerWorld,
    spoil: Callable[[BuyerWorld], dict[str, Any]],
    kind: type[Exception],
    said: str,
) -> None:
    """Nothing is locked at the seller, and no record is made."""
    with pytest.raises(kind, match=said):
        await world.buy(**spoil(world))
    assert Journal(world.settings.directory).all() == []
    assert world.seller.created == 0


async def test_the_same_request_with_another_order_is_refused(world: BuyerWorld) -> None:
    """A request id stands for one order."""
    await world.buy(dry_run=True)
    with pytest.raises(OrderDiffers, match="max_price_msat"):
        await world.buy(max_price_msat=PRICE_MSAT + 1)
    assert world.node.max_delays == []


async def test_create_is_repeated_with_the_same_request_when_the_seller_is_away(
    world: BuyerWorld,
) -> None:
    """UNAVAILABLE and DEADLINE_EXCEEDED are asked again, and one swap comes of it."""
    code = grpc.StatusCode
    world.seller.refusals = [None, (code.UNAVAILABLE, "busy"), (code.DEADLINE_EXCEEDED, "slow")]
    assert (await world.buy()).claimed
    assert world.seller.created == 1
    assert any("trying again" in progress.text for progress in world.progress)


async def test_a_seller_that_stays_away_leaves_a_purchase_to_resume(world: BuyerWorld) -> None:
    """After a while the buyer gives up with an error that can be resumed from."""
    world.hurry()
    world.seller.refusals = [None, (grpc.StatusCode.UNAVAILABLE, "down")]
    with pytest.raises(SellerUnavailable, match="down"):
        await world.buy()
    world.be_patient()
    assert (await world.resume()).claimed


async def test_a_dry_run_pays_nothing_and_can_be_paid_later(world: BuyerWorld) -> None:
    """A dry run ends with a clean verdict and no payment; the same order without it pays."""
    outcome = await world.buy(dry_run=True)
    assert outcome.verdict is not None
    assert outcome.verdict.ok
    assert (outcome.record.step, outcome.record.dry_run) == (Step.CREATED, True)
    assert world.node.max_delays == []
    outcome = await world.buy()
    assert (world.node.paid, outcome.record.dry_run, world.seller.created) == (1, False, 1)


async def test_two_processes_do_not_work_on_one_swap(world: BuyerWorld) -> None:
    """The second process is turned away while the first one has the lock."""
    async with world.buyer() as first, world.buyer() as second:
        with first.journal.lock(world.order().request_id), pytest.raises(SwapBusy):
            await second.buy(world.order())
    assert world.seller.created == 0


async def test_a_swap_that_the_seller_gave_up_ends_unpaid(world: BuyerWorld) -> None:
    """FAILED at the seller ends the purchase without a payment."""
    world.seller.tamper = lambda swap: setattr(swap, "state", swap_pb2.SWAP_STATE_FAILED)
    with pytest.raises(SellerDeclined, match="gave the swap up"):
        await world.buy()
    assert world.node.max_delays == []


async def test_the_invoice_is_waited_for(world: BuyerWorld) -> None:
    """While the seller says CREATED the buyer asks again; it pays once the swap is funded."""
    world.seller.funded_after_reads = 3
    assert (await world.buy()).claimed


async def test_confirmations_are_counted_on_the_buyers_own_server(world: BuyerWorld) -> None:
    """The seller's FUNDED counts for nothing until the buyer's server shows the confirmations."""
    world.seller.blocks_after_funding = 1
    await world.buy_until_unfinished("confirmations")
    assert world.node.max_delays == []
    world.chain.generate()
    assert (await world.resume()).claimed
