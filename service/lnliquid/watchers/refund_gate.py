"""The gate of money rule 4: every signature that spends an HTLC output passes it, the last thing.

It reads chain, mempool and invoice once more. Refunds, sweeps of what a buyer left, and every
replacement of either at a higher fee are signed for the outputs that it let pass, and for no other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import Chain, Invoice, InvoiceStatus
from lnliquid.domain.reconcile import ChainFacts, Policy, confirmations
from lnliquid.domain.swap import InvoiceMark, Outpoint, Swap, Tip
from lnliquid.watchers.chain_view import ChainView, require_tip
from lnliquid.watchers.invoices import Invoices


@dataclass(frozen=True, slots=True)
class Passed:
    """HTLC outputs of one swap that may be taken back, as just read under `tip`."""

    swap: Swap
    outpoints: tuple[Outpoint, ...]
    tip: Tip

    @property
    def is_alone(self) -> bool:
        """True when the buyer may still spend something of it: it knows the preimage.

        Such a refund shares a transaction with no other, whose coins it would hold up.
        """
        return self.swap.invoice_mark in (InvoiceMark.PAID, InvoiceMark.LOST)


def may_take_back(
    swap: Swap,
    facts: ChainFacts,
    invoice: Invoice | None,
    tip: Tip,
    policy: Policy,
    ours: Collection[str],
) -> tuple[Outpoint, ...]:
    """The HTLC outputs of a swap that we may sign for now. `ours`: the versions to be replaced.

    None of a swap before its lock height, and none that anything but `ours` spends. While the
    asset output is unspent, or spent by `ours`: only when the invoice is known to be gone unpaid,
    or the operator ordered the refund. Once it is spent otherwise: the rest, when that is buried.
    """
    if tip.height < (swap.refund_lock_height or 0):
        return ()
    asset, subsidy = facts.asset_spend, facts.subsidy_spend
    if asset is not None and asset.txid not in ours:
        is_buried = confirmations(asset.height, tip) >= policy.final_confs
        rest = swap.subsidy_outpoint
        is_free = subsidy is None or subsidy.txid in ours
        return (rest,) if is_buried and is_free and rest is not None else ()
    if facts.funding_height is None:
        return ()
    is_ordered = swap.invoice_mark in (InvoiceMark.PAID, InvoiceMark.LOST)
    if is_ordered and swap.forced_refund_reason is None:
        return ()
    # Unknown is not unpaid; what was seen paid cannot be paid again.
    over = {InvoiceMark.LOST: (InvoiceStatus.ABSENT, InvoiceStatus.PAID)}
    status = None if invoice is None else invoice.status
    if swap.invoice_mark is not InvoiceMark.PAID and (
        swap.invoice_mark not in (InvoiceMark.REFUNDING, InvoiceMark.LOST)
        or status not in over.get(swap.invoice_mark, (InvoiceStatus.ABSENT,))
    ):
        return ()
    if subsidy is not None and subsidy.txid not in ours and subsidy.kind is not SpendKind.REFUND:
        # The buyer has the preimage. Its asset is taken back by order only, and not in a race.
        is_buried = confirmations(subsidy.height, tip) >= policy.final_confs
        if not (is_ordered and is_buried):
            return ()
    return tuple(
        outpoint
        for outpoint, spend in facts.outputs_of(swap)
        if spend is None or spend.txid in ours
    )


def may_send(swap: Swap, facts: ChainFacts, wanted: Collection[Outpoint]) -> bool:
    """False while another than the seller is known to spend one of these outputs of the swap.

    What a buyer left is sent only beside a spend of the asset: without, it is no leftover.
    """
    if swap.asset_outpoint not in wanted and facts.asset_spend is None:
        return False
    return not any(
        outpoint in wanted and spend is not None and spend.kind is not SpendKind.REFUND
        for outpoint, spend in facts.outputs_of(swap)
    )


@dataclass(eq=False)
class RefundGate:
    """The gate with its eyes: the swaps under watch, and their invoices."""

    chain: Chain
    view: ChainView
    invoices: Invoices
    policy: Policy

    async def open(
        self, swaps: Sequence[Swap], tip: Tip, ours: Collection[str] = ()
    ) -> list[Passed]:
        """What of these swaps, as far as they are watched, may be taken back now.

        Raises `BackendError`, and `TipMoved` when a block came meanwhile.
        """
        known = self.view.swaps
        watched = [known[s.swap_id] for s in swaps if s.swap_id in known]
        await self.view.read_facts(watched, tip)
        await self.invoices.read([s.swap_id for s in watched], tip)
        await require_tip(self.chain, tip)
        passed = []
        for swap in watched:
            facts = self.view.facts.get(swap.swap_id)
            if facts is None or facts[1] != tip:
                continue
            invoice = self.invoices.view(swap)
            outpoints = may_take_back(swap, facts[0], invoice, tip, self.policy, ours)
            if outpoints:
                passed.append(Passed(swap, outpoints, tip))
        return passed

    def may_send(self, swaps: Sequence[Swap], outpoints: Collection[Outpoint]) -> bool:
        """False while another is known to spend one of these HTLC outputs of these swaps.

        Or while nothing is known, as of a swap that was just reopened.
        """
        known = [(swap, self.view.facts.get(swap.swap_id)) for swap in swaps]
        return all(
            facts is not None and may_send(swap, facts[0], outpoints) for swap, facts in known
        )
