"""Core Lightning is killed and started again while swaps are open."""

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.faults.control import Faults
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    FUNDED,
    available,
    look,
    mine_to,
    refund_now,
    require_spends,
    sell,
    spends,
    until_available,
    until_final,
    until_state,
)


async def lightning_restart(daemon: SellerDaemon, say: Say) -> None:
    """The seller's Lightning node dies and comes back: nobody who paid is refunded."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    before = await available(daemon)
    claimed, waiting, late, unpaid = await buyer.order_many(4)
    claim = buyer.claim(claimed, await buyer.pay(claimed))
    preimage = await buyer.pay(waiting)
    await faults.stop_lightning("seller")
    try:
        await is_refused(daemon)
        say("Lightning was killed; new swaps are refused with a hint when to retry")
        await buyer.send(claim)
        await until_state(daemon, claimed.swap_id, CLAIMED)
        for swap in (waiting, late, unpaid):
            state = (await look(daemon, swap.swap_id)).swap.state
            require(state == FUNDED, "a swap did not stay FUNDED without Lightning")
    finally:
        await faults.start_lightning("seller")
    await daemon.wait_ready()
    await buyer.send(buyer.claim(late, await buyer.pay(late)))
    await until_final(daemon, late.swap_id, CLAIMED)
    say("started again; an invoice from before was paid, and that swap claimed")
    await refund_now(daemon, unpaid)
    await mine_to(daemon, max(s.refund_lock_height for s in (waiting, unpaid)) + 1)
    await sell(daemon, buyer)
    require(not await spends(daemon, waiting), "a paid swap was refunded")
    await buyer.send(buyer.claim(waiting, preimage))
    for swap in (claimed, waiting):
        await until_final(daemon, swap.swap_id, CLAIMED)
        await require_spends(daemon, swap, "claim", "claim")
    await until_available(daemon, before - 4_000)
    say("the unpaid one was refunded, the one paid just before the kill was not")
    daemon.check_log()
