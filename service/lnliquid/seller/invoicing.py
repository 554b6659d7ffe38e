"""The invoices of swaps: reading, making and deleting them in Core Lightning.

What is held here is a cache of what Lightning said last; what cannot be asked is unknown, and
unknown is never taken for unpaid (money rule 4).
"""

import asyncio
import hashlib
from collections.abc import Iterable

import structlog

from lnliquid.crashpoints import reach
from lnliquid.errors import BackendError, BackendRejected, StoreFailure
from lnliquid.liquid.keys import Keychain
from lnliquid.ports import Clock, Invoice, InvoiceStatus, SellerLightning
from lnliquid.seller.reconcile import DropInvoice, MakeInvoice, is_foreign
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store.sqlite import Database
from lnliquid.swap import InvoiceMark, State, Swap, Tip
from lnliquid.terms import blocks_to_pay_and_claim

log = structlog.get_logger()

LAST_PAY_INDEX = "last_pay_index"
PAID_WAIT_SECS = 60
RETRY_SECS = 2.0


_NEEDS_NO_READING = (InvoiceMark.NONE, InvoiceMark.PAID, InvoiceMark.LOST)


class Invoices:
    """Invoices by swap id, which is their label."""

    def __init__(
        self,
        database: Database,
        lightning: SellerLightning,
        keys: Keychain,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._lightning = lightning
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._known: dict[str, Invoice] = {}
        self._stale: set[str] = set()
        self._foreign: set[str] = set()

    def view(self, swap: Swap) -> Invoice | None:
        """The invoice as last read; None when that is not known.

        One that was never asked for needs no call to be known absent.
        """
        known = self._known.get(swap.swap_id)
        if known is None and swap.invoice_mark is InvoiceMark.NONE:
            return Invoice(swap.swap_id, InvoiceStatus.ABSENT)
        if known is not None and is_foreign(swap, known) and swap.swap_id not in self._foreign:
            self._foreign.add(swap.swap_id)
            log.error("invoice is not the swap's", **swap.ids, status=known.status.value)
        return known

    def forget(self, swap_id: str) -> None:
        """This swap is not watched any more."""
        self._known.pop(swap_id, None)
        self._stale.discard(swap_id)
        self._foreign.discard(swap_id)

    async def refresh(self, swaps: Iterable[Swap], tip: Tip) -> None:
        """Read those that something may hang on now: paid, run out, or never read and needed.

        While an invoice was shown, may still be paid and is not due to be deleted, nothing hangs on
        it, so that a start with thousands of open swaps need not ask for each.
        """
        now = self._clock.now()
        last_blocks = blocks_to_pay_and_claim(self._settings.timelocks)
        wanted: set[str] = set()
        for swap in swaps:
            known = self._known.get(swap.swap_id)
            ran_out = (swap.invoice_expires_at or 0) <= now
            if known is None and swap.invoice_mark not in _NEEDS_NO_READING:
                short = (swap.refund_lock_height or 0) - tip.height < last_blocks
                stale = ran_out or short or swap.state is State.CREATED
            else:
                stale = known is not None and known.status is InvoiceStatus.UNPAID and ran_out
            if stale or swap.swap_id in self._stale:
                wanted.add(swap.swap_id)
        await self.read(wanted)

    async def read(self, swap_ids: set[str]) -> None:
        """Ask Lightning now; what cannot be asked becomes unknown."""
        if not swap_ids:
            return
        self._stale -= swap_ids  # before asking: news that come meanwhile count again
        for swap_id in swap_ids:
            self._known.pop(swap_id, None)
        try:
            self._known.update(await self._lightning.invoices(sorted(swap_ids)))
        except BackendError as error:
            log.warning("invoices cannot be read", invoices=len(swap_ids), reason=error.message)

    async def make(self, swap: Swap, action: MakeInvoice) -> None:
        """Create it, or find the one that exists. Raises `BackendError`."""
        self._known.pop(swap.swap_id, None)
        preimage = self._keys.preimage(swap.key_index, swap.swap_id)
        if hashlib.sha256(preimage).digest() != swap.payment_hash:
            log.error("invoice refused: the swap is of another wallet", **swap.ids)
            raise BackendRejected("wallet", "the swap's payment hash does not follow from the keys")
        invoice = await self._lightning.create_invoice(
            label=swap.swap_id,
            amount_msat=swap.total_price_msat,
            preimage=preimage,
            description=f"{swap.asset_amount} of {swap.asset_id[:8]}…, swap {swap.swap_id}",
            expiry_secs=action.expiry_secs,
            cltv_blocks=self._settings.invoice_cltv_blocks,
        )
        reach("invoice.made")
        self._known[swap.swap_id] = invoice

    async def drop(self, swap: Swap, action: DropInvoice) -> bool:
        """Delete it if it is still as it was seen; read it again, whatever came of that.

        False when it is gone and it was not we who deleted it: it may have been paid first.
        """
        self._known.pop(swap.swap_id, None)
        deleted = await self._lightning.delete_invoice(swap.swap_id, action.status)
        reach("invoice.dropped")
        found = await self._lightning.invoice(swap.swap_id)
        if not deleted and found.status is InvoiceStatus.ABSENT:
            return False
        self._known[swap.swap_id] = found
        return True

    async def run_paid(self, watched: dict[str, Swap], wake: "asyncio.Event") -> None:
        """Wake the watcher at each paid invoice, from the stored index on, until cancelled."""
        while True:
            try:
                await self._next_paid(watched, wake)
            except (BackendError, StoreFailure) as error:
                log.warning("waiting for payments is delayed", reason=str(error))
                await asyncio.sleep(RETRY_SECS)
            except Exception:  # only a wake-up is lost; the watcher reads invoices by itself too
                log.exception("waiting for payments failed")
                await asyncio.sleep(RETRY_SECS)

    async def _next_paid(self, watched: dict[str, Swap], wake: "asyncio.Event") -> None:
        last = await self._database.read(lambda s: coin_store.cursor(s, LAST_PAY_INDEX))
        invoice = await self._lightning.wait_paid(last, PAID_WAIT_SECS)
        if invoice is None or invoice.pay_index is None:
            return
        index = invoice.pay_index
        if invoice.label in watched:
            log.info("invoice paid", **watched[invoice.label].ids, amount_msat=invoice.amount_msat)
            self._stale.add(invoice.label)
            wake.set()
        await self._database.write(lambda s: coin_store.set_cursor(s, LAST_PAY_INDEX, index))
