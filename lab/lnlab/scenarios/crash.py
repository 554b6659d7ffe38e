"""Crash: the daemon is killed at a point of a refund, started again, and refunds exactly once."""

from lnlab.daemon import SellerDaemon
from lnlab.hand_buyer import HandBuyer
from lnlab.scenarios.sale import Say
from lnlab.scenarios.steps import (
    REFUNDED,
    available,
    mine_to,
    require_spends,
    until_available,
    until_final,
)

CRASH_VARIABLE = "LNLIQUID_CRASH_AT"
REFUND_POINTS = (
    "invoice.dropped",
    "refund.planned",
    "refund.stored",
    "refund.sent",
    "watch.saved",
    "finish.saved",
)


async def crash_at(daemon: SellerDaemon, point: str, say: Say) -> None:
    """Killed at this point of a refund, the daemon completes it after the next start, once."""
    before = await available(daemon)
    swap = await HandBuyer(daemon).order()
    await daemon.restart({CRASH_VARIABLE: point})
    await mine_to(daemon, swap.refund_lock_height)
    if point == "finish.saved":
        # The refund must be in a block before it can be buried.
        await _mine_until_dead(daemon)
    await daemon.wait_dead()
    say(f"dead at {point}")
    await daemon.start()
    await until_final(daemon, swap.swap_id, REFUNDED)
    await require_spends(daemon, swap, "refund", "refund")
    await until_available(daemon, before)
    say("started again: refunded, once")
    daemon.check_log()


async def _mine_until_dead(daemon: SellerDaemon) -> None:
    async def dead() -> bool:
        await daemon.lab.mine()
        return not daemon.is_running()

    await daemon.lab.wait_for(dead, timeout_secs=40, message="the daemon dies when it is final")


async def crash(daemon: SellerDaemon, say: Say) -> None:
    """The daemon is killed at every point of a refund; each time it ends in one refund."""
    for point in REFUND_POINTS:
        await crash_at(daemon, point, say)
