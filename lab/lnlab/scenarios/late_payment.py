"""Late payment: just before the cut-off it works, after it the invoice is gone."""

import asyncio
from collections.abc import Awaitable

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.faults.control import Faults
from lnlab.nodes.lightning import LightningRpcError
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    cut_off_height,
    look,
    mine_to,
    refund_now,
    require_spends,
    until_final,
    until_no_invoice,
)

HELD_SECS = 60.0


async def late_payment(daemon: SellerDaemon, say: Say) -> None:
    """A payment in the last block that allows one is claimed; one later fails and is refunded."""
    buyer = HandBuyer(daemon)
    in_time, too_late = await buyer.order_many(2)
    cut_off = min([await cut_off_height(daemon, swap) for swap in (in_time, too_late)])
    await mine_to(daemon, cut_off)
    preimage = await buyer.pay(in_time)
    say(f"paid at height {cut_off}, the last that the terms allow")
    await daemon.lab.mine(2)
    await until_no_invoice(daemon, too_late.swap_id)
    require(not (await look(daemon, too_late.swap_id)).swap.bolt11, "a dead invoice is shown")
    await _fails(buyer.pay(too_late))
    say("a block later the other invoice is gone, and paying it fails")
    await mine_to(daemon, too_late.refund_lock_height - 1)
    await buyer.send(buyer.claim(in_time, preimage))
    await refund_now(daemon, too_late)
    await until_final(daemon, in_time.swap_id, CLAIMED)
    await require_spends(daemon, in_time, "claim", "claim")
    await require_spends(daemon, too_late, "refund", "refund")
    say("the first was claimed and the second refunded, each whole")
    daemon.check_log()


async def held_payment(daemon: SellerDaemon, say: Say) -> None:
    """A payment that is on its way when the invoice is deleted comes back, and then the refund."""
    faults = Faults(daemon.lab)
    buyer = HandBuyer(daemon)
    swap = await buyer.order()
    await mine_to(daemon, await cut_off_height(daemon, swap) - 1)
    await faults.hold_payments()
    paying = asyncio.create_task(buyer.pay(swap))
    try:
        # Before it pays, the buyer's node has to see the last block.
        await daemon.lab.wait_for(
            faults.held_payments, timeout_secs=HELD_SECS, message="the payment is held"
        )
        say("the payment has reached the seller's node, which holds it")
        await daemon.lab.mine(3)
        await until_no_invoice(daemon, swap.swap_id)
    except BaseException:
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
        raise
    finally:
        await faults.release_payments()
    await _fails(paying)
    say("the invoice was deleted meanwhile: the payment came back")
    await refund_now(daemon, swap)
    await require_spends(daemon, swap, "refund", "refund")
    daemon.check_log()


async def _fails(paying: Awaitable[bytes]) -> None:
    try:
        await paying
    except LightningRpcError:
        return
    require(False, "a payment went through after the cut-off")
