"""Rebuilds swaps of a lost database: what is to be stored, and what was found of each. Pure.

From the journal (which swaps there were), the chain (what became of their outputs), Lightning (what
became of their invoices) and what an older database still has. Money rule 4 holds as ever: an
invoice that Lightning does not know counts as unpaid only where the journal shows that it was
never asked for, or that we deleted it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lnliquid.liquid.keys import CHANGE, RECEIVE
from lnliquid.ports import InvoiceStatus
from lnliquid.seller.inventory import NEXT_INDEX
from lnliquid.seller.observe import facts_of, output_script
from lnliquid.seller.reconcile import ChainFacts, Policy, confirmations, reconcile
from lnliquid.seller.rescue_fundings import Choice, Fate, Fundings, is_htlc_like
from lnliquid.seller.rescue_lines import JournalFacts, Line
from lnliquid.seller.rescue_reading import RescuePicture
from lnliquid.seller.rescue_words import Finding, found_words, place_taken
from lnliquid.store.rebuild import OldSwap, OldTx
from lnliquid.store.survey import StoreFacts
from lnliquid.store.swaps import NEXT_SWAP
from lnliquid.swap import InvoiceMark, Request, State, Swap


@dataclass(frozen=True, slots=True)
class RescuePlan:
    """What to store, in this order, and the findings, one a swap. `cursors`: least values."""

    own_txs: tuple[OldTx, ...]
    swaps: tuple[OldSwap, ...]
    cursors: Mapping[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def plan_rescue(
    journal: JournalFacts,
    store: StoreFacts,
    picture: RescuePicture,
    policy: Policy,
    policy_asset: str,
) -> RescuePlan:
    """Decide for every swap of the journal. Raises `JournalMismatch` when the chain denies a line.

    A swap that the store has as final, or with the funding that the chain shows, keeps its row; its
    invoice's mark becomes what the journal knows better.
    """
    fundings = Fundings(journal, store, picture, policy, policy_asset)
    known = {s.swap_id: s for s in store.swaps}
    taken: dict[int | str, str] = {}
    for row in store.swaps:
        taken |= {row.key_index: row.swap_id, row.request_id: row.swap_id}
    swaps: list[OldSwap] = []
    findings: list[Finding] = []
    for swap_id, lines in sorted(journal.lines.items(), key=lambda i: i[1][-1].swap.key_index):
        before = known.get(swap_id)
        newest = lines[-1].swap
        places: dict[int | str, str] = {newest.key_index: swap_id, newest.request_id: swap_id}
        others = [taken[place] for place in places if taken.get(place, swap_id) != swap_id]
        if others:
            findings.append(place_taken(swap_id, others[0], picture))
            continue
        taken |= places
        choice = fundings.choose(swap_id)
        old = _rebuilt(before, lines, choice, journal, picture, policy)
        if old is not None and old.swap != before:
            swaps.append(old)
        after = old.swap if old is not None else before
        findings.append(found_words(swap_id, before, after, choice, picture, policy))
    cursors = {
        NEXT_SWAP: journal.next_swap_index,
        NEXT_INDEX[RECEIVE]: picture.next_indexes[RECEIVE],
        NEXT_INDEX[CHANGE]: picture.next_indexes[CHANGE],
    }
    return RescuePlan(
        tuple(fundings.own_txs()),
        tuple(swaps),
        cursors,
        tuple(findings),
        tuple(_notes(journal, store, picture)),
    )


def _rebuilt(
    before: Swap | None,
    lines: Sequence[Line],
    choice: Choice,
    journal: JournalFacts,
    picture: RescuePicture,
    policy: Policy,
) -> OldSwap | None:
    """The swap as it is to be stored, None when nothing can be stored of it."""
    if before is not None and (before.finished or choice.line is None):
        return None
    line = choice.line or lines[-1]
    parameter_hash = request_of(line.swap).parameter_hash
    if choice.fate is Fate.NEVER:
        if before is not None:
            return None
        over = replace(
            line.swap,
            state=State.FAILED,
            finished=True,
            funding_txid=None,
            asset_vout=None,
            subsidy_vout=None,
            refund_lock_height=None,
        )
        return OldSwap(over, None, choice.why, None, None, parameter_hash)
    if choice.line is None:
        return None
    base = line.swap
    if before is not None:
        base = replace(
            before,
            funding_txid=line.swap.funding_txid,
            asset_vout=line.swap.asset_vout,
            subsidy_vout=line.swap.subsidy_vout,
            refund_lock_height=line.swap.refund_lock_height,
        )
    facts = _facts(base, picture)
    confs = confirmations(facts.funding_height, picture.tip)
    is_locked = confs >= max(base.min_funding_confs, policy.funding_confs)
    base = with_invoice(base, line.is_marked, is_locked, journal, picture)
    if before is not None and before.funding_txid == base.funding_txid:
        # The daemon follows what it knows; only what it cannot find out is told to it.
        return OldSwap(base, before, "", None, None, parameter_hash)
    decision = reconcile(base, facts, None, picture.tip, policy)
    # The action's mark is not stored: the daemon will set it when it acts.
    mark = base.invoice_mark
    if decision.swap.invoice_mark is InvoiceMark.PAID:
        mark = InvoiceMark.PAID
    elif decision.swap.state is State.REFUNDED:
        mark = InvoiceMark.REFUNDING  # a refund of ours is there, so it was allowed
    swap = replace(decision.swap, invoice_mark=mark)
    return OldSwap(swap, before, decision.cause, decision.txid, decision.height, parameter_hash)


def _facts(swap: Swap, picture: RescuePicture) -> ChainFacts:
    history = picture.histories.get(output_script(swap), ())
    return facts_of(swap, history, dict(picture.transactions))


def with_invoice(
    swap: Swap, is_marked: bool, is_locked: bool, journal: JournalFacts, picture: RescuePicture
) -> Swap:
    """The swap with its invoice's mark, from what the store, the journal and Lightning say.

    `is_locked`: the funding has its confirmations, so that the invoice may have been shown.
    """
    invoice = picture.invoices[swap.swap_id]
    ours = swap.invoice_mark
    last = journal.marks.get(swap.swap_id, InvoiceMark.NONE)
    for_ever = (InvoiceMark.PAID, InvoiceMark.REFUNDING)
    if invoice.status is not InvoiceStatus.ABSENT:
        if invoice.payment_hash != swap.payment_hash:
            return replace(swap, invoice_mark=InvoiceMark.LOST)  # nobody knows what became of it
        swap = replace(swap, bolt11=invoice.bolt11, invoice_expires_at=invoice.expires_at)
        if invoice.status is InvoiceStatus.PAID or InvoiceMark.PAID in (ours, last):
            return replace(swap, invoice_mark=InvoiceMark.PAID)
        closing = (InvoiceMark.CLOSED, InvoiceMark.REFUNDING)
        mark = next((m for m in (last, ours) if m in closing), InvoiceMark.ASKED)
        return replace(swap, invoice_mark=mark)
    if ours in (*for_ever, InvoiceMark.LOST):
        return swap
    if is_marked and last in (*for_ever, InvoiceMark.CLOSED):
        return replace(swap, invoice_mark=last, bolt11=None, invoice_expires_at=None)
    if is_marked and last is InvoiceMark.NONE:
        return swap  # never asked for, so never there
    if is_marked or (is_locked and ours is not InvoiceMark.CLOSED):
        # Asked for, and gone by nobody knows whose doing: perhaps it was paid first.
        return replace(swap, invoice_mark=InvoiceMark.LOST)
    return swap


def request_of(swap: Swap) -> Request:
    """The request that a swap answers."""
    return Request(
        swap.request_id,
        swap.asset_id,
        swap.asset_amount,
        swap.buyer_claim_address,
        swap.min_funding_confs,
        swap.max_total_price_msat,
    )


def _notes(journal: JournalFacts, store: StoreFacts, picture: RescuePicture) -> list[str]:
    notes = []
    if journal.unreadable:
        notes.append(
            f"{journal.unreadable} lines of the journal cannot be read; one half-written line is "
            "what a power cut leaves, more may be swaps that nobody can rebuild"
        )
    notes += [
        f"the history of {script.hex()} cannot be read: {why}"
        for script, why in picture.refused.items()
        if script in picture.addresses
    ]
    named = {output_script(line.swap) for found in journal.lines.values() for line in found}
    named |= {output_script(s) for s in store.swaps if s.funding_txid is not None}
    strange = [
        f"{txid}:{vout}"
        for txid in picture.own
        for vout, output in enumerate(picture.transactions[txid].outputs)
        if is_htlc_like(output) and output.script_pubkey not in named
    ]
    if strange:
        notes.append(
            f"{len(strange)} outputs of our own fundings belong to swaps that neither the journal "
            f"nor the database names, the first is {strange[0]}: lines of the journal are missing"
        )
    return notes
