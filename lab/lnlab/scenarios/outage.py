"""Outages: dead, hanging, lagging or lying backends cost time, not money."""

import asyncio
from functools import partial

import grpc
from google.rpc import error_details_pb2, status_pb2

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault
from lnlab.scenarios.sale import Say, ScenarioError, require
from lnlab.scenarios.steps import (
    CLAIMED,
    CREATED,
    FUNDED,
    available,
    is_logged,
    look,
    mine_to,
    refund_now,
    require_path,
    require_refusal,
    require_spends,
    sell,
    spends,
    until_available,
    until_final,
)

DEAD = (Fault.REFUSE, Fault.HANG, Fault.CUT, Fault.DELAY)
"""With these a backend cannot be used; DELAY: answers come later than the daemon waits."""
TOO_LATE_SECS = 2.5
ODD = (Fault.DUPLICATE, Fault.DELAY)
"""With these it can, and everything works."""
DELAY_SECS = 0.1


async def is_refused(daemon: SellerDaemon) -> None:
    """Require that the daemon takes no swap now, says so clearly, and stores nothing."""
    lab = daemon.lab

    async def not_ready() -> bool:
        return not await daemon.is_ready()

    await lab.wait_for(not_ready, timeout_secs=40, message="health says NOT_SERVING")
    before = await available(daemon)
    buyer = HandBuyer(daemon)
    request = buyer.request()
    error = await require_refusal(buyer.create(request), grpc.StatusCode.UNAVAILABLE)
    status, hint = status_pb2.Status(), error_details_pb2.RetryInfo()
    for key, packed in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(packed if isinstance(packed, bytes) else packed.encode())
    require(
        any(detail.Unpack(hint) for detail in status.details) and hint.retry_delay.seconds > 0,
        "the refusal does not say when to try again",
    )
    require(await available(daemon) == before, "a refused request reserved something")


async def until_logged(daemon: SellerDaemon, event: str, swap_id: str) -> None:
    """Wait until the daemon's log tells of this event of this swap."""
    await daemon.lab.wait_for(
        partial(is_logged, daemon, event, swap_id),
        timeout_secs=40,
        message=f"the log says of {swap_id}: {event}",
    )


async def electrum_dead(daemon: SellerDaemon, fault: Fault, say: Say) -> None:
    """Without the Electrum server no swap is taken; what happens meanwhile is found afterwards."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    before = await available(daemon)
    claimed, unpaid = await buyer.order_many(2)
    try:
        await faults.set("electrum", fault, TOO_LATE_SECS)
        await is_refused(daemon)
        say(f"Electrum server: {fault}; new swaps are refused with a hint when to retry")
        await buyer.send(buyer.claim(claimed, await buyer.pay(claimed)))
        await mine_to(daemon, unpaid.refund_lock_height + 1)
        require(not await spends(daemon, unpaid), "something was sent past the dead server")
    finally:
        await faults.clear()
    await daemon.wait_ready()
    await until_final(daemon, claimed.swap_id, CLAIMED)
    await refund_now(daemon, unpaid)
    await require_path(daemon, claimed.swap_id, (CREATED, FUNDED, CLAIMED))
    await sell(daemon, buyer)
    await until_available(daemon, before - 2_000)
    say("back again: one was claimed and one refunded, and sales go on")
    daemon.check_log()


async def lightning_dead(daemon: SellerDaemon, fault: Fault, say: Say) -> None:
    """Without Lightning nothing is refunded: not knowing is not knowing that nobody paid."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    before = await available(daemon)
    claimed, paid, unpaid = await buyer.order_many(3)
    try:
        await faults.set("lightning-seller", fault, TOO_LATE_SECS)
        await is_refused(daemon)
        say(f"Lightning: {fault}; new swaps are refused with a hint when to retry")
        preimage = await buyer.pay(paid)
        await buyer.send(buyer.claim(claimed, await buyer.pay(claimed)))
        await mine_to(daemon, max(s.refund_lock_height for s in (claimed, paid, unpaid)))
        # The final claim shows that the daemon has worked through these blocks.
        await until_final(daemon, claimed.swap_id, CLAIMED)
        for swap in (paid, unpaid):
            require(not await spends(daemon, swap), "refunded without knowing the invoice")
            state = (await look(daemon, swap.swap_id)).swap.state
            require(state == FUNDED, "the swap did not stay FUNDED")
        say("a claim is followed all the same; past the lock height nothing is refunded")
    finally:
        await faults.clear()
    await daemon.wait_ready()
    await refund_now(daemon, unpaid)
    require(not await spends(daemon, paid), "a paid swap was refunded")
    await buyer.send(buyer.claim(paid, preimage))
    await until_final(daemon, paid.swap_id, CLAIMED)
    await require_spends(daemon, paid, "claim", "claim")
    await sell(daemon, buyer)
    await until_available(daemon, before - 3_000)
    say("back again: the unpaid one was refunded, the paid one was not")
    daemon.check_log()


async def electrum_odd(daemon: SellerDaemon, fault: Fault, say: Say) -> None:
    """Notifications that come twice, or slow answers: a sale and a refund complete."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    try:
        await faults.set("electrum", fault, DELAY_SECS if fault is Fault.DELAY else 0)
        sold = await sell(daemon, buyer)
        await require_path(daemon, sold.swap_id, (CREATED, FUNDED, CLAIMED))
        await refund_now(daemon, await buyer.order())
    finally:
        await faults.clear()
    say(f"Electrum server: {fault}; a sale and a refund went through")
    daemon.check_log()


async def electrum_drop(daemon: SellerDaemon, say: Say) -> None:
    """Lost notifications are made good by the next connection, which reads everything again."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    claimed, unpaid = await buyer.order_many(2)
    try:
        await faults.set("electrum", Fault.DROP)
        txid = await buyer.send(buyer.claim(claimed, await buyer.pay(claimed)))
        await mine_to(daemon, unpaid.refund_lock_height + 1)
        await faults.set("electrum", Fault.REFUSE)
    finally:
        await faults.clear()
    final = await until_final(daemon, claimed.swap_id, CLAIMED)
    require(final.spend_txid == txid, "another transaction is taken for the claim")
    await refund_now(daemon, unpaid)
    say("Electrum server: every notification was lost; after a reconnect all was found")
    daemon.check_log()


async def funding_notice_lost(daemon: SellerDaemon, say: Say) -> None:
    """A swap gets its invoice although no notification ever tells of its funding's block."""
    lab, faults, buyer = daemon.lab, Faults(daemon.lab), HandBuyer(daemon)
    try:
        await faults.set("electrum", Fault.DROP)
        creating = asyncio.create_task(buyer.create(buyer.request()))
        await lab.wait_for(
            partial(lab.rpc.call, "getrawmempool"), timeout_secs=15, message="the funding is sent"
        )
        await asyncio.wait([creating], timeout=3)  # its timer comes round: it has read it unmined
        await lab.mine()
        try:
            # The daemon asks for the tip every 10 s, whatever it is told.
            swap = await asyncio.wait_for(asyncio.shield(creating), 15)
        except TimeoutError:
            raise ScenarioError("no invoice 15 s after the funding's block") from None
        finally:
            await faults.clear()
            # A new connection makes good whatever was lost.
            await faults.set("electrum", Fault.REFUSE)
            await faults.clear()
            swap = await creating
    finally:
        await faults.clear()
    await refund_now(daemon, swap)
    say("no notification came; the swap was funded and refunded all the same")
    daemon.check_log()


async def electrum_lag(daemon: SellerDaemon, say: Say) -> None:
    """A server that stays at an old tip holds swaps up; nothing is decided on its word."""
    faults, buyer = Faults(daemon.lab), HandBuyer(daemon)
    claimed, unpaid = await buyer.order_many(2)
    try:
        await faults.set("electrum", Fault.LAG)
        await buyer.send(buyer.claim(claimed, await buyer.pay(claimed)))
        await mine_to(daemon, unpaid.refund_lock_height + 2)
        # Its timer has come round when it has asked once more about the invoice that was paid.
        await until_logged(daemon, "invoice paid", claimed.swap_id)
        require(not await spends(daemon, unpaid), "refunded on a tip that was not shown")
        require(not (await look(daemon, claimed.swap_id)).swap.is_final, "final without blocks")
        # The next connection shows the tip as it is.
        await faults.set("electrum", Fault.REFUSE)
    finally:
        await faults.clear()
    await refund_now(daemon, unpaid)
    await until_final(daemon, claimed.swap_id, CLAIMED)
    say("the server was stuck at an old tip; when it moved on, so did the swaps")
    daemon.check_log()


async def outage(daemon: SellerDaemon, say: Say) -> None:
    """Electrum server and Lightning fail in every way the proxies know."""
    for fault in DEAD:
        await electrum_dead(daemon, fault, say)
        await lightning_dead(daemon, fault, say)
    for fault in ODD:
        await electrum_odd(daemon, fault, say)
    await electrum_drop(daemon, say)
    await electrum_lag(daemon, say)
    await funding_notice_lost(daemon, say)
