"""A buyer that cannot be robbed by time: held payments, stale servers, swaps that come too late."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer import BuyerError, BuyerSettings, Step
from lnliquid.buyer.errors import TooLateToPay, Unfinished, VerdictNotClean
from lnliquid.domain.errors import SettingsError

from ..buyer_seller import AMOUNT
from ..buyer_world import BuyerWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BuyerWorld]:
    """A world whose seller is up."""
    async with BuyerWorld(tmp_path).serving() as world:
        yield world


async def refusal(world: BuyerWorld) -> str:
    """The checks that keep `resume` from paying, by name."""
    with pytest.raises(VerdictNotClean) as caught:
        await world.resume()
    assert world.node.paid == 0
    assert world.record().step is Step.REFUSED
    return ", ".join(check.name for check in caught.value.verdict.failed)


async def test_the_payment_is_held_for_no_longer_than_the_lock_allows(world: BuyerWorld) -> None:
    """`maxdelay` is the largest CLTV that fits the blocks left, and it is shown with its hours.

    198 blocks are left: 60 for the claim, 1 to send the payment, 8 that come on top.
    """
    world.mine_when("claim sent")
    await world.buy()
    assert world.node.max_delays == [198 - 60 - 1 - 8]
    assert world.record().max_delay_blocks == 129
    assert str(world.record().hold) == "2.3 hours (129 + 8 blocks of liquid)"
    assert any("it can be held for 2.3 hours" in line.text for line in world.progress)


async def test_it_is_held_for_no_longer_than_the_buyer_agreed_to(world: BuyerWorld) -> None:
    """By the order, which `resume` keeps to."""
    await world.buy(max_hold_blocks=30, dry_run=True)
    world.mine_when("claim sent")
    await world.resume()
    assert world.node.max_delays == [30]


async def test_blocks_that_came_since_the_order_shorten_the_hold(world: BuyerWorld) -> None:
    """Until too few are left: then nothing is paid, and the numbers are told."""
    await world.buy(dry_run=True)
    world.chain.generate(198 - 87)
    async with world.buyer() as buyer:
        verdict = await buyer.check(world.order())
    assert world.record().max_delay_blocks == 18
    [found] = [check.found for check in verdict.checks if check.name == "timelock budget"]
    assert "87 blocks = 5220 s >= 5191 s" in found
    world.chain.generate()
    assert await refusal(world) == "timelock budget"
    [failed] = world.record().checks.failed  # type: ignore[union-attr]
    assert "86 blocks = 5160 s < 5191 s" in failed.found
    assert "maxdelay 17" in failed.found


async def test_an_offer_that_leaves_no_time_is_not_ordered(world: BuyerWorld) -> None:
    """The seller need not lock anything for it."""
    world.seller.offer.refund_delta_blocks = 70
    with pytest.raises(BuyerError, match="locks for 70 blocks only"):
        await world.buy()
    assert world.seller.created == 0


async def test_over_bitcoin_the_same_offer_leaves_no_time(world: BuyerWorld) -> None:
    """The chain is the one of the buyer's own node, whatever the seller says of its blocks."""
    world.node.network = "bitcoin"
    world.seller.offer.lightning_block_secs = 1
    with pytest.raises(BuyerError, match="locks for 200 blocks only"):
        await world.buy()


def test_a_claim_margin_below_the_least_is_no_setting(tmp_path: Path) -> None:
    """60 blocks are kept for the claim, whoever sets what."""
    with pytest.raises(SettingsError, match="claim_margin_blocks = 59"):
        BuyerSettings(tmp_path, "liquid-regtest", claim_margin_blocks=59)


async def test_a_server_frozen_after_the_funding_is_not_believed(world: BuyerWorld) -> None:
    """It shows the lock as it was; the seller's refund may have won since. Nothing is paid."""
    await world.buy(dry_run=True)
    world.view.frozen = await world.view.tip()
    world.clock.time += 20 * 60 + 10
    assert "tip age" in await refusal(world)
    world.view.frozen = None
    world.chain.generate()  # its time is the chain's clock, which stands still: as old
    assert "tip age" in await refusal(world)


async def test_a_clock_that_is_behind_is_named(world: BuyerWorld) -> None:
    """By it an old block would look new; a header far ahead of it tells."""
    await world.buy(dry_run=True)
    world.clock.time -= 3 * 60 * 60
    with pytest.raises(VerdictNotClean) as caught:
        await world.resume()
    [failed] = [c for c in caught.value.verdict.failed if c.name == "tip age"]
    assert "a wrong clock" in failed.found
    assert "clock of this machine" in failed.advice
    assert world.node.paid == 0


async def test_a_server_behind_the_lightning_node_is_not_believed(world: BuyerWorld) -> None:
    """Where both are on Liquid. It may catch up for a while; then nothing is paid."""
    await world.buy(dry_run=True)
    world.view.frozen = await world.view.tip()
    world.chain.generate(3)
    world.node.height = world.chain.tip_height
    assert await refusal(world) == "tip height"


async def test_a_server_that_catches_up_is_waited_for(world: BuyerWorld) -> None:
    """A node can hear of a block before the server has told it."""
    await world.buy(dry_run=True)
    world.view.frozen = await world.view.tip()
    world.chain.generate()
    world.node.height = world.chain.tip_height
    world.mine_when("claim sent")
    looks = world.clock.time + 5
    info = world.node.info

    async def looked() -> object:
        if world.clock.now() > looks:
            world.view.frozen = None
        return await info()

    world.node.info = looked  # type: ignore[method-assign,assignment]
    await world.resume()
    assert world.node.paid == 1


async def test_a_node_on_bitcoin_tells_nothing_of_the_height(world: BuyerWorld) -> None:
    """Its blocks are others."""
    await world.buy(dry_run=True)
    world.node.network, world.node.height = "regtest", 10**6
    world.mine_when("claim sent")
    await world.resume()
    assert world.node.paid == 1


def closed(told: pb.Swap) -> None:
    """FUNDED, and no invoice will come."""
    told.bolt11, told.invoice_expires_at, told.payment_closed = "", 0, True


def past_the_last_block(told: pb.Swap) -> None:
    """No invoice yet, and by its own number none will come."""
    told.bolt11, told.payable_until_height = "", 1


def waiting(told: pb.Swap) -> None:
    """FUNDED, and the invoice not made yet; as a seller of an older version tells it."""
    told.bolt11 = ""


@pytest.mark.parametrize("tell", [closed, past_the_last_block])
async def test_a_swap_that_is_funded_too_late_ends_the_wait(
    world: BuyerWorld, tell: Callable[[pb.Swap], None]
) -> None:
    """At once, with a reason, and so does each `resume`; nothing is paid."""
    world.seller.tell = tell
    for go_on in (world.buy, world.resume, world.resume):
        with pytest.raises(TooLateToPay, match="goes back to the seller at block"):
            await go_on()
    record = world.record()
    assert (record.step, world.node.paid) == (Step.REFUSED, 0)
    assert "too late to pay" in record.note


async def test_a_swap_that_opens_again_is_paid(world: BuyerWorld) -> None:
    """A reorg may give the time back; the refusal was not the end."""
    world.seller.tell = closed
    with pytest.raises(TooLateToPay):
        await world.buy()
    world.seller.tell = lambda told: None
    world.mine_when("claim sent")
    await world.resume()
    assert await world.balance() == AMOUNT


async def test_a_resume_after_the_last_block_does_not_wait_for_the_refund(
    world: BuyerWorld,
) -> None:
    """Whatever the seller tells or does not: the buyer counts the blocks itself."""
    world.seller.tell = waiting
    await world.buy_until_unfinished("the funding")
    world.chain.generate(198 - 60)
    world.hurry()
    with pytest.raises(Unfinished):
        await world.resume()
    world.be_patient()
    world.chain.generate()
    with pytest.raises(TooLateToPay, match="the tip is"):
        await world.resume()
    assert world.node.paid == 0
