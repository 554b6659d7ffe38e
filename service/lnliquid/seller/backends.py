"""The two nodes as their calls go: each call is timed and its failure kept, then passed on.

`ObservedChain` and `ObservedLightning` stand before the adapters and change nothing of what they
answer or raise.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from lnliquid.errors import BackendError, BackendRejected, BackendTimeout
from lnliquid.ports import Chain, Clock, HistoryItem, Invoice, InvoiceStatus, NodeInfo
from lnliquid.ports import SellerLightning as Lightning
from lnliquid.seller.meters import Meters
from lnliquid.swap import Tip

T = TypeVar("T")

RECENT_CALLS = 100


class Backend:
    """The record of one node since the daemon was started. Lags are of a monotonic clock."""

    def __init__(
        self,
        name: str,
        meters: Meters,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.is_up = False
        self.height = 0
        self.calls = 0
        self.errors = 0
        self.last_error = ""
        self.last_error_at = 0
        self._meters = meters
        self._clock = clock
        self._monotonic = monotonic
        self._fresh_at = monotonic()
        self._recent: deque[float] = deque(maxlen=RECENT_CALLS)
        for kind in ("unavailable", "timeout", "rejected"):
            meters.backend_errors.labels(name, kind)  # shown as 0 from the start

    @property
    def lag_secs(self) -> float:
        """Seconds since the node showed something new."""
        return self._monotonic() - self._fresh_at

    @property
    def mean_call_ms(self) -> float:
        """Mean time of the last calls, 0 before the first."""
        return 1000 * sum(self._recent) / len(self._recent) if self._recent else 0.0

    def fresh(self) -> None:
        """It showed something new."""
        self._fresh_at = self._monotonic()

    def failed(self, error: BackendError) -> None:
        """Keep what went wrong. A node that answers with an error is up."""
        self.is_up = isinstance(error, BackendRejected)
        if not self.is_up:
            self.last_error, self.last_error_at = error.message, self._clock.now()

    async def call(self, work: Awaitable[T], *, is_timed: bool = True) -> T:
        """Await one call and keep how it went. Raises what the call raises."""
        began = self._monotonic()
        self.calls += 1
        try:
            result = await work
        except BackendError as error:
            self.failed(error)
            self.errors += not self.is_up
            self._meters.backend_errors.labels(self.name, _kind(error)).inc()
            raise
        if is_timed:
            secs = self._monotonic() - began
            self._recent.append(secs)
            self._meters.call_secs.labels(self.name).observe(secs)
        self.is_up = True
        return result


def _kind(error: BackendError) -> str:
    if isinstance(error, BackendRejected):
        return "rejected"
    return "timeout" if isinstance(error, BackendTimeout) else "unavailable"


class ObservedChain:
    """`ports.Chain` with its record. It is fresh when it shows a higher block than ever before."""

    def __init__(self, chain: Chain, record: Backend) -> None:
        self._chain = chain
        self.record = record
        self._best = -1

    async def tip(self) -> Tip:
        """See `ports.Chain`. No call goes out for this, so none is counted."""
        try:
            tip = await self._chain.tip()
        except BackendError as error:
            self.record.failed(error)
            raise
        self.record.is_up, self.record.height = True, tip.height
        if tip.height > self._best:
            self._best = tip.height
            self.record.fresh()
        return tip

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        await self.record.call(self._chain.watch(scripts))

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        self._chain.unwatch(scripts)

    def take_changed(self) -> set[bytes]:
        """See `ports.Chain`."""
        return self._chain.take_changed()

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        self._chain.mark_changed(scripts)

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """See `ports.Chain`."""
        return await self.record.call(self._chain.histories(scripts))

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """See `ports.Chain`."""
        return await self.record.call(self._chain.transactions(txids, strict=strict))

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """See `ports.Chain`."""
        return await self.record.call(self._chain.block_ids(heights))

    async def broadcast(self, raw: bytes) -> None:
        """See `ports.Chain`."""
        await self.record.call(self._chain.broadcast(raw))

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """See `ports.Chain`."""
        return await self.record.call(self._chain.fee_rate_sats_per_kvb(target_blocks))


class ObservedLightning:
    """`ports.SellerLightning` with its record. It is fresh whenever it answers."""

    def __init__(self, lightning: Lightning, record: Backend) -> None:
        self._lightning = lightning
        self.record = record

    async def _call(self, work: Awaitable[T], *, is_timed: bool = True) -> T:
        try:
            result = await self.record.call(work, is_timed=is_timed)
        except BackendRejected:
            self.record.fresh()
            raise
        self.record.fresh()
        return result

    async def info(self) -> NodeInfo:
        """See `ports.SellerLightning`."""
        info = await self._call(self._lightning.info())
        self.record.height = info.block_height
        return info

    async def receivable_msat(self) -> int:
        """See `ports.SellerLightning`."""
        return await self._call(self._lightning.receivable_msat())

    async def options(self) -> dict[str, bool | int | str]:
        """See `ports.SellerLightning`."""
        return await self._call(self._lightning.options())

    async def create_invoice(
        self,
        *,
        label: str,
        amount_msat: int,
        preimage: bytes,
        description: str,
        expiry_secs: int,
        cltv_blocks: int,
    ) -> Invoice:
        """See `ports.SellerLightning`."""
        return await self._call(
            self._lightning.create_invoice(
                label=label,
                amount_msat=amount_msat,
                preimage=preimage,
                description=description,
                expiry_secs=expiry_secs,
                cltv_blocks=cltv_blocks,
            )
        )

    async def invoice(self, label: str) -> Invoice:
        """See `ports.SellerLightning`."""
        return await self._call(self._lightning.invoice(label))

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """See `ports.SellerLightning`."""
        return await self._call(self._lightning.delete_invoice(label, status))

    async def wait_paid(self, after_pay_index: int, wait_secs: int) -> Invoice | None:
        """See `ports.SellerLightning`. Long by its nature, so its time is not counted."""
        return await self._call(
            self._lightning.wait_paid(after_pay_index, wait_secs), is_timed=False
        )
