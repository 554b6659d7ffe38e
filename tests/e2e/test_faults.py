"""Core Lightning killed, the disk full, a watcher that stops reading: swaps come through unharmed.

What proxies do is in `test_outage.py`; here the daemon speaks to its nodes directly.
"""

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.scenarios import disk_full
from lnlab.scenarios.lightning_restart import lightning_restart
from lnlab.scenarios.watchers import watchers

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_lightning_is_killed_and_started_again(daemon: SellerDaemon) -> None:
    """No new swaps meanwhile; payments from before and after the kill count."""
    await lightning_restart(daemon, print)


async def test_the_disk_is_full(daemon: SellerDaemon) -> None:
    """It lives, refuses new swaps, sends nothing unstored, and goes on when there is room."""
    await disk_full.disk_full(daemon, print)


async def test_the_replica_cannot_be_written(daemon: SellerDaemon) -> None:
    """New swaps are refused, refunds go on; what waited is funded by itself afterwards."""
    await disk_full.replica_fails(daemon, print)


async def test_a_watcher_that_stops_reading_is_cut_off(daemon: SellerDaemon) -> None:
    """It is told RESOURCE_EXHAUSTED, while 200 others follow the same swap to its end."""
    await watchers(daemon, print)
