"""What a swap's state is, and what must be done about it: one pure function.

State is derived from (the record, the chain as now seen, the invoice as now seen); nothing here
reads a clock, a node or the store (money rule 5). Actions are data; the watcher carries them out
and asks again.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Swap, Tip
from lnliquid.domain.timelock import Timelocks

MIN_INVOICE_SECS = 10
"""An invoice that would live shorter is not worth making: nobody can check and pay in time."""


@dataclass(frozen=True, slots=True)
class Spend:
    """A transaction that spends an HTLC output. `height` is None while it is in the mempool.

    `kind` is what its witness says, None when the witness fits neither branch.
    """

    txid: str
    height: int | None
    kind: SpendKind | None


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What the chain and the mempool hold of one swap. The two outputs are spent apart."""

    funding_seen: bool = False
    funding_height: int | None = None
    asset_spend: Spend | None = None
    subsidy_spend: Spend | None = None

    @property
    def spends(self) -> list[Spend]:
        """Of either output, as far as they are known."""
        return [s for s in (self.asset_spend, self.subsidy_spend) if s is not None]

    def outputs_of(self, swap: Swap) -> list[tuple[Outpoint, Spend | None]]:
        """The HTLC outputs of the swap whose facts these are, each with its spend."""
        asset, subsidy = swap.asset_outpoint, swap.subsidy_outpoint
        both = ((asset, self.asset_spend), (subsidy, self.subsidy_spend))
        return [(outpoint, spend) for outpoint, spend in both if outpoint is not None]


@dataclass(frozen=True, slots=True)
class Policy:
    """The knobs that decisions depend on."""

    funding_confs: int
    final_confs: int
    timelocks: Timelocks


@dataclass(frozen=True, slots=True)
class MakeInvoice:
    """Create the invoice, payable for this long."""

    expiry_secs: int


@dataclass(frozen=True, slots=True)
class DropInvoice:
    """Delete the invoice, if it still has this status."""

    status: InvoiceStatus


@dataclass(frozen=True, slots=True)
class Refund:
    """Sign a transaction that takes these HTLC outputs back."""

    outpoints: tuple[Outpoint, ...]


Action = MakeInvoice | DropInvoice | Refund


@dataclass(frozen=True, slots=True)
class Decision:
    """The swap as it should be stored, why, and what to do once it is."""

    swap: Swap
    action: Action | None
    cause: str
    txid: str | None
    height: int | None


def is_foreign(swap: Swap, invoice: Invoice) -> bool:
    """True for an invoice under the swap's label whose hash or amount is not the swap's."""
    told = (invoice.payment_hash, invoice.amount_msat)
    return invoice.status is not InvoiceStatus.ABSENT and told != (
        swap.payment_hash,
        swap.total_price_msat,
    )


def confirmations(height: int | None, tip: Tip) -> int:
    """Confirmations of a transaction in the block at `height`; 0 in the mempool."""
    return 0 if height is None else max(0, tip.height - height + 1)


def reconcile(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    """Derive state and actions. `invoice` None means unknown: Lightning could not be asked.

    The swap must have a funding transaction. The swap of the decision is stored before any action
    is begun. Refunds follow money rule 4: tip at or past the lock height, invoice known to be
    neither paid nor payable, and no spend known.
    """
    state, cause, txid, height = _state(swap, facts, tip, policy)
    is_open = tip.height >= (swap.refund_lock_height or 0)
    after = _with_invoice(swap, facts, invoice, state)
    spends = (facts.asset_spend, facts.subsidy_spend)
    finished = all(_is_buried(spend, tip, policy) for spend in spends) and (
        state is State.CLAIMED or _is_settled(invoice)
    )
    heights = [spend.height for spend in facts.spends if spend.height is not None]
    after = replace(
        after,
        state=state,
        spend_txid=facts.asset_spend.txid if facts.asset_spend else None,
        paid_unclaimed=after.invoice_mark in (InvoiceMark.PAID, InvoiceMark.LOST)
        # Back in CREATED it stays what it was: its funding may have been abandoned.
        and (
            (state is State.FUNDED and is_open) or (state is State.CREATED and swap.paid_unclaimed)
        ),
        finished=finished,
        final_height=max(heights, default=None) if finished else swap.final_height,
    )
    action: Action | None = None
    if state is State.FUNDED and facts.asset_spend is None:
        action = _while_funded(after, facts, invoice, tip, policy)
    elif (
        state in (State.CREATED, State.REFUNDED)
        and invoice is not None
        and invoice.status in (InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED)
    ):
        # A reorg took the funding back, or the invoice came into being late: what is not locked
        # must not be payable (rule 3).
        action = DropInvoice(invoice.status)
    elif (
        state in (State.CLAIMED, State.REFUNDED)
        and is_open
        and facts.subsidy_spend is None
        and _is_buried(facts.asset_spend, tip, policy)
        and swap.subsidy_outpoint is not None
    ):
        action = Refund((swap.subsidy_outpoint,))
    mark = _mark_before(action, after.invoice_mark)
    if mark is not after.invoice_mark:
        after = replace(after, invoice_mark=mark)
    return Decision(after, action, cause, txid, height)


def _state(
    swap: Swap, facts: ChainFacts, tip: Tip, policy: Policy
) -> tuple[State, str, str | None, int | None]:
    spend = facts.asset_spend
    if spend is not None and spend.kind is SpendKind.CLAIM:
        return State.CLAIMED, "the buyer's claim was seen", spend.txid, spend.height
    if spend is not None and spend.kind is SpendKind.REFUND:
        return State.REFUNDED, "our refund was seen", spend.txid, spend.height
    needed = max(swap.min_funding_confs, policy.funding_confs)
    confs = confirmations(facts.funding_height, tip)
    if confs >= needed:
        return (
            State.FUNDED,
            f"the funding has {confs} of {needed} confirmations",
            swap.funding_txid,
            facts.funding_height,
        )
    return (
        State.CREATED,
        f"the funding lost its confirmations: {confs} of {needed}",
        swap.funding_txid,
        facts.funding_height,
    )


def _is_buried(spend: Spend | None, tip: Tip, policy: Policy) -> bool:
    return spend is not None and confirmations(spend.height, tip) >= policy.final_confs


def _is_settled(invoice: Invoice | None) -> bool:
    """True when no payment can come any more: it is gone or paid."""
    return invoice is not None and invoice.status in (InvoiceStatus.ABSENT, InvoiceStatus.PAID)


def _with_invoice(swap: Swap, facts: ChainFacts, invoice: Invoice | None, state: State) -> Swap:
    """What Lightning tells, taken into the record: paid for ever, adopted, or gone by our doing."""
    if any(spend.kind is SpendKind.CLAIM for spend in facts.spends):
        # A claim of either output shows the preimage, and only a payment gives that away.
        return replace(swap, invoice_mark=InvoiceMark.PAID)
    if invoice is None:
        return swap
    if is_foreign(swap, invoice):
        # Never shown. Paid, or in the place of ours that was shown: the operator has to decide.
        may_be_paid = invoice.status is InvoiceStatus.PAID or swap.bolt11 not in (
            None,
            invoice.bolt11,
        )
        is_lost = may_be_paid and swap.invoice_mark is not InvoiceMark.PAID
        mark = InvoiceMark.LOST if is_lost else swap.invoice_mark
        return replace(swap, bolt11=None, invoice_expires_at=None, invoice_mark=mark)
    if invoice.status is InvoiceStatus.PAID:
        return replace(swap, invoice_mark=InvoiceMark.PAID)
    found = invoice.status in (InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED)
    if found and swap.invoice_mark in (InvoiceMark.NONE, InvoiceMark.ASKED, InvoiceMark.LOST):
        # Made, but the answer did not reach the store, or the store is an older copy, or it was
        # not lost after all.
        return replace(
            swap,
            bolt11=invoice.bolt11,
            invoice_expires_at=invoice.expires_at,
            invoice_mark=InvoiceMark.ASKED,
        )
    # Asked for and never shown: nobody can have paid it, should it ever come into being.
    unseen = swap.invoice_mark is InvoiceMark.ASKED and swap.bolt11 is None
    closed = swap.invoice_mark is InvoiceMark.CLOSED or (unseen and state is State.CREATED)
    if (
        invoice.status is InvoiceStatus.ABSENT
        and swap.invoice_mark is InvoiceMark.ASKED
        and swap.bolt11 is not None
    ):
        return replace(swap, invoice_mark=InvoiceMark.LOST)
    if invoice.status is InvoiceStatus.ABSENT and closed:
        mark = InvoiceMark.NONE if state is State.CREATED else InvoiceMark.CLOSED
        return replace(swap, bolt11=None, invoice_expires_at=None, invoice_mark=mark)
    return swap


def _lifetime_secs(swap: Swap, tip: Tip, policy: Policy) -> int:
    return policy.timelocks.invoice_lifetime_secs(tip.height, swap.refund_lock_height or 0)


def _while_funded(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Action | None:
    lock_height = swap.refund_lock_height or 0
    is_open = tip.height >= lock_height
    refund = Refund(tuple(o for o, spend in facts.outputs_of(swap) if spend is None))
    if (
        invoice is not None
        and invoice.status in (InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED)
        and is_foreign(swap, invoice)
    ):
        return DropInvoice(invoice.status)  # it must not be paid, and ours cannot be made beside it
    if swap.invoice_mark in (InvoiceMark.PAID, InvoiceMark.LOST):
        return refund if is_open and swap.forced_refund_reason is not None else None
    if invoice is None:
        return None  # unknown is not unpaid
    if invoice.status is InvoiceStatus.ABSENT:
        if is_open:
            return refund
        lifetime = _lifetime_secs(swap, tip, policy)
        may_be_made = swap.invoice_mark <= InvoiceMark.CLOSED
        return MakeInvoice(lifetime) if may_be_made and lifetime >= MIN_INVOICE_SECS else None
    if invoice.status is InvoiceStatus.UNPAID:
        # From here on a payment could come back too late for the claim, so none is taken.
        too_late = tip.height > policy.timelocks.last_height_to_pay(lock_height)
        closing = swap.invoice_mark in (InvoiceMark.CLOSED, InvoiceMark.REFUNDING)
        return DropInvoice(InvoiceStatus.UNPAID) if too_late or closing else None
    # Expired: kept until the lock height, so that what happened can be looked up.
    return DropInvoice(InvoiceStatus.EXPIRED) if is_open else None


def _mark_before(action: Action | None, mark: InvoiceMark) -> InvoiceMark:
    """The mark that must be on the disk before this action is begun."""
    if mark in (InvoiceMark.PAID, InvoiceMark.LOST):
        return mark
    match action:
        case MakeInvoice():
            return InvoiceMark.ASKED
        case DropInvoice():
            return mark if mark is InvoiceMark.REFUNDING else InvoiceMark.CLOSED
        case Refund():
            return InvoiceMark.REFUNDING
        case None:
            return mark
        case _:
            assert_never(action)
