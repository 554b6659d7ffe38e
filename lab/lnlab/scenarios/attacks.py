"""A seller that plays for time, a server that shows an old chain: the buyer refuses, or wins."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnlab.actors.programs import ProgramError
from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault
from lnlab.lab import Lab
from lnlab.nodes.lightning import lightning_call
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    REFUNDED,
    look,
    mine_to,
    require_spends,
    until_final,
    until_no_invoice,
)

AMOUNT = 1_000
PRICE_CAP_MSAT = 10**12
HELD_SECS = 60.0
FROZEN_SECS = 3_600.0


async def holding_seller(daemon: SellerDaemon, say: Say) -> None:
    """A payment that is held for as long as Lightning allows is claimed before the refund opens."""
    lab, faults = daemon.lab, Faults(daemon.lab)
    crowd = uuid.uuid4().hex[:8]
    paying, late = (Buyer(daemon, f"{crowd}-{name}") for name in ("pays", "late"))
    held, too_late = [await _checked(daemon, buyer) for buyer in (paying, late)]
    heights = [(await _swap(daemon, one)).payable_until_height for one in (held, too_late)]
    last = min(heights)
    await mine_to(daemon, last)
    await faults.hold_payments()
    resuming = asyncio.create_task(paying.run("resume", _name(held)))
    try:
        await lab.wait_for(
            faults.held_payments, timeout_secs=HELD_SECS, message="the payment is held"
        )
        await daemon.kill()  # this seller deletes no invoice, and means to refund
        record = await paying.run("show", _name(held))
        expiry = await _htlc_expiry(lab)
        require(expiry <= last + 1 + record["max_delay_blocks"], "held for longer than maxdelay")
        await mine_to(daemon, expiry - 1)
        say(f"paid under the last block that allows it, {last}, and held until {expiry - 1}")
        left = int(record["swap"]["refund_lock_height"]) - (await lab.tip()).height
        require(left >= 60, f"{left} blocks are left for the claim, and 60 should be")
    except BaseException:
        resuming.cancel()
        await asyncio.gather(resuming, return_exceptions=True)
        raise
    finally:
        await faults.release_payments()
    async with mining(lab):
        await resuming
    require(await paying.balance() == AMOUNT, "the buyer did not get what it paid for")
    say(f"{left} blocks before the refund opens the payment came back, and was claimed")
    await daemon.start()
    swap = await until_final(daemon, (await _swap(daemon, held)).swap_id, CLAIMED)
    await require_spends(daemon, swap, "claim", "claim")
    await until_no_invoice(daemon, (await _swap(daemon, too_late)).swap_id)
    await _is_refused(late, too_late, "it is too late to pay")
    say("a purchase that was not paid in time is refused at once, with the block")
    await mine_to(daemon, (await _swap(daemon, too_late)).refund_lock_height)
    await until_final(daemon, (await _swap(daemon, too_late)).swap_id, REFUNDED)
    daemon.check_log()


async def frozen_server(lab: Lab, say: Say, _seed: int) -> None:
    """A buyer whose server stands still after the funding pays nothing until it goes on."""
    proxied = await lab.start_proxies()
    server = {"LNLIQUID_BUYER_ELECTRUM": proxied["electrum"]}
    faults = Faults(lab)
    async with await SellerDaemon.create(lab) as daemon:
        buyer = Buyer(daemon)
        checked = await _checked(daemon, buyer, server)
        await faults.set("electrum", Fault.FROZEN, FROZEN_SECS)
        await _is_refused(buyer, checked, "tip age", server)
        say("the server's newest block is an hour old by its header: nothing is paid")
        await faults.set("electrum", Fault.FROZEN)
        await lab.mine(5)
        await _is_refused(buyer, checked, "tip height", server)
        say("the Lightning node knows of blocks that the server does not show: nothing is paid")
        await faults.clear()
        async with mining(lab):
            await buyer.run("resume", _name(checked), env=server)
        require(await buyer.balance() == AMOUNT, "the buyer did not get what it paid for")
        await until_final(daemon, (await _swap(daemon, checked)).swap_id, CLAIMED)
        say("the server goes on, and so does the purchase")
        daemon.check_log()


async def _htlc_expiry(lab: Lab) -> int:
    """The height at which the one payment under way goes back to the buyer's node."""
    answer = await lightning_call(lab.lightning["buyer"], "listpeerchannels")
    [expiry] = [int(htlc["expiry"]) for channel in answer["channels"] for htlc in channel["htlcs"]]
    return expiry


async def _checked(
    daemon: SellerDaemon, buyer: Buyer, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A purchase that passed every check and is not paid."""
    async with mining(daemon.lab):
        return await buyer.run(
            "buy",
            "--dry-run",
            f"--amount={AMOUNT}",
            f"--max-price-msat={PRICE_CAP_MSAT}",
            "--confs=1",
            env=env,
        )


def _name(purchase: Mapping[str, Any]) -> str:
    return str(purchase["order"]["request_id"])


async def _swap(daemon: SellerDaemon, purchase: Mapping[str, Any]) -> pb.Swap:
    return (await look(daemon, str(purchase["swap"]["swap_id"]))).swap


async def _is_refused(
    buyer: Buyer, purchase: Mapping[str, Any], why: str, env: Mapping[str, str] | None = None
) -> None:
    """Require `resume` to pay nothing, for this reason."""
    try:
        await buyer.run("resume", _name(purchase), "--outage-secs=1", env=env)
    except ProgramError as error:
        require(error.code == 1, f"resume ended with {error}")
        require(why in error.output, f"expected {why!r} of: {error.output}")
        record = await buyer.run("show", _name(purchase), env=env)
        require(record["amount_sent_msat"] is None, "something was paid")
        return
    require(False, f"resume paid, expected {why!r}")
