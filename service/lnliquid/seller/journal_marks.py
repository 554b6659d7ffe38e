"""Marks of invoices in the rescue journal: what is about to be done, and what came of it."""

import asyncio
from collections.abc import Sequence

import structlog

from lnliquid.seller.journal import JournalFailure, RescueJournal
from lnliquid.seller.put_aside import PutAside
from lnliquid.seller.reconcile import Decision, MakeInvoice
from lnliquid.swap import InvoiceMark, Swap

log = structlog.get_logger()


class JournalMarks:
    """Writes them before the watcher acts, and corrects them when it turned out otherwise."""

    def __init__(self, rescue: RescueJournal, put_aside: PutAside) -> None:
        self._rescue = rescue
        self._put_aside = put_aside
        self._corrections: dict[str, InvoiceMark] = {}
        """What became of invoices and the rescue journal still tells otherwise."""

    async def journaled(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Write the marks of what is about to be done into the rescue journal.

        No invoice is asked for without its line: should the store be lost, its absence would pass
        for never asked for. Deletions and refunds go on without theirs, because they must not be
        late; all that is lost with those lines is that the operator has to decide.
        """
        marks = {d.swap.swap_id: d.swap.invoice_mark for d in decisions}
        try:
            await asyncio.to_thread(self._rescue.note_marks, marks)
        except JournalFailure as error:
            log.warning("invoices are delayed", reason=str(error))
            kept = [d for d in decisions if not isinstance(d.action, MakeInvoice)]
            for decision in decisions:
                if isinstance(decision.action, MakeInvoice):
                    self._put_aside.add(decision.swap, str(error))
            return kept
        return list(decisions)

    def note_outcome(self, swap: Swap) -> None:
        """Take in a stored swap whose invoice may be other than the journal says."""
        if self._rescue.needs_correction(swap.swap_id, swap.invoice_mark):
            self._corrections[swap.swap_id] = swap.invoice_mark

    async def correct(self) -> None:
        """Tell the rescue journal of invoices that were not closed after all.

        Without that line a paid swap would pass for one that may be refunded, were the store lost.
        """
        if not self._corrections:
            return
        corrections, self._corrections = self._corrections, {}
        try:
            await asyncio.to_thread(self._rescue.note_marks, corrections)
        except JournalFailure as error:
            self._corrections = {**corrections, **self._corrections}
            log.warning("the rescue journal is not up to date", reason=str(error))
