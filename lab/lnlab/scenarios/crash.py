"""Crash: the daemon is killed at a point of a refund, started again, and refunds exactly once."""

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import LAB_SETTINGS, SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.scenarios.sale import Say
from lnlab.scenarios.steps import (
    REFUNDED,
    available,
    mine_to,
    require_spends,
    until_available,
    until_final,
    until_state,
)

CRASH_VARIABLE = "LNLIQUID_CRASH_AT"
REFUND_POINTS = (
    "invoice.dropped",
    "refund.planned",
    "refund.stored",
    "refund.sent",
    "watch.saved",
    "finish.saved",
    "bump.stored",
    "bump.sent",
    "own_tx.resent",
)
BUMP_BLOCKS = int(LAB_SETTINGS["bump_after_blocks"])


async def crash_at(daemon: SellerDaemon, point: str, say: Say) -> None:
    """Killed at this point of a refund, the daemon completes it after the next start, once."""
    before = await available(daemon)
    swap = await HandBuyer(daemon).order()
    await _lead_to(daemon, swap, point)
    await daemon.wait_dead()
    say(f"dead at {point}")
    await daemon.start()
    await until_final(daemon, swap.swap_id, REFUNDED)
    await require_spends(daemon, swap, "refund", "refund")
    await until_available(daemon, before)
    say("started again: refunded, once")
    daemon.check_log()


async def _lead_to(daemon: SellerDaemon, swap: pb.Swap, point: str) -> None:
    """Make it refund the swap, and die at this point of that."""
    if point.startswith("bump."):
        await mine_to(daemon, swap.refund_lock_height)
        refund = (await until_state(daemon, swap.swap_id, REFUNDED)).spend_txid
        await daemon.restart({CRASH_VARIABLE: point})
        await daemon.lab.mine(BUMP_BLOCKS, without=[refund])
    elif point == "own_tx.resent":
        await _lead_to(daemon, swap, "refund.stored")
        await daemon.wait_dead()
        await daemon.launch({CRASH_VARIABLE: point})
    else:
        await daemon.restart({CRASH_VARIABLE: point})
        await mine_to(daemon, swap.refund_lock_height)
        if point == "finish.saved":
            # The refund must be in a block before it can be buried.
            await _mine_until_dead(daemon)


async def _mine_until_dead(daemon: SellerDaemon) -> None:
    async def dead() -> bool:
        await daemon.lab.mine()
        return not daemon.is_running()

    await daemon.lab.wait_for(dead, timeout_secs=40, message="the daemon dies when it is final")


async def crash(daemon: SellerDaemon, say: Say) -> None:
    """The daemon is killed at every point of a refund; each time it ends in one refund."""
    for point in REFUND_POINTS:
        await crash_at(daemon, point, say)
