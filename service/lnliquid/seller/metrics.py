"""Figures for Prometheus, on a loopback port, off unless `metrics_listen` is set.

They are read from the store and the backends every few seconds, never counted on the way, so that a
restart changes none of them.
"""

import asyncio
from math import nan

import structlog
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from lnliquid.errors import BackendError, StoreFailure
from lnliquid.ports import Chain
from lnliquid.seller.operator import Operator
from lnliquid.seller.readiness import Readiness
from lnliquid.store import figures
from lnliquid.store.sqlite import Database
from lnliquid.swap import State

log = structlog.get_logger()

EVERY_SECS = 5.0


class Metrics:
    """The gauges and the task that sets them."""

    def __init__(
        self, database: Database, chain: Chain, readiness: Readiness, operator: Operator
    ) -> None:
        self._database = database
        self._chain = chain
        self._readiness = readiness
        self._operator = operator
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"lnliquid_{name}", text, labels, registry=self.registry)

        self._swaps = gauge("swaps", "Swaps by state, all that ever were", "state")
        self._unfinished = gauge("swaps_unfinished", "Swaps that are not final")
        self._paid_unclaimed = gauge(
            "swaps_paid_unclaimed", "Swaps that were paid and not claimed by the lock height"
        )
        self._deadline = gauge(
            "next_refund_blocks",
            "Blocks until the next refund opens, negative when it is open",
        )
        self._tip = gauge("tip_height", "Height of the Liquid backend's tip, -1 when unreachable")
        self._ready = gauge("ready", "1 when new swaps are taken, else 0")
        self._held = gauge("inventory", "Amount in the smallest unit", "asset", "part")

    def serve(self, address: str) -> None:
        """Answer HTTP on host:port from a thread of its own. Raises `OSError` if it cannot."""
        host, _, port = address.rpartition(":")
        start_http_server(int(port), host.strip("[]"), registry=self.registry)

    async def run(self) -> None:
        """Set the gauges until cancelled."""
        while True:
            try:
                await self.update()
            except StoreFailure as error:
                log.warning("metrics are stale", reason=str(error))
            await asyncio.sleep(EVERY_SECS)

    async def update(self) -> None:
        """Read everything once. Raises `StoreFailure`."""
        counts = await self._database.read(figures.counts)
        for state in State:
            self._swaps.labels(state.name).set(counts.by_state.get(state, 0))
        self._unfinished.set(counts.unfinished)
        self._paid_unclaimed.set(counts.paid_unclaimed)
        self._ready.set(await self._readiness.problem() is None)
        try:
            height = (await self._chain.tip()).height
        except BackendError:
            self._tip.set(-1)
        else:
            self._tip.set(height)
            lock_height = counts.next_lock_height
            self._deadline.set(nan if lock_height is None else lock_height - height)
        for held in await self._operator.holdings():
            for part in ("available", "reserved", "locked"):
                self._held.labels(held.asset_id, part).set(getattr(held, part))
