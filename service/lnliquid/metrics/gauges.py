"""The gauges, and the HTTP port that Prometheus reads; off unless `metrics_listen` is set.

Gauges are read from the store and the backends every few seconds and not counted on the way, so
that a restart changes none of them.
"""

import asyncio
from collections.abc import Sequence
from math import nan
from threading import Thread
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import Gauge

from lnliquid.domain.errors import StoreFailure
from lnliquid.domain.swap import State
from lnliquid.metrics.http import serve_http
from lnliquid.metrics.instruments import Instruments
from lnliquid.seller.overview import Overview
from lnliquid.store import queries
from lnliquid.store.database import Database, Transaction

log = structlog.get_logger()

EVERY_SECS = 5.0


class Gauges:
    """The gauges and the task that sets them."""

    def __init__(self, database: Database, overview: Overview, instruments: Instruments) -> None:
        self._database = database
        self._overview = overview
        self._instruments = instruments
        self._last_event: int | None = None

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"lnliquid_{name}", text, labels, registry=instruments.registry)

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
        self._paused = gauge("paused", "1 while the operator has paused new swaps, else 0")
        self._held = gauge("inventory", "Amount in the smallest unit", "asset", "part")
        self._lanes = gauge("lanes", "Coins that can fund a burst by themselves", "asset")
        self._price = gauge("price_msat_per_asset_unit", "Price of one asset unit", "asset")
        self._price_until = gauge(
            "price_valid_until_seconds",
            "Unix time until which the price stands, 0: no end",
            "asset",
        )
        self._lanes_wanted = gauge("lanes_wanted", "How many lanes there should be", "asset")
        self._up = gauge("backend_up", "1 when the node answered its last call, else 0", "backend")
        self._lag = gauge(
            "backend_lag_seconds",
            "Seconds since electrum showed a higher block, or lightning answered",
            "backend",
        )

    def serve(self, address: str) -> tuple[WSGIServer, Thread]:
        """Answer HTTP on host:port from a thread of its own. Raises `OSError` if it cannot.

        Server and thread are returned for a caller that ends them before the process does.
        """
        return serve_http(address, self._instruments.registry)

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
        status = await self._overview.status(after_event=0, limit=1)
        counts = status.counts
        for state in State:
            self._swaps.labels(state.name).set(counts.by_state.get(state, 0))
        self._unfinished.set(counts.unfinished)
        self._paid_unclaimed.set(counts.paid_unclaimed)
        self._ready.set(status.problem is None)
        self._paused.set(status.paused)
        if status.tip_height is None:
            self._tip.set(-1)
        else:
            self._tip.set(status.tip_height)
            lock_height = counts.next_lock_height
            self._deadline.set(nan if lock_height is None else lock_height - status.tip_height)
        for held in status.holdings:
            for part in ("available", "reserved", "locked"):
                self._held.labels(held.asset_id, part).set(getattr(held, part))
            if held.price is not None:
                self._price.labels(held.asset_id).set(held.price.msat_per_unit)
                self._price_until.labels(held.asset_id).set(held.price.valid_until or 0)
            self._lanes.labels(held.asset_id).set(held.lanes)
            self._lanes_wanted.labels(held.asset_id).set(held.lanes_wanted)
        for backend in status.backends:
            self._up.labels(backend.name).set(backend.is_up)
            self._lag.labels(backend.name).set(backend.lag_secs)
        for secs in await self._fundings():
            self._instruments.funding_secs.observe(secs)

    async def _fundings(self) -> Sequence[int]:
        """How long the fundings took that came since the last look, none at the first.

        Those from before a restart are left out: a histogram that begins anew must begin at 0, or a
        rate over it would show them as a burst.
        """

        def look(tx: Transaction) -> tuple[int, list[int]]:
            last = queries.last_event(tx)
            since = last if self._last_event is None else self._last_event
            return last, queries.funding_secs(tx, since, last)

        self._last_event, secs = await self._database.read(look)
        return secs
