"""The invoices of swaps: reading, making and deleting them in Core Lightning.

What is held here is a cache of what Lightning said last; what cannot be asked is unknown, and
unknown is never taken for unpaid (money rule 4).
"""

import asyncio
import hashlib
import itertools
from collections.abc import Iterable

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain.errors import BackendError, BackendRejected, StoreFailure
from lnliquid.domain.ports import Clock, Invoice, InvoiceStatus, SellerLightning
from lnliquid.domain.reconcile import DropInvoice, MakeInvoice, is_foreign
from lnliquid.domain.swap import InvoiceMark, State, Swap, Tip
from lnliquid.domain.timelock import Timelocks
from lnliquid.liquid.keys import Keychain
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.watchers.invoice_reading import read_invoices

log = structlog.get_logger()

LAST_PAY_INDEX = "last_pay_index"
PAID_WAIT_SECS = 60
RETRY_SECS = 2.0
TAKEN_AT_ONCE = 100
READ_SECS = 10.0
"""For how long one reading goes on asking. What it did not get to is asked first by the next."""

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
        """To be asked in any case: reported paid, or asked and not answered."""
        self._turns = itertools.count(1)
        self._asked: dict[str, tuple[int, Tip | None]] = {}
        """When each was asked last, in turns, and under which tip."""
        self._pay_index: int | None = None
        """The last paid invoice that was seen; None until the node's count was looked at."""
        self._untaken: dict[str, int] = {}
        """Pay indexes of swaps' invoices whose payment is not in the store yet."""
        self._foreign: set[str] = set()

    def view(self, swap: Swap) -> Invoice | None:
        """The invoice as last read; None when that is not known."""
        known = as_known(swap, self._known.get(swap.swap_id))
        if known is not None and is_foreign(swap, known) and swap.swap_id not in self._foreign:
            self._foreign.add(swap.swap_id)
            log.error("invoice is not the swap's", **swap.ids, status=known.status.value)
        return known

    def forget(self, swap_id: str) -> None:
        """This swap is not watched any more."""
        self._known.pop(swap_id, None)
        self._stale.discard(swap_id)
        self._asked.pop(swap_id, None)
        self._foreign.discard(swap_id)

    async def refresh(self, swaps: Iterable[Swap], tip: Tip) -> bool:
        """Read those that something may hang on now, for `READ_SECS` at most.

        While an invoice is shown, its swap is FUNDED, it may still be paid and is not due to be
        deleted, nothing hangs on it, so that a start with thousands of open swaps need not ask for
        each. True when some were answered and others not reached: there is more to read at once.
        """
        now, timelocks = self._clock.now(), self._settings.timelocks
        wanted = [s.swap_id for s in swaps if self._is_due(s, tip, now, timelocks)]
        unanswered = await self.read(wanted, tip)
        return 0 < len(unanswered) < len(wanted)

    def _is_due(self, swap: Swap, tip: Tip, now: int, timelocks: Timelocks) -> bool:
        if swap.swap_id in self._stale:
            return True
        if swap.state is State.REFUNDED:
            # A call that hung may have made it anew: looked at until the swap is final.
            return self._asked.get(swap.swap_id, (0, None))[1] != tip
        known = self._known.get(swap.swap_id)
        ran_out = (swap.invoice_expires_at or 0) <= now
        if known is not None:
            return known.status is InvoiceStatus.UNPAID and ran_out
        if swap.invoice_mark in _NEEDS_NO_READING:
            return False
        is_shown = swap.invoice_mark is InvoiceMark.ASKED and swap.bolt11 is not None
        is_short = tip.height > timelocks.last_height_to_pay(swap.refund_lock_height or 0)
        return ran_out or is_short or not is_shown or swap.state is not State.FUNDED

    async def read(self, swap_ids: Iterable[str], tip: Tip | None = None) -> set[str]:
        """Ask Lightning now, those asked longest ago first, for `READ_SECS` at most.

        Returns those that were not answered: they are unknown, and the next `refresh` asks again.
        """
        wanted = sorted(dict.fromkeys(swap_ids), key=lambda i: self._asked.get(i, (0, None))[0])
        if not wanted:
            return set()
        self._stale.difference_update(wanted)  # before asking: news that come meanwhile count again
        for swap_id in wanted:
            self._known.pop(swap_id, None)
        answers = await read_invoices(self._lightning, wanted, READ_SECS)
        unanswered = set(wanted)
        for swap_id, answer in answers.items():
            self._asked[swap_id] = (next(self._turns), tip)
            if isinstance(answer, Invoice):
                self._known[swap_id] = answer
                unanswered.remove(swap_id)
        self._stale |= unanswered
        if unanswered:
            reasons = {a.message for a in answers.values() if isinstance(a, BackendError)}
            log.warning(
                "invoices cannot be read",
                invoices=len(unanswered),
                reason=min(reasons, default=f"{len(answers)} took {READ_SECS:g} s"),
            )
        return unanswered

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

    async def run_paid(self, wake: "asyncio.Event") -> None:
        """Wake the watcher at each paid invoice, from the stored index on, until cancelled."""
        while True:
            try:
                await self._next_paid(wake)
            except (BackendError, StoreFailure) as error:
                log.warning("waiting for payments is delayed", reason=str(error))
            except Exception:  # only a wake-up is lost; the watcher reads invoices by itself too
                log.exception("waiting for payments failed")
            else:
                continue
            self._pay_index = None  # it may be another node, or an older copy, that comes back
            await asyncio.sleep(RETRY_SECS)

    async def _next_paid(self, wake: "asyncio.Event") -> None:
        if self._pay_index is None:
            self._pay_index = await self._first_index()
        invoice = await self._lightning.wait_paid(self._pay_index, PAID_WAIT_SECS)
        if invoice is not None and invoice.pay_index is not None:
            label = invoice.label
            swap = await self._database.read(lambda session: swap_store.get(session, label))
            self._pay_index = invoice.pay_index
            if swap is not None and _is_news(swap):
                log.info("invoice paid", **swap.ids, amount_msat=invoice.amount_msat)
                self._untaken[label] = invoice.pay_index
                # Also when the watcher has not loaded that swap yet: it finds it here then.
                self._stale.add(label)
                wake.set()
            elif swap is not None and swap.invoice_mark is not InvoiceMark.PAID:
                log.error("paid after its end: this needs the operator", **swap.ids)
        await self._keep_place()

    async def _first_index(self) -> int:
        """The stored index, or 0 when the node does not have that payment: count from the start.

        So it is with a node that was restored from an older copy, and when that invoice was
        deleted; what was taken over before is passed over again.
        """
        stored = await self._database.read(lambda s: coin_store.cursor(s, LAST_PAY_INDEX))
        if stored == 0 or await self._lightning.wait_paid(stored - 1, 0) is not None:
            return stored
        log.warning("payments are read from the start", stored_pay_index=stored)
        return 0

    async def _keep_place(self) -> None:
        """Store the index up to which every payment is in the store, so that none is passed over.

        What comes after it is read again by the next start.
        """

        oldest = list(self._untaken)[:TAKEN_AT_ONCE]

        def look(session: Transaction) -> tuple[int, dict[str, Swap]]:
            return coin_store.cursor(session, LAST_PAY_INDEX), swap_store.get_all(session, oldest)

        stored, swaps = await self._database.read(look)
        for label in oldest:
            if not _is_news(swaps[label]):
                del self._untaken[label]
        assert self._pay_index is not None, "set before"
        index = min([n - 1 for n in self._untaken.values()], default=self._pay_index)
        if index != stored:
            await self._database.write(lambda s: coin_store.set_cursor(s, LAST_PAY_INDEX, index))


def as_known(swap: Swap, read: Invoice | None) -> Invoice | None:
    """One that was never asked for needs no call to be known absent."""
    if read is None and swap.invoice_mark is InvoiceMark.NONE:
        return Invoice(swap.swap_id, InvoiceStatus.ABSENT)
    return read


def _is_news(swap: Swap) -> bool:
    """True while a payment of this swap's invoice is to be taken over by the watcher."""
    return not swap.finished and swap.invoice_mark is not InvoiceMark.PAID
