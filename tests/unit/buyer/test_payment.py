"""Paying exactly once and claiming whatever happens: real chain, scripted node and seller."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ln_liquid_swap.v1 import swap_pb2
from lnliquid.buyer import BuyerError, Step
from lnliquid.buyer.answers import read_swap
from lnliquid.buyer.chain_view import look_at_htlc
from lnliquid.buyer.errors import (
    AssetLost,
    PaymentFailed,
    SellerDeclined,
    Unfinished,
    VerdictNotClean,
)
from lnliquid.domain.errors import BackendError, BackendTimeout, BackendUnavailable
from lnliquid.domain.htlc import p2wpkh_script
from lnliquid.domain.ports import HistoryItem, Payment, PaymentStatus
from lnliquid.liquid import tx_builder
from lnliquid.liquid.address import p2wpkh_key_hash
from lnliquid.liquid.networks import REGTEST

from ..buyer_seller import AMOUNT, PRICE_MSAT
from ..buyer_world import BuyerWorld, ChainView, Fuse, Killed


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BuyerWorld]:
    """A world whose seller is up."""
    async with BuyerWorld(tmp_path).serving() as world:
        yield world


async def test_a_payment_of_unknown_outcome_is_looked_up_and_not_repeated(
    world: BuyerWorld,
) -> None:
    """`pay` timed out though it paid: the preimage comes from the look-up."""

    def pay_and_say_nothing(payment_hash: bytes) -> Payment:
        world.node.complete(payment_hash)
        raise BackendTimeout("core-lightning", "no answer")

    world.node.behave = pay_and_say_nothing
    assert (await world.buy()).claimed
    assert (world.node.paid, len(world.node.max_delays)) == (1, 1)


async def test_a_held_payment_is_waited_for_and_then_resumed(world: BuyerWorld) -> None:
    """A pending payment ends the process as unfinished; when it completes, resuming claims."""
    world.node.complete(await world.hold_payment())
    assert (await world.resume()).claimed
    assert len(world.node.max_delays) == 1


async def test_a_failed_payment_can_be_tried_again(world: BuyerWorld) -> None:
    """No route: nothing is paid and the reason is shown; resuming checks again and pays."""
    world.node.behave = lambda _: Payment(PaymentStatus.FAILED, failure="no route")
    with pytest.raises(PaymentFailed, match="no route"):
        await world.buy()
    world.node.behave = world.node.complete
    assert (await world.resume()).claimed
    assert world.node.paid == 1


async def test_after_a_failed_payment_an_expired_invoice_is_not_paid(world: BuyerWorld) -> None:
    """Before a second attempt everything is checked again, time included."""
    world.node.behave = lambda _: Payment(PaymentStatus.FAILED, failure="no route")
    with pytest.raises(PaymentFailed):
        await world.buy()
    world.clock.time += 601
    world.node.behave = world.node.complete
    with pytest.raises(VerdictNotClean, match="invoice expiry"):
        await world.resume()
    assert world.node.paid == 0


async def test_a_failure_that_the_look_up_denies_is_not_believed(world: BuyerWorld) -> None:
    """`pay` says failed while the payment went through: the look-up decides."""

    def pay_and_deny(payment_hash: bytes) -> Payment:
        world.node.complete(payment_hash)
        return Payment(PaymentStatus.FAILED, failure="confused")

    world.node.behave = pay_and_deny
    assert (await world.buy()).claimed
    assert world.node.paid == 1


async def test_a_failed_payment_is_final_only_when_the_node_has_stopped_trying(
    world: BuyerWorld,
) -> None:
    """Killed while paying, the buyer waits as long as the node may try, and pays only then."""
    world.settings = replace(world.settings, pay_wait_secs=30)
    world.fuse.blows_on = "before pay"
    with pytest.raises(Killed):
        await world.buy()
    ends_at = world.record().paying_until
    assert ends_at > world.clock.time + 25
    paid_at = []

    def note(payment_hash: bytes) -> Payment:
        paid_at.append(world.clock.time)
        return world.node.complete(payment_hash)

    world.node.behave = note
    assert (await world.resume()).claimed
    assert paid_at[0] >= ends_at


async def test_a_wrong_preimage_is_never_stored(world: BuyerWorld) -> None:
    """A node that gives another preimage is reported; nothing is claimed with it."""
    world.node.behave = lambda _: Payment(PaymentStatus.COMPLETE, bytes(32), PRICE_MSAT)
    with pytest.raises(BuyerError, match="does not match"):
        await world.buy()
    record = world.record()
    assert (record.step, record.preimage) == (Step.PAYING, "")


async def test_a_refund_that_won_is_told_to_a_person(world: BuyerWorld) -> None:
    """Paid but refunded: the error names the refund, and no exit looks like success."""
    await world.pay_only()
    world.chain.generate(200)
    refund = world.seller.refund(world.order().request_id)
    world.chain.generate()
    with pytest.raises(AssetLost, match=refund):
        await world.resume()
    assert world.record().step is Step.LOST


async def test_a_refund_in_the_mempool_is_outbid_by_the_claim(world: BuyerWorld) -> None:
    """A refund that has not confirmed is replaced by a claim with a higher fee."""
    await world.pay_only()
    world.chain.generate(200)
    refund = world.seller.refund(world.order().request_id)
    outcome = await world.resume()
    assert outcome.claimed
    assert refund not in world.chain.mempool_txids()
    assert len(outcome.record.claims) > 1
    assert await world.balance() == AMOUNT


async def test_a_claim_that_is_too_cheap_is_made_again_with_a_higher_fee(world: BuyerWorld) -> None:
    """A mempool that asks for more gets a new claim of the same inputs, stored like the first."""
    world.view.least_rate = 300
    outcome = await world.buy()
    assert outcome.claimed
    [claim] = world.spends()
    assert claim.fee_sats * 1000 >= 300 * claim.vsize
    assert [c["txid"] for c in outcome.record.claims][-1] == claim.txid


async def test_a_flooded_script_does_not_stop_the_claim(world: BuyerWorld) -> None:
    """A server that refuses to show the HTLC (too long a history) still gets the claim."""
    await world.pay_only()
    world.view.flooded = True
    world.hurry()
    with pytest.raises(Unfinished):
        await world.resume()
    assert len(world.spends()) == 1
    world.be_patient()
    world.view.flooded = False
    assert (await world.resume()).claimed


async def test_after_a_reorg_the_funding_is_sent_again_for_the_claim(world: BuyerWorld) -> None:
    """When the funding has fallen out of the chain after payment, the buyer brings it back."""
    await world.pay_only()
    [swap] = world.seller.swaps.values()
    world.chain.invalidate(world.chain.block_hash(world.chain.tip_height - 1))
    world.chain.drop_mempool(swap.funding_txid)
    assert (await world.resume()).claimed
    assert world.view.sent[0] == swap.funding_txid


async def test_an_outage_while_claiming_is_waited_out_or_resumed(world: BuyerWorld) -> None:
    """With the Electrum server away for long the error can be resumed from, and nothing is lost."""
    await world.pay_only()
    world.view.broken = world.outage()
    world.hurry()
    with pytest.raises(BackendUnavailable):
        await world.resume()
    world.be_patient()
    world.view.broken = None
    assert (await world.resume()).claimed
    assert world.node.paid == 1


async def test_a_claim_without_the_subsidy_needs_l_btc_of_the_buyer(world: BuyerWorld) -> None:
    """The subsidy is gone: the error says what to send where; with that, the asset is claimed."""
    await world.pay_only()
    world.chain.generate(200)
    world.seller.refund(world.order().request_id, with_asset=False)
    world.chain.generate()
    with pytest.raises(BuyerError, match="subsidy was spent by someone else; send that much L-BTC"):
        await world.resume()
    record = world.record()
    world.seller.pay_lbtc(p2wpkh_script(p2wpkh_key_hash(record.claim_address, REGTEST)), 1_000)
    world.mine_when("claim sent")
    assert (await world.resume()).record.step is Step.DONE
    [claim] = world.spends()
    assert {spent.sequence for spent in claim.inputs} == {tx_builder.SEQUENCE_FINAL}
    assert await world.balance() == AMOUNT


async def test_the_chain_is_read_again_when_the_tip_moves_meanwhile(world: BuyerWorld) -> None:
    """Heights of one chain are never counted from the tip of another."""
    world.seller.blocks_after_funding = 1
    await world.buy_until_unfinished("confirmations")
    [swap] = world.seller.swaps.values()
    view = MovingChain(world)
    async with world.buyer() as buyer:
        stored = buyer.journal.load(swap.request_id).swap
    assert stored is not None
    seen = await look_at_htlc(view, read_swap(stored))
    assert seen.tip.height == world.chain.tip_height
    assert (view.reads, seen.funding.height) == (2, world.chain.tip_height - 1)


class MovingChain(ChainView):
    """A block comes in during the first reading."""

    def __init__(self, world: BuyerWorld) -> None:
        super().__init__(world.chain, Fuse())
        self.reads = 0

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """Read, then the block comes."""
        answer = await super().histories(scripts)
        self.reads += 1
        if self.reads == 1:
            self.chain.generate()
        return answer


def gave_up(swap: swap_pb2.Swap) -> None:
    """The seller says that it took the asset back, and shows no invoice."""
    swap.state, swap.bolt11 = swap_pb2.SWAP_STATE_REFUNDED, ""


def tell_another_script(swap: swap_pb2.Swap) -> None:
    """The seller tells of another lock than the one that was checked."""
    swap.witness_script, swap.refund_lock_height = b"\x51", 7


async def failed_to_pay(world: BuyerWorld) -> bytes:
    """A purchase whose `pay` found no route; its payment hash."""
    hashes = []

    def fail(payment_hash: bytes) -> Payment:
        hashes.append(payment_hash)
        return Payment(PaymentStatus.FAILED, failure="no route")

    world.node.behave = fail
    with pytest.raises(PaymentFailed):
        await world.buy()
    return hashes[0]


@pytest.mark.parametrize("ended", [True, False])
async def test_lightnings_word_counts_and_not_the_sellers(world: BuyerWorld, ended: bool) -> None:
    """A payment that went through late, or by hand: the seller says REFUNDED, and it is claimed.

    Also when the purchase had ended before it went through.
    """
    payment_hash = await failed_to_pay(world)
    request_id = world.order().request_id
    world.seller.tell = gave_up
    if ended:
        with pytest.raises(SellerDeclined, match="REFUNDED"):
            await world.resume()
        assert world.record().step is Step.DECLINED
    world.node.complete(payment_hash)
    world.mine_when("claim sent")
    outcome = await world.resume()
    assert (outcome.claimed, outcome.request_id) == (True, request_id)
    assert len(world.spends()) == 1


async def test_a_pending_payment_is_waited_for_whatever_the_seller_says(world: BuyerWorld) -> None:
    """It may still go through."""
    payment_hash = await failed_to_pay(world)
    world.seller.tell = gave_up
    world.node.payments[payment_hash] = Payment(PaymentStatus.PENDING)
    world.hurry()
    with pytest.raises(Unfinished, match="the payment"):
        await world.resume()
    assert world.record().step is Step.PAYING


async def test_what_was_clean_is_claimed_after_a_bad_verdict(world: BuyerWorld) -> None:
    """The seller tells of something else by now; the payment was for what was checked."""
    payment_hash = await failed_to_pay(world)
    clean = world.record().reply
    world.clock.time += 601
    world.seller.tell = tell_another_script
    with pytest.raises(VerdictNotClean):
        await world.resume()
    record = world.record()
    assert (record.step, record.reply) == (Step.REFUSED, clean)
    world.node.complete(payment_hash)
    assert (await world.resume()).claimed


async def test_nothing_is_said_to_be_unpaid_without_asking(world: BuyerWorld) -> None:
    """While the node is down the purchase stays open."""
    await failed_to_pay(world)
    world.seller.tell = gave_up
    world.node.fails = world.outage()
    world.hurry()
    with pytest.raises(BackendUnavailable):
        await world.resume()
    assert not world.record().step.is_over


async def test_a_preimage_from_another_wallet(world: BuyerWorld) -> None:
    """Another wallet paid the invoice: with its preimage the asset is claimed, with no other."""
    await world.buy(dry_run=True)
    [swap] = world.seller.swaps.values()
    preimage = world.seller.preimage_of(bytes.fromhex(swap.payment_hash))
    async with world.buyer() as buyer:
        with pytest.raises(BuyerError, match="not the preimage"):
            await buyer.resume(world.order().request_id, preimage=bytes(32))
        outcome = await buyer.resume(world.order().request_id, preimage=preimage)
    assert outcome.claimed
    assert world.node.max_delays == []


@pytest.mark.parametrize("error", [BackendUnavailable, BackendTimeout])
async def test_a_claim_needs_nothing_but_a_broadcast(
    world: BuyerWorld, monkeypatch: pytest.MonkeyPatch, error: type[BackendError]
) -> None:
    """Tip, histories and estimates fail; the claim is sent before any of them is waited for."""
    await world.pay_only()

    async def fail(*_: object, **__: object) -> None:
        raise error("electrum", "no answer")

    for name in ("tip", "histories", "transactions", "fee_rate_sats_per_kvb"):
        monkeypatch.setattr(world.view, name, fail)
    world.hurry()
    with pytest.raises(Unfinished):
        await world.resume()
    assert len(world.spends()) == 1


async def test_what_ended_is_looked_up_and_not_paid(world: BuyerWorld) -> None:
    """Plain `resume`: a purchase that ended unpaid stays so, unless Lightning says otherwise."""
    payment_hash = await failed_to_pay(world)
    world.seller.tell = gave_up
    with pytest.raises(SellerDeclined):
        await world.resume()
    assert world.record().is_open
    world.seller.tell = lambda swap: None  # it could be paid again
    world.node.behave = world.node.complete
    async with world.buyer() as buyer:
        outcome = await buyer.resume(world.order().request_id, pay_ended=False)
        assert (outcome.step, world.node.paid) == (Step.DECLINED, 0)
        world.node.complete(payment_hash)
        assert (await buyer.resume(world.order().request_id, pay_ended=False)).claimed
