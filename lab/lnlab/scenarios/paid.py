"""Paid swaps are the buyer's, however long the buyer takes and whoever was away meanwhile."""

import asyncio

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import REPLACEABLE, HandBuyer
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    FUNDED,
    REFUNDED,
    history,
    is_logged,
    look,
    mine_to,
    refund_now,
    require_spends,
    spends,
    until,
    until_final,
    until_state,
)

LONG_BLOCKS = 30
RACERS = 3


async def paid_unclaimed(daemon: SellerDaemon, say: Say) -> None:
    """What was paid and not claimed is never refunded; the claim works long after."""
    buyer = HandBuyer(daemon)
    paid, unpaid = await buyer.order_many(2)
    preimage = await buyer.pay(paid)
    say("paid one of two swaps; the buyer goes away without claiming")
    await refund_now(daemon, unpaid)
    await daemon.lab.mine(LONG_BLOCKS)
    # A refund of a later swap shows that the daemon has worked through these blocks.
    await refund_now(daemon, await buyer.order())
    require(not await spends(daemon, paid), "a swap that was paid was spent by the seller")
    state = (await look(daemon, paid.swap_id)).swap.state
    require(state == FUNDED, "a swap that was paid and not claimed did not stay FUNDED")
    require(
        is_logged(daemon, "paid and not claimed: this needs the operator", paid.swap_id),
        "the log does not tell the operator of a swap that was paid and not claimed",
    )
    say(
        f"{(await daemon.lab.tip()).height - paid.refund_lock_height} blocks past its lock height "
        "the paid one is untouched and the others are refunded"
    )
    await buyer.send(buyer.claim(paid, preimage))
    await until_final(daemon, paid.swap_id, CLAIMED)
    await require_spends(daemon, paid, "claim", "claim")
    say("the buyer came back and claimed")
    daemon.check_log()


async def daemon_down_payment(daemon: SellerDaemon, say: Say) -> None:
    """A payment while the daemon is down is found at its start, also past the lock height."""
    buyer = HandBuyer(daemon)
    paid, unpaid = await buyer.order_many(2)
    await daemon.kill()
    preimage = await buyer.pay(paid)
    await mine_to(daemon, max(paid.refund_lock_height, unpaid.refund_lock_height) + 5)
    say("paid while the daemon was dead; now the lock height is past and it starts")
    await daemon.start()
    await until_final(daemon, unpaid.swap_id, REFUNDED)
    require(not await spends(daemon, paid), "the daemon refunded what was paid in its absence")
    await buyer.send(buyer.claim(paid, preimage))
    await until_final(daemon, paid.swap_id, CLAIMED)
    await require_spends(daemon, paid, "claim", "claim")
    await require_spends(daemon, unpaid, "refund", "refund")
    say("it refunded the unpaid one only, and the paid one was claimed")
    daemon.check_log()


async def partial_claim(daemon: SellerDaemon, say: Say) -> None:
    """A buyer who claims the asset alone leaves the subsidy; the daemon sweeps that later."""
    buyer = HandBuyer(daemon)
    swap = await buyer.order()
    preimage = await buyer.pay(swap)
    coin = await buyer.loose_coin()
    await buyer.send(buyer.claim(swap, preimage, with_subsidy=False, coin=coin))
    await daemon.lab.mine(3)
    await until_state(daemon, swap.swap_id, CLAIMED)
    require(not (await look(daemon, swap.swap_id)).swap.is_final, "final with an output unspent")
    say("the asset is claimed, the subsidy is not")
    await mine_to(daemon, swap.refund_lock_height)

    async def swept() -> bool:
        return "subsidy" in await spends(daemon, swap)

    await until(daemon, swept, "the subsidy is swept")
    await until_final(daemon, swap.swap_id, CLAIMED)
    await require_spends(daemon, swap, "claim", "refund")
    say("the seller took the subsidy back after the lock height")
    daemon.check_log()


async def claim_race(daemon: SellerDaemon, say: Say) -> None:
    """Claims sent as the lock height comes meet refunds of other swaps, never of their own."""
    buyer = HandBuyer(daemon)
    swaps = await buyer.order_many(2 * RACERS)
    paid, unpaid = swaps[:RACERS], swaps[RACERS:]
    claims = []
    for index, swap in enumerate(paid):
        # The first may be replaced by whoever can: it is the buyer's fault, and still no refund.
        sequence = REPLACEABLE if index == 0 else 0xFFFFFFFF
        claims.append(buyer.claim(swap, await buyer.pay(swap), sequence=sequence))
    await mine_to(daemon, max(swap.refund_lock_height for swap in swaps) - 1)
    say(f"{RACERS} swaps are paid, {RACERS} are not; block and claims come at once")
    await asyncio.gather(daemon.lab.mine(), *(buyer.send(raw) for raw in claims))
    for swap in unpaid:
        await until_final(daemon, swap.swap_id, REFUNDED)
        await require_spends(daemon, swap, "refund", "refund")
    for swap in paid:
        await until_final(daemon, swap.swap_id, CLAIMED)
        await require_spends(daemon, swap, "claim", "claim")
        require(len(await history(daemon, swap)) == 2, "more than a funding and a claim")
    say("every paid swap was claimed, every other refunded")
    daemon.check_log()
