"""The seller's real rules, each of which a mutant can take the place of."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from lnliquid.api import convert
from lnliquid.domain import reconcile as reconciling
from lnliquid.domain.ports import HistoryItem, Invoice, InvoiceStatus
from lnliquid.domain.reconcile import ChainFacts, Decision, Policy
from lnliquid.domain.swap import Outpoint, Swap, Tip, path
from lnliquid.domain.timelock import EXTRA_BLOCKS, LightningChain, Timelocks
from lnliquid.store import swaps as swap_store
from lnliquid.watchers import families, fee_bump, invoices, observe, refund_gate

from ..unit.builders import ANY_TIME, NOW
from .world import View, read_transactions

TIMELOCKS = Timelocks(
    refund_delta_blocks=4,
    max_funding_confs=1,
    create_slack_secs=60,
    invoice_expiry_secs=60,
    max_ln_cltv_blocks=1 - EXTRA_BLOCKS,  # held for one block in all
    claim_margin_blocks=1,
    lightning_chain=LightningChain.LIQUID,
)
"""An invoice can be made in the block after the funding's, and is closed two blocks later."""
POLICY = Policy(funding_confs=1, final_confs=2, timelocks=TIMELOCKS)
assert TIMELOCKS.blocks_to_pay_and_claim == 2


@dataclass(frozen=True)
class Rules:
    """Every decision of the model is one of these functions of the service."""

    reconcile: Callable[[Swap, ChainFacts, Invoice | None, Tip, Policy], Decision] = (
        reconciling.reconcile
    )
    facts_of: Callable[..., ChainFacts] = observe.facts_of
    may_take_back: Callable[..., tuple[Outpoint, ...]] = refund_gate.may_take_back
    may_send: Callable[[Swap, ChainFacts, Collection[Outpoint]], bool] = refund_gate.may_send
    stand: Callable[..., families.Standing | None] = families.stand
    settled: Callable[..., list[families.Version]] = families.settled
    is_lost: Callable[..., bool] = families.is_lost
    is_dead: Callable[..., bool] = families.is_dead
    was_shown: Callable[[Swap], bool] = fee_bump.was_shown
    without_funding: Callable[[Swap, int | None], Swap] = swap_store.without_funding
    as_known: Callable[[Swap, Invoice | None], Invoice | None] = invoices.as_known
    path: Callable[..., tuple[Any, ...]] = path
    policy: Policy = POLICY

    def remembering(self, final_confs: int) -> "Rules":
        """The same for that depth, the slow ones asked once for each question: they are pure."""
        facts_of = self.facts_of

        @cache
        def facts(swap: Swap, history: tuple[HistoryItem, ...]) -> ChainFacts:
            return facts_of(swap, observe.ScriptHistory(history, read_transactions()))

        return replace(
            self,
            reconcile=cache(self.reconcile),
            facts_of=lambda swap, seen: facts(swap, seen.items),
            without_funding=cache(self.without_funding),
            policy=replace(self.policy, final_confs=final_confs),
        )


def facts(rules: Rules, view: View, swap: Swap) -> ChainFacts:
    """What a view holds of a swap."""
    history = tuple(HistoryItem(txid, height) for txid, height in view.heights().items())
    return rules.facts_of(swap, observe.ScriptHistory(history, read_transactions()))


@cache
def tip_of(height: int) -> Tip:
    """A tip at this height."""
    return Tip(height, f"block {height}")


@cache
def invoice_of(swap_id: str, payment_hash: bytes, msat: int, status: InvoiceStatus) -> Invoice:
    """The invoice of a swap in this status, as Lightning tells it."""
    if status is InvoiceStatus.ABSENT:
        return Invoice(swap_id, status)
    return Invoice(swap_id, status, f"lnert1{swap_id}", payment_hash, msat, NOW + 60)


def told_of(swap: Swap, status: InvoiceStatus) -> Invoice:
    """The same, of this swap."""
    return invoice_of(swap.swap_id, swap.payment_hash, swap.total_price_msat, status)


@cache
def shows_invoice(swap: Swap) -> bool:
    """True when a buyer who asks is told the invoice."""
    return bool(convert.swap_to(swap, ANY_TIME).bolt11)
