"""What a daemon holds and asks for after long: no more than what is live needs."""

from pathlib import Path

from bench.sales import shop
from lnliquid.seller.requests import MAX_REMEMBERED
from lnliquid.watchers.wallet import GAP

BOUNDED = {"Requests._found": MAX_REMEMBERED}
"""Containers with a limit of their own."""


async def test_sales_that_are_over_leave_nothing_in_memory(tmp_path: Path) -> None:
    """No container of the daemon is larger after 90 sales than after 30, scripts included."""
    async with shop(tmp_path / "shop") as made:
        await made.sell(30)
        before = made.held()
        await made.sell(60)
        after = made.held()
    assert after["ChainClient._scripts"] >= 2 * GAP
    grown = {
        name: (before[name], size)
        for name, size in after.items()
        if size > max(before[name] + 2, BOUNDED.get(name, 0))
    }
    assert not grown
