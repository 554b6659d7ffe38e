"""Coins go out once, whatever becomes of the daemon on the way, and the audit is exact."""

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.nodes.record import POLICY_ASSET
from lnlab.scenarios.loss import require_exact
from lnlab.scenarios.withdraw import WITHDRAW_POINTS, withdraw_at
from lnliquid.crashpoints import POINTS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_point_is_tried() -> None:
    """A new one is entered in the scenario."""
    assert [p for p in POINTS if p.startswith("withdraw.")] == [*WITHDRAW_POINTS]


async def test_lbtc(daemon: SellerDaemon) -> None:
    """L-BTC is sent as the asset is."""
    await withdraw_at(daemon, None, POLICY_ASSET, print)
    await require_exact(daemon)


@pytest.mark.parametrize("point", [None, *WITHDRAW_POINTS])
async def test_killed_at(daemon: SellerDaemon, point: str | None) -> None:
    """The operator asks again with the same request id."""
    await withdraw_at(daemon, point, daemon.asset_id, print)
    await require_exact(daemon)
