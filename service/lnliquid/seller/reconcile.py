"""What a swap's state is, and what must be done about it: one pure function.

State is derived from (the record, the chain as now seen, the invoice as now seen); nothing here
reads a clock, a node or the store (money rule 5). Actions are data; the watcher carries them out
and asks again.
"""

from dataclasses import dataclass, replace

from lnliquid.liquid.htlc import SpendKind
from lnliquid.ports import Invoice, InvoiceStatus
from lnliquid.swap import Outpoint, State, Swap, Tip
from lnliquid.terms import Timelocks, blocks_to_pay_and_claim, invoice_lifetime_secs

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
    """The swap as it should be stored, why, and what to do."""

    swap: Swap
    actions: tuple[Action, ...]
    cause: str
    txid: str | None
    height: int | None


def confirmations(height: int | None, tip: Tip) -> int:
    """Confirmations of a transaction in the block at `height`; 0 in the mempool."""
    return 0 if height is None else max(0, tip.height - height + 1)


def reconcile(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    """Derive state and actions. `invoice` None means unknown: Lightning could not be asked.

    The swap must have a funding transaction. Refunds follow money rule 4: tip at or past the lock
    height, invoice known to be neither paid nor payable, and no spend known.
    """
    state, cause, txid, height = _state(swap, facts, tip, policy)
    lock_height = swap.refund_lock_height or 0
    is_open = tip.height >= lock_height
    paid = invoice is not None and invoice.status is InvoiceStatus.PAID
    after = replace(
        swap,
        state=state,
        spend_txid=facts.asset_spend.txid if facts.asset_spend else None,
        paid_unclaimed=(
            (paid if invoice is not None else swap.paid_unclaimed)
            and state is State.FUNDED
            and is_open
        ),
        finished=_is_buried(facts.asset_spend, tip, policy)
        and _is_buried(facts.subsidy_spend, tip, policy),
    )
    actions: list[Action] = []
    if invoice is not None:
        if state is State.FUNDED:
            actions += _while_funded(after, facts, invoice, tip, policy)
        elif state is State.CREATED and invoice.status is InvoiceStatus.UNPAID:
            # A reorg took the funding back; what nobody may pay must not be payable (rule 3).
            actions.append(DropInvoice(InvoiceStatus.UNPAID))
        elif state is State.CREATED and invoice.status is InvoiceStatus.EXPIRED:
            actions.append(DropInvoice(InvoiceStatus.EXPIRED))
    if (
        state in (State.CLAIMED, State.REFUNDED)
        and is_open
        and facts.subsidy_spend is None
        and _is_buried(facts.asset_spend, tip, policy)
        and swap.subsidy_outpoint is not None
    ):
        actions.append(Refund((swap.subsidy_outpoint,)))
    return Decision(after, tuple(actions), cause, txid, height)


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


def _while_funded(
    swap: Swap, facts: ChainFacts, invoice: Invoice, tip: Tip, policy: Policy
) -> list[Action]:
    lock_height = swap.refund_lock_height or 0
    is_open = tip.height >= lock_height
    if facts.asset_spend is not None:
        # Spent by a witness of neither branch: nothing of it is understood, so nothing is done.
        return []
    if invoice.status is InvoiceStatus.PAID:
        if is_open and swap.forced_refund_reason is not None:
            return [_refund(swap, facts)]
        return []
    if invoice.status is InvoiceStatus.ABSENT:
        if is_open:
            return [_refund(swap, facts)]
        lifetime = invoice_lifetime_secs(policy.timelocks, tip.height, lock_height)
        return [MakeInvoice(lifetime)] if lifetime >= MIN_INVOICE_SECS else []
    if invoice.status is InvoiceStatus.UNPAID:
        # From here on a payment could come back too late for the claim, so none is taken.
        too_late = lock_height - tip.height < blocks_to_pay_and_claim(policy.timelocks)
        return [DropInvoice(InvoiceStatus.UNPAID)] if too_late else []
    # Expired: kept until the lock height, because once it is gone it would be made again.
    return [DropInvoice(InvoiceStatus.EXPIRED)] if is_open else []


def _refund(swap: Swap, facts: ChainFacts) -> Refund:
    outpoints = [swap.asset_outpoint]
    if facts.subsidy_spend is None:
        outpoints.append(swap.subsidy_outpoint)
    return Refund(tuple(o for o in outpoints if o is not None))
