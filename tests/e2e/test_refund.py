"""From funding to the end when nobody pays, or pays late, or never claims."""

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.scenarios import attacks, crash, late_payment, paid
from lnlab.scenarios.refund import refund
from lnlab.scenarios.retries import retries

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_points_are_registered() -> None:
    """The points at which a refund is interrupted here are points that the daemon has."""
    from lnliquid.crashpoints import POINTS

    assert set(crash.REFUND_POINTS) <= set(POINTS)
    assert {p for p in POINTS if p.startswith("refund.")} <= set(crash.REFUND_POINTS)


async def test_refund(daemon: SellerDaemon) -> None:
    """Never paid: refunded from the lock height on, not before; all is in the inventory again."""
    await refund(daemon, print)


async def test_retries(daemon: SellerDaemon) -> None:
    """One request id is one swap, raced, repeated, hung up on, and across a restart."""
    await retries(daemon, print)


async def test_late_payment(daemon: SellerDaemon) -> None:
    """Paid in the last block that allows it: claimed. A block later: no payment, a refund."""
    await late_payment.late_payment(daemon, print)


async def test_held_payment(daemon: SellerDaemon) -> None:
    """A payment under way when the invoice is deleted comes back to the payer; then the refund."""
    await late_payment.held_payment(daemon, print)


async def test_holding_seller(daemon: SellerDaemon) -> None:
    """A payment held for as long as Lightning allows: claimed in time; too late: not paid."""
    if daemon.lab.nodes.kind != "embedded":
        pytest.skip("real nodes go on chain at the end of the hold, and close the channel")
    await attacks.holding_seller(daemon, print)


async def test_paid_unclaimed(daemon: SellerDaemon) -> None:
    """Paid and not claimed: no refund however many blocks pass, and the claim still works."""
    await paid.paid_unclaimed(daemon, print)


async def test_payment_while_the_daemon_is_down(daemon: SellerDaemon) -> None:
    """A daemon that starts past the lock height finds the payment that it missed."""
    await paid.daemon_down_payment(daemon, print)


async def test_partial_claim(daemon: SellerDaemon) -> None:
    """A claim of the asset alone: the seller sweeps the subsidy, and only then it is final."""
    await paid.partial_claim(daemon, print)


async def test_claim_race(daemon: SellerDaemon) -> None:
    """Claims and the lock height at once: what was paid is claimed, what was not is refunded."""
    await paid.claim_race(daemon, print)


@pytest.mark.parametrize("point", crash.REFUND_POINTS)
async def test_killed_during_a_refund(daemon: SellerDaemon, point: str) -> None:
    """Killed dead at this point of a refund and started again, there is exactly one refund."""
    await crash.crash_at(daemon, point, print)
