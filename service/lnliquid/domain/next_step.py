"""The next step of a swap: what is awaited, by which block, and who acts. Pure.

It describes what `reconcile` will decide, from the record alone: no node is asked.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from lnliquid.domain.reconcile import Policy
from lnliquid.domain.swap import InvoiceMark, State, Swap
from lnliquid.domain.timelock import Timelocks


@dataclass(frozen=True, slots=True)
class PayWindow:
    """`last_height`: the highest tip at which a payment may start, 0 until the funding is signed.

    `is_over`: no payment may start any more, and none is known.
    """

    last_height: int
    is_over: bool


def pay_window(swap: Swap, tip_height: int | None, now: int, timelocks: Timelocks) -> PayWindow:
    """Until when a swap can be paid. `tip_height` None: not known at present."""
    if swap.refund_lock_height is None:
        return PayWindow(0, swap.state is State.FAILED)
    last_height = max(0, timelocks.last_height_to_pay(swap.refund_lock_height))
    if swap.state is State.CLAIMED or swap.invoice_mark is InvoiceMark.PAID:
        return PayWindow(last_height, is_over=False)
    has_invoice = swap.bolt11 is not None and swap.state is State.FUNDED
    # An invoice that is still to be made needs a block more: it has to live for some time.
    too_late = tip_height is not None and tip_height >= last_height + has_invoice
    return PayWindow(
        last_height,
        too_late
        or swap.state.is_settled
        or swap.invoice_mark in (InvoiceMark.REFUNDING, InvoiceMark.LOST)
        or (has_invoice and (swap.invoice_expires_at or 0) <= now),
    )


REOPENED = "REOPENED by a chain incident"


class Actor(IntEnum):
    """Whose turn it is; the numbers are those of the schema."""

    DAEMON = 1
    BUYER = 2
    CHAIN = 3
    OPERATOR = 4


@dataclass(frozen=True, slots=True)
class Outlook:
    """`by_height` is None where no block is decisive; `otherwise` is what follows at it."""

    awaited: str
    actor: Actor
    by_height: int | None = None
    otherwise: str = ""


def outlook(swap: Swap, tip_height: int | None, now: int, policy: Policy) -> Outlook | None:
    """What comes next, None for a swap that is final. `tip_height` None: not known at present."""
    if swap.finished:
        return None
    ahead = _outlook(swap, tip_height, now, policy)
    if swap.is_reopened:
        return replace(ahead, awaited=f"{REOPENED}: {ahead.awaited}")
    return ahead


def _outlook(swap: Swap, tip_height: int | None, now: int, policy: Policy) -> Outlook:
    lock_height = swap.refund_lock_height
    if swap.funding_txid is None or lock_height is None:
        return Outlook("the funding transaction is signed", Actor.DAEMON)
    if swap.state in (State.CREATED, State.FAILED):
        needed = max(swap.min_funding_confs, policy.funding_confs)
        return Outlook(
            f"the funding gets {needed} confirmation{'s' if needed > 1 else ''}",
            Actor.CHAIN,
            policy.timelocks.last_height_to_pay(lock_height) - 1,
            "later than that no invoice is made, and the funding is refunded",
        )
    if swap.state is not State.FUNDED:
        what = "claim" if swap.state is State.CLAIMED else "refund"
        return Outlook(
            f"the {what} gets {policy.final_confs} confirmations, and so does the spend of the "
            "subsidy",
            Actor.CHAIN,
        )
    return _while_funded(swap, lock_height, tip_height, now, policy)


def _while_funded(
    swap: Swap, lock_height: int, tip_height: int | None, now: int, policy: Policy
) -> Outlook:
    is_open = tip_height is not None and tip_height >= lock_height
    if swap.forced_refund_reason is not None:
        when = "" if is_open else " once the lock height is reached"
        return Outlook(
            f"the refund that the operator ordered is signed{when}", Actor.DAEMON, lock_height
        )
    if swap.invoice_mark is InvoiceMark.LOST:
        return Outlook(
            "a look at Lightning: another program deleted the invoice, which may have been paid",
            Actor.OPERATOR,
            lock_height,
            "the daemon does not refund it by itself",
        )
    if swap.invoice_mark is InvoiceMark.PAID:
        if swap.paid_unclaimed or is_open:
            return Outlook(
                "the buyer claims, or you order the refund that was agreed with the buyer",
                Actor.OPERATOR,
            )
        return Outlook(
            "the buyer, who has paid, claims",
            Actor.BUYER,
            lock_height,
            "the daemon never refunds what was paid: it is shown as paid and not claimed",
        )
    if is_open or swap.invoice_mark is InvoiceMark.REFUNDING:
        return Outlook("the refund is signed and seen on the chain", Actor.DAEMON)
    window = pay_window(swap, tip_height, now, policy.timelocks)
    if swap.invoice_mark is InvoiceMark.CLOSED or window.is_over:
        return Outlook(
            "the lock height: the invoice was not paid", Actor.CHAIN, lock_height, "it is refunded"
        )
    if swap.bolt11 is None:
        return Outlook(
            "the invoice is made in Lightning",
            Actor.DAEMON,
            window.last_height - 1,
            "later than that none is made, and the swap is refunded",
        )
    return Outlook(
        "the buyer pays",
        Actor.BUYER,
        window.last_height,
        "after it the invoice is deleted, and the swap is refunded at its lock height",
    )
