"""Backends that are dead, hang, lag or say things twice: time is lost, never money."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.programs import run_program
from lnlab.faults.orders import Fault
from lnlab.lab import Lab
from lnlab.scenarios import lag, outage
from lnlab.scenarios.catalogue import FAST_BACKENDS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(lab: Lab) -> AsyncIterator[SellerDaemon]:
    """A seller daemon that reaches its backends through the proxies."""
    async with await SellerDaemon.create(
        lab, coins=4, settings=FAST_BACKENDS, through_proxies=True
    ) as daemon:
        yield daemon
        daemon.check_log()
        report = await run_program("lnliquid", "audit", "--config", str(daemon.config), "--json")
        assert json.loads(report)["exact"], report


@pytest.mark.parametrize("fault", outage.DEAD)
async def test_electrum_dead(daemon: SellerDaemon, fault: Fault) -> None:
    """No new swaps, and a hint when to retry; afterwards everything missed is made good."""
    await outage.electrum_dead(daemon, fault, print)


@pytest.mark.parametrize("fault", outage.DEAD)
async def test_lightning_dead(daemon: SellerDaemon, fault: Fault) -> None:
    """No new swaps and no refunds, as nobody knows who paid; claims are followed all the same."""
    await outage.lightning_dead(daemon, fault, print)


@pytest.mark.parametrize("fault", outage.ODD)
async def test_electrum_odd(daemon: SellerDaemon, fault: Fault) -> None:
    """A sale and a refund complete although notifications double or answers are slow."""
    await outage.electrum_odd(daemon, fault, print)


async def test_electrum_drop(daemon: SellerDaemon) -> None:
    """Lost notifications are made good after a reconnect."""
    await outage.electrum_drop(daemon, print)


async def test_electrum_lag(daemon: SellerDaemon) -> None:
    """An old tip delays swaps and misleads nobody."""
    await outage.electrum_lag(daemon, print)


async def test_tip_goes_back(daemon: SellerDaemon) -> None:
    """A server that fell behind trips the breaker for new swaps; open ones come to no harm."""
    await lag.tip_back(daemon, print)


async def test_funding_notice_lost(daemon: SellerDaemon) -> None:
    """The invoice is made soon after the funding's block, also when no notification tells of it."""
    await outage.funding_notice_lost(daemon, print)


async def test_no_blocks_come(daemon: SellerDaemon) -> None:
    """A tip that stands still trips the breaker for new swaps; an open one is paid and claimed."""
    await lag.stall(daemon, print)
