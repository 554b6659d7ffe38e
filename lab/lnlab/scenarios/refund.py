"""Refund: a swap that nobody pays goes back to the seller after the lock height, all of it."""

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CREATED,
    FUNDED,
    REFUNDED,
    available,
    invoice_status,
    look,
    mine_to,
    require_path,
    require_spends,
    spends,
    until_available,
    until_final,
    until_no_invoice,
)

AMOUNT = 1_000


async def refund(daemon: SellerDaemon, say: Say) -> None:
    """A swap that nobody pays is refunded from the lock height on, and not a block before."""
    before = await available(daemon)
    swap = await HandBuyer(daemon).order(AMOUNT)
    require(
        await available(daemon) == before - AMOUNT, "the amount of an open swap is still on offer"
    )
    say(
        f"swap {swap.swap_id} is funded and nobody pays; the lock height is "
        f"{swap.refund_lock_height}"
    )
    await mine_to(daemon, swap.refund_lock_height - 1)
    await until_no_invoice(daemon, swap.swap_id)
    require(not await spends(daemon, swap), "a refund was sent before the lock height")
    state = (await look(daemon, swap.swap_id)).swap.state
    require(state == FUNDED, "the swap did not stay FUNDED until the lock height")
    await daemon.lab.mine()
    await until_final(daemon, swap.swap_id, REFUNDED)
    say("refunded, and the refund is buried")
    await require_spends(daemon, swap, "refund", "refund")
    await require_path(daemon, swap.swap_id, (CREATED, FUNDED, REFUNDED))
    require(await invoice_status(daemon, swap.swap_id) is None, "there is an invoice again")
    await until_available(daemon, before)
    say(f"all {before} are on offer again")
    daemon.check_log()
