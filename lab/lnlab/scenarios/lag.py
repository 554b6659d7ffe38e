"""A backend whose tip goes back or stands still: new swaps are refused, open ones go on."""

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault
from lnlab.scenarios.outage import is_refused, until_logged
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    CREATED,
    FUNDED,
    available,
    log_of,
    look,
    require_spends,
    sell,
    spends,
    until_available,
    until_final,
    until_no_invoice,
    until_state,
)

IMPATIENT = {"LNLIQUID_STALL_AFTER_SECS": "3"}
"""Settings with which three seconds without a block are too long."""


async def until_told(daemon: SellerDaemon, words: str) -> None:
    """Wait until the daemon's log has these words; it may have refused before it wrote them."""
    await daemon.lab.wait_for(
        lambda: words in log_of(daemon), timeout_secs=20, message=f"the log says: {words}"
    )


async def tip_back(daemon: SellerDaemon, say: Say) -> None:
    """A server that fell behind keeps new swaps away; open ones are where they were afterwards."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    before = await available(daemon)
    paid, unpaid = await buyer.order(), await buyer.order()
    preimage = await buyer.pay(paid)
    await until_logged(daemon, "invoice paid", paid.swap_id)
    # Asking for the offer makes the daemon look at its readiness, and so at this tip.
    require(await available(daemon) == before - 2_000, "two swaps are not reserved")
    try:
        await faults.set("electrum", Fault.REFUSE)  # the next connection is to another server
        await faults.set("electrum", Fault.BEHIND)
        await is_refused(daemon)
        await until_told(daemon, "tip went back")
        say("the server's tip went back; new swaps are refused with a hint when to retry")
        # What was not locked for sure must not be paid; what was paid is not forgotten.
        await until_state(daemon, unpaid.swap_id, CREATED)
        await until_no_invoice(daemon, unpaid.swap_id)
        await buyer.send(buyer.claim(paid, preimage))
        for swap in (paid, unpaid):
            seen = (await look(daemon, swap.swap_id)).swap
            require(seen.state in (CREATED, FUNDED), "decided on the word of an old tip")
            require(not seen.is_final, "final on the word of an old tip")
        require(not await spends(daemon, unpaid), "refunded on the word of an old tip")
        await faults.set("electrum", Fault.REFUSE)
    finally:
        await faults.clear()
    again = await until_state(daemon, unpaid.swap_id, FUNDED, invoice=True)
    require(again.funding_txid == unpaid.funding_txid, "it was funded again")
    await daemon.wait_ready()
    await until_final(daemon, paid.swap_id, CLAIMED)
    await buyer.send(buyer.claim(again, await buyer.pay(again)))
    await until_final(daemon, again.swap_id, CLAIMED)
    for swap in (paid, unpaid):
        await require_spends(daemon, swap, "claim", "claim")
    await sell(daemon, buyer)
    await until_available(daemon, before - 3_000)
    say("caught up: the invoice was made again, both were claimed, sales go on")
    daemon.check_log()


async def stall(daemon: SellerDaemon, say: Say) -> None:
    """No block for too long keeps new swaps away; an open one is paid and claimed meanwhile."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    before = await available(daemon)
    try:
        async with mining(lab, steady=True):
            await daemon.restart(IMPATIENT)
            open_one = await buyer.order()
        await is_refused(daemon)
        await until_told(daemon, "has shown no block")
        say("no block came; new swaps are refused with a hint when to retry")
        await buyer.send(buyer.claim(open_one, await buyer.pay(open_one)))
        await until_state(daemon, open_one.swap_id, CLAIMED)
        require(not await daemon.is_ready(), "ready without a block")
        say("an open swap was paid and claimed all the same")
        async with mining(lab, steady=True):
            await daemon.wait_ready()
            await until_final(daemon, open_one.swap_id, CLAIMED)
            await sell(daemon, buyer)
    finally:
        await daemon.restart()
    await until_available(daemon, before - 2_000)
    say("blocks came again, and sales go on")
    daemon.check_log()
