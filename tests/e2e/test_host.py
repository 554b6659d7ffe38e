"""Trouble of the host: what hangs or is full stops nothing else, and health tells the truth."""

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.scenarios import host, host_disk

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def test_a_log_that_nobody_reads_holds_up_nothing(daemon: SellerDaemon) -> None:
    """Orders, a refund, health and the end at SIGTERM."""
    await host.stalled_stderr(daemon, print)


async def test_a_replica_that_hangs_stops_sales_only(daemon: SellerDaemon) -> None:
    """Held by another program, or a pipe in its place, also at a start."""
    await host.hung_replica(daemon, print)


@pytest.mark.skipif(host.no_mounts() is not None, reason=str(host.no_mounts()))
async def test_a_full_temporary_directory_stops_nothing(daemon: SellerDaemon) -> None:
    """A burst is funded and refunded as ever."""
    await host.full_temp(daemon, print)


@pytest.mark.skipif(host_disk.no_compiler() is not None, reason=str(host_disk.no_compiler()))
async def test_a_disk_that_hangs_is_told_and_waited_for_by_nothing_else(
    daemon: SellerDaemon,
) -> None:
    """That of the replica, and that of the database."""
    await host_disk.hung_disk(daemon, print)
