"""The service's rules, each with one thing wrong that a money rule forbids.

Where the service decides and then asks its gate the same again, both are wrong: either alone is
what the other is there for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import ChainFacts, Decision, DropInvoice, Policy
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Swap, Tip
from lnliquid.watchers.families import Standing, Version

from .rules import Rules

REAL = Rules()


def _judge(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy, **seen: Any
) -> Decision:
    """The real decision on a swap seen with these fields; those that it keeps stay as they were."""
    decision = REAL.reconcile(replace(swap, **seen), facts, invoice, tip, policy)
    kept = {k: getattr(swap, k) for k, v in seen.items() if getattr(decision.swap, k) == v}
    return replace(decision, swap=replace(decision.swap, **kept))


def _gone(invoice: Invoice | None, swap: Swap) -> Invoice:
    if invoice is not None and invoice.status is InvoiceStatus.PAID:
        return invoice
    return Invoice(swap.swap_id, InvoiceStatus.ABSENT)


def _refund_whatever_the_invoice(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    if tip.height < (swap.refund_lock_height or 0):
        return REAL.reconcile(swap, facts, invoice, tip, policy)
    gone = _gone(invoice, swap)
    is_asked = swap.invoice_mark is InvoiceMark.ASKED and gone.status is InvoiceStatus.ABSENT
    seen = replace(swap, invoice_mark=InvoiceMark.CLOSED) if is_asked else swap
    return REAL.reconcile(seen, facts, gone, tip, policy)


def _gate_whatever_the_invoice(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy, ours: Any
) -> tuple[Outpoint, ...]:
    return REAL.may_take_back(swap, facts, _gone(invoice, swap), tip, policy, ours)


def _refund_early(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    lower = (swap.refund_lock_height or 0) - 1
    return _judge(swap, facts, invoice, tip, policy, refund_lock_height=lower)


def _gate_early(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy, ours: Any
) -> tuple[Outpoint, ...]:
    lower = replace(swap, refund_lock_height=(swap.refund_lock_height or 0) - 1)
    return REAL.may_take_back(lower, facts, invoice, tip, policy, ours)


def _gate_without_mempool(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy, ours: Any
) -> tuple[Outpoint, ...]:
    asset, subsidy = (
        None if s is None or s.height is None else s
        for s in (facts.asset_spend, facts.subsidy_spend)
    )
    only = replace(facts, asset_spend=asset, subsidy_spend=subsidy)
    return REAL.may_take_back(swap, only, invoice, tip, policy, ours)


def _final_at_once(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    return REAL.reconcile(swap, facts, invoice, tip, replace(policy, final_confs=0))


def _funded_at_once(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    if facts.funding_seen and facts.funding_height is None:
        facts = replace(facts, funding_height=tip.height)
    return REAL.reconcile(swap, facts, invoice, tip, policy)


def _newest_stands(versions: Sequence[Version], seen: Mapping[str, int | None]) -> Standing | None:
    newest = versions[-1].txid
    return REAL.stand(versions, {newest: seen[newest]} if newest in seen else {})


def _never_replaced(versions: Sequence[Version], standing: Standing) -> list[Version]:
    after = REAL.settled(versions, standing)
    return [a if a.txid == standing.current else v for v, a in zip(versions, after, strict=True)]


def _refused_is_dead(_versions: Collection[Any], _gone: Collection[Outpoint]) -> bool:
    return True


def _lost_when_another_confirms(txid: str, versions: Sequence[Version], _buried_at: int) -> bool:
    return REAL.is_lost(txid, versions, 10**9)


def _fail_shown(swap: Swap, height: int | None) -> Swap:
    if swap.invoice_mark in (InvoiceMark.ASKED, InvoiceMark.CLOSED):
        return REAL.without_funding(replace(swap, invoice_mark=InvoiceMark.NONE), height)
    return REAL.without_funding(swap, height)


def _funded_again(swap: Swap, height: int | None) -> Swap:
    after = REAL.without_funding(swap, height)
    if after.state is not State.FAILED:
        return after
    nothing = {"funding_txid": None, "asset_vout": None, "subsidy_vout": None}
    return replace(swap, **nothing, refund_lock_height=None)  # type: ignore[arg-type]


def _refund_paid(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    ordered = {"forced_refund_reason": swap.forced_refund_reason or "late"}
    return _judge(swap, facts, invoice, tip, policy, **ordered)


def _gate_paid(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy, ours: Any
) -> tuple[Outpoint, ...]:
    ordered = replace(swap, forced_refund_reason="late")
    return REAL.may_take_back(ordered, facts, invoice, tip, policy, ours)


def _never_back(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    decision = REAL.reconcile(swap, facts, invoice, tip, policy)
    if swap.state in (State.CLAIMED, State.REFUNDED) and decision.swap.state < swap.state:
        return replace(decision, swap=swap, action=None)
    return decision


def _absent_is_ours(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    if (
        invoice is not None
        and invoice.status is InvoiceStatus.ABSENT
        and swap.invoice_mark is InvoiceMark.ASKED
    ):
        return _judge(swap, facts, invoice, tip, policy, invoice_mark=InvoiceMark.CLOSED)
    return REAL.reconcile(swap, facts, invoice, tip, policy)


def _open_after_a_reorg(
    swap: Swap, facts: ChainFacts, invoice: Invoice | None, tip: Tip, policy: Policy
) -> Decision:
    decision = REAL.reconcile(swap, facts, invoice, tip, policy)
    if decision.swap.state is not State.FUNDED and isinstance(decision.action, DropInvoice):
        return replace(decision, action=None)
    return decision


MUTANTS = {
    "4: a refund does not look at the invoice": Rules(
        reconcile=_refund_whatever_the_invoice, may_take_back=_gate_whatever_the_invoice
    ),
    "4: a refund is signed a block before the lock height": Rules(
        reconcile=_refund_early, may_take_back=_gate_early
    ),
    "4: the gate passes over a claim in the mempool": Rules(may_take_back=_gate_without_mempool),
    "4: what was paid is refunded without an order": Rules(
        reconcile=_refund_paid, may_take_back=_gate_paid
    ),
    "4: an invoice that is gone counts as closed by us": Rules(reconcile=_absent_is_ours),
    "4: a refund is sent again against a claim": Rules(may_send=lambda *_: True),
    "6: a spend is final in the mempool": Rules(reconcile=_final_at_once),
    "3: the lock counts as confirmed in the mempool": Rules(reconcile=_funded_at_once),
    "3: an invoice stays open when a reorg takes the lock": Rules(reconcile=_open_after_a_reorg),
    "5: a claim or refund that a reorg took stays": Rules(reconcile=_never_back),
    "5: the newest version stands, whatever is in a block": Rules(stand=_newest_stands),
    "2: a version that another replaced still stands": Rules(settled=_never_replaced),
    "2: a family is abandoned as soon as it is refused": Rules(is_dead=_refused_is_dead),
    "2: a version is lost as soon as another confirms": Rules(is_lost=_lost_when_another_confirms),
    "2: a swap fails while its invoice may be paid": Rules(without_funding=_fail_shown),
    "2: a swap is funded again when its funding is dead": Rules(without_funding=_funded_again),
    "2: a funding that was shown is replaced": Rules(was_shown=lambda _: False),
}
"""By the money rule that is broken and how."""
