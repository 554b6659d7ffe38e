"""Store against Lightning: what does not fit between swaps and their invoices. Pure."""

from collections.abc import Iterable, Iterator

from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.swap import InvoiceMark, State, Swap


def invoice_problems(swap: Swap, invoice: Invoice) -> Iterator[str]:
    """What does not fit between a swap's record and its invoice, one sentence each."""
    if invoice.status is InvoiceStatus.ABSENT:
        yield from _absent(swap)
        return
    name = f"the invoice of swap {swap.swap_id}"
    if invoice.payment_hash != swap.payment_hash:
        yield f"{name} has another payment hash than its HTLC"
    if invoice.amount_msat != swap.total_price_msat:
        yield (
            f"{name} asks for {invoice.amount_msat} msat, the price is {swap.total_price_msat} msat"
        )
    if swap.bolt11 is not None and swap.bolt11 != invoice.bolt11:
        yield f"{name} that was shown to the buyer is not the one that Lightning has"
    elif swap.bolt11 is not None and swap.invoice_expires_at != invoice.expires_at:
        yield (
            f"{name} expires at {invoice.expires_at}, stored is {swap.invoice_expires_at} "
            "(unix seconds)"
        )
    if invoice.status is InvoiceStatus.PAID:
        yield from _paid(swap, name)
    else:
        yield from _not_paid(swap, invoice, name)


def _absent(swap: Swap) -> Iterator[str]:
    if swap.finished or swap.state is not State.FUNDED:
        return
    if swap.invoice_mark is InvoiceMark.PAID:
        yield f"the invoice of swap {swap.swap_id} was paid, and Lightning has it no more"
    elif swap.invoice_mark is InvoiceMark.ASKED and swap.bolt11 is not None:
        yield (
            f"the invoice of swap {swap.swap_id} was shown, and is deleted in Lightning by another "
            "process"
        )


def _paid(swap: Swap, name: str) -> Iterator[str]:
    if swap.state is State.REFUNDED and swap.forced_refund_reason is None:
        yield f"{name} is paid, and the swap was refunded"
    elif swap.state in (State.CREATED, State.FAILED):
        yield f"{name} is paid, and the swap is {swap.state.name}: nothing is locked for the buyer"
    elif swap.invoice_mark is not InvoiceMark.PAID:
        yield f"{name} is paid; the store has it as {swap.invoice_mark.name}"


def _not_paid(swap: Swap, invoice: Invoice, name: str) -> Iterator[str]:
    status = invoice.status.value
    if swap.state is State.CLAIMED:
        yield f"{name} is {status}, and the swap was claimed: its secret got out without a payment"
    elif swap.invoice_mark is InvoiceMark.PAID:
        yield f"{name} is {status}; the store has it as paid"
    if invoice.status is not InvoiceStatus.UNPAID:
        return
    if swap.state in (State.CREATED, State.REFUNDED, State.FAILED):
        yield f"{name} can be paid, and the swap is {swap.state.name}: nothing is locked"
    elif swap.invoice_mark is InvoiceMark.NONE:
        yield f"{name} can be paid, and the store never asked for it"
    elif swap.invoice_mark in (InvoiceMark.CLOSED, InvoiceMark.REFUNDING):
        yield f"{name} can be paid, and the store has it as {swap.invoice_mark.name}"


def lost_invoices(swaps: Iterable[Swap]) -> Iterator[str]:
    """Notes of swaps that wait for the operator because their invoice is gone."""
    for swap in swaps:
        if swap.invoice_mark is InvoiceMark.LOST and swap.state is State.FUNDED:
            yield (
                f"the invoice of swap {swap.swap_id} is gone, it may have been paid; it is not "
                "refunded without your word (lnliquid refund)"
            )
