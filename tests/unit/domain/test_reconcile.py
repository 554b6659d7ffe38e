"""`domain.reconcile`: a table of situations, each with the one right answer.

Lock height 1,000; 128 blocks must be left when a payment starts; 2 confirmations fund, 2 finish.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import (
    Action,
    ChainFacts,
    Decision,
    DropInvoice,
    MakeInvoice,
    Policy,
    Refund,
    Spend,
    confirmations,
    reconcile,
)
from lnliquid.domain.swap import InvoiceMark, State, Tip

from ..builders import LOCK_HEIGHT, NOW, TIMELOCKS, make_swap, outpoints, txid_of

C, F, CL, R, X = State.CREATED, State.FUNDED, State.CLAIMED, State.REFUNDED, State.FAILED
ABSENT, UNPAID, PAID, EXPIRED = (
    InvoiceStatus.ABSENT,
    InvoiceStatus.UNPAID,
    InvoiceStatus.PAID,
    InvoiceStatus.EXPIRED,
)
NONE, ASKED, CLOSED, SEEN_PAID, REFUNDING, LOST = InvoiceMark
POLICY = Policy(funding_confs=2, final_confs=2, timelocks=TIMELOCKS)
SWAP = make_swap()
ASSET_OUT, SUBSIDY_OUT = outpoints(SWAP)
BOTH = Refund((ASSET_OUT, SUBSIDY_OUT))
EARLY, LAST_START, TOO_LATE, BEFORE, AT_LOCK = 700, 872, 873, 999, 1_000
FUNDED_AT = 600


def tip(height: int) -> Tip:
    """A tip at this height."""
    return Tip(height, f"block {height}")


def invoice(status: InvoiceStatus | None) -> Invoice | None:
    """The swap's invoice in this status; None for unknown."""
    if status is None:
        return None
    if status is ABSENT:
        return Invoice(SWAP.swap_id, status)
    return Invoice(
        SWAP.swap_id, status, "lnert1", SWAP.payment_hash, SWAP.total_price_msat, NOW + 60
    )


OTHER_HASH: dict[str, Any] = {"payment_hash": bytes(32), "bolt11": "lnert1other"}
FOREIGN = {
    "another hash": OTHER_HASH,
    "another amount": {"amount_msat": SWAP.total_price_msat + 1, "bolt11": "lnert1other"},
    "any amount": {"amount_msat": None, "bolt11": "lnert1other"},
}
"""What is wrong with an invoice under the swap's label that is not the swap's."""


def foreign_invoice(status: InvoiceStatus) -> Invoice:
    """An invoice of another hash under the swap's label."""
    found = invoice(status)
    assert found is not None
    return found if status is ABSENT else replace(found, **OTHER_HASH)


def spend(kind: SpendKind | None, height: int | None, number: int = 1) -> Spend:
    """A spend by transaction `number`."""
    return Spend(txid_of(number), height, kind)


def facts(
    funded: int | None = FUNDED_AT, asset: Spend | None = None, subsidy: Spend | None = None
) -> ChainFacts:
    """A funding that is confirmed at this height, and spends."""
    return ChainFacts(True, funded, asset, subsidy)


def decide(
    height: int,
    status: InvoiceStatus | None,
    seen: ChainFacts | None = None,
    mark: InvoiceMark = NONE,
    **changes: object,
) -> Decision:
    """The decision on a swap whose record has this mark; with ASKED it also has the invoice."""
    swap = replace(SWAP, invoice_mark=mark, **changes)  # type: ignore[arg-type]
    if mark is ASKED and "bolt11" not in changes:
        swap = replace(swap, bolt11="lnert1", invoice_expires_at=NOW + 60)
    return reconcile(swap, facts() if seen is None else seen, invoice(status), tip(height), POLICY)


@pytest.mark.parametrize(
    ("funded", "height", "min_confs", "state"),
    [
        (None, 700, 2, C), (700, 700, 2, C), (699, 700, 2, F), (699, 700, 3, C), (698, 700, 3, F),
        (700, 700, 1, C), (695, 700, 6, F), (696, 700, 6, C), (701, 700, 2, C),
    ],
)  # fmt: skip
def test_funded_means_confirmed_as_often_as_both_sides_want(
    funded: int | None, height: int, min_confs: int, state: State
) -> None:
    """The larger of the buyer's and the seller's wish; a height above the tip counts nothing."""
    decision = decide(height, ABSENT, facts(funded), min_funding_confs=min_confs)
    assert decision.swap.state is state


def test_confirmations() -> None:
    """One in its own block, none in the mempool, never fewer than none."""
    assert [confirmations(h, tip(10)) for h in (None, 10, 9, 11)] == [0, 1, 2, 0]


TABLE: list[tuple[str, int, InvoiceStatus | None, InvoiceMark, Action | None, InvoiceMark]] = [
    # what, tip, invoice as seen, mark before → action, mark that is stored first
    ("right time", EARLY, ABSENT, NONE, MakeInvoice(3_600), ASKED),
    ("fewer blocks", 871, ABSENT, NONE, MakeInvoice(60), ASKED),
    ("no time left", LAST_START, ABSENT, NONE, None, NONE),
    ("far too late", BEFORE, ABSENT, NONE, None, NONE),
    ("gone, not by us, early", EARLY, ABSENT, ASKED, None, LOST),
    ("unknown", EARLY, None, NONE, None, NONE),
    ("unknown, asked", EARLY, None, ASKED, None, ASKED),
    ("waits for the buyer", EARLY, UNPAID, ASKED, None, ASKED),
    ("a payment may still start", LAST_START, UNPAID, ASKED, None, ASKED),
    ("none may start", TOO_LATE, UNPAID, ASKED, DropInvoice(UNPAID), CLOSED),
    ("at the height", AT_LOCK, UNPAID, ASKED, DropInvoice(UNPAID), CLOSED),
    ("was to be deleted", EARLY, UNPAID, CLOSED, DropInvoice(UNPAID), CLOSED),
    ("came late", AT_LOCK, UNPAID, REFUNDING, DropInvoice(UNPAID), REFUNDING),
    ("made, but not stored", EARLY, UNPAID, NONE, None, ASKED),
    ("paid", EARLY, PAID, ASKED, None, SEEN_PAID),
    ("paid at the height", AT_LOCK, PAID, ASKED, None, SEEN_PAID),
    ("paid after all", AT_LOCK, PAID, REFUNDING, None, SEEN_PAID),
    ("paid and then gone", AT_LOCK, ABSENT, SEEN_PAID, None, SEEN_PAID),
    ("paid and then unknown", AT_LOCK, None, SEEN_PAID, None, SEEN_PAID),
    ("expired", EARLY, EXPIRED, ASKED, None, ASKED),
    ("expired, late", BEFORE, EXPIRED, ASKED, None, ASKED),
    ("expired at the height", AT_LOCK, EXPIRED, ASKED, DropInvoice(EXPIRED), CLOSED),
    ("unknown at the height", AT_LOCK, None, ASKED, None, ASKED),
    ("unknown, closed", AT_LOCK, None, CLOSED, None, CLOSED),
    ("gone, not by us", AT_LOCK, ABSENT, ASKED, None, LOST),
    ("still gone", AT_LOCK, ABSENT, LOST, None, LOST),
    ("gone, unknown", AT_LOCK, None, LOST, None, LOST),
    ("there again", EARLY, UNPAID, LOST, None, ASKED),
    ("there again, too late", TOO_LATE, UNPAID, LOST, DropInvoice(UNPAID), CLOSED),
    ("there again, expired", AT_LOCK, EXPIRED, LOST, DropInvoice(EXPIRED), CLOSED),
    ("found paid", AT_LOCK, PAID, LOST, None, SEEN_PAID),
    ("gone, by us", AT_LOCK, ABSENT, CLOSED, BOTH, REFUNDING),
    ("gone, by us, too late for another", BEFORE, ABSENT, CLOSED, None, CLOSED),
    ("gone, by us, in time for another", EARLY, ABSENT, CLOSED, MakeInvoice(3_600), ASKED),
    ("never made", AT_LOCK, ABSENT, NONE, BOTH, REFUNDING),
    ("refund again", AT_LOCK + 5, ABSENT, REFUNDING, BOTH, REFUNDING),
    ("refund after a reorg", BEFORE, ABSENT, REFUNDING, None, REFUNDING),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda r: f"{r[0]}, {r[1]}, {r[3].name}")
def test_funded_and_unspent(
    row: tuple[str, int, InvoiceStatus | None, InvoiceMark, Action | None, InvoiceMark],
) -> None:
    """One action at most, and the mark that must be stored before it."""
    _, height, status, before, action, after = row
    decision = decide(height, status, mark=before)
    assert decision.swap.state is F
    assert (decision.action, decision.swap.invoice_mark) == (action, after)
    assert not decision.swap.finished
    assert decision.swap.paid_unclaimed is (after in (SEEN_PAID, LOST) and height >= LOCK_HEIGHT)


@pytest.mark.parametrize("state", list(State))
def test_an_invoice_that_was_asked_for_and_never_seen(state: State) -> None:
    """Asked without an answer: asked again in time, refunded at the height, never shown."""
    before: dict[str, Any] = {"state": state, "bolt11": None}
    assert decide(EARLY, ABSENT, mark=ASKED, **before).action == MakeInvoice(3_600)
    assert decide(AT_LOCK, ABSENT, mark=ASKED, **before).action == BOTH
    adopted = decide(EARLY, UNPAID, mark=ASKED, **before).swap
    assert (adopted.bolt11, adopted.invoice_expires_at) == ("lnert1", NOW + 60)


CREATED_TABLE: list[tuple[InvoiceStatus | None, InvoiceMark, int, Action | None, InvoiceMark]] = [
    (ABSENT, NONE, EARLY, None, NONE),
    (ABSENT, ASKED, EARLY, None, LOST),
    (ABSENT, CLOSED, EARLY, None, NONE),
    (ABSENT, CLOSED, TOO_LATE, None, NONE),
    (ABSENT, NONE, AT_LOCK, None, NONE),
    (ABSENT, REFUNDING, AT_LOCK, None, REFUNDING),
    (UNPAID, NONE, EARLY, DropInvoice(UNPAID), CLOSED),
    (UNPAID, ASKED, EARLY, DropInvoice(UNPAID), CLOSED),
    (UNPAID, CLOSED, EARLY, DropInvoice(UNPAID), CLOSED),
    (EXPIRED, ASKED, EARLY, DropInvoice(EXPIRED), CLOSED),
    (PAID, ASKED, EARLY, None, SEEN_PAID),
    (None, ASKED, AT_LOCK, None, ASKED),
]  # fmt: skip


@pytest.mark.parametrize("funded", [None, "tip"], ids=["in the mempool", "one confirmation"])
@pytest.mark.parametrize("row", CREATED_TABLE, ids=lambda r: f"{r[0]}, {r[1].name}, {r[2]}")
def test_not_or_no_longer_funded(
    row: tuple[InvoiceStatus | None, InvoiceMark, int, Action | None, InvoiceMark],
    funded: str | None,
) -> None:
    """What nobody may pay is not payable; nothing is made and nothing refunded."""
    status, before, height, action, after = row
    seen = facts(None if funded is None else height)
    decision = decide(height, status, seen, mark=before, state=F)
    assert decision.swap.state is C
    assert (decision.action, decision.swap.invoice_mark) == (action, after)
    assert not decision.swap.paid_unclaimed


def test_after_a_reorg_the_invoice_is_made_again() -> None:
    """FUNDED, back to CREATED: deleted; seen gone; FUNDED again: asked anew, with no trace left."""
    back = decide(EARLY, UNPAID, facts(EARLY), mark=ASKED, state=F)
    assert (back.swap.state, back.action) == (C, DropInvoice(UNPAID))
    gone = reconcile(back.swap, facts(EARLY), invoice(ABSENT), tip(EARLY), POLICY)
    assert (gone.swap.bolt11, gone.swap.invoice_expires_at, gone.action) == (None, None, None)
    again = reconcile(gone.swap, facts(EARLY), invoice(ABSENT), tip(EARLY + 1), POLICY)
    assert (again.swap.state, again.action) == (F, MakeInvoice(3_600))


def test_after_a_reorg_the_invoice_is_made_again_also_when_blocks_are_fast() -> None:
    """The same, with the next block seen before the invoice was seen gone."""
    back = decide(EARLY, UNPAID, facts(EARLY), mark=ASKED, state=F)
    again = reconcile(back.swap, facts(EARLY), invoice(ABSENT), tip(EARLY + 1), POLICY)
    assert (again.swap.state, again.action) == (F, MakeInvoice(3_600))


@pytest.mark.parametrize("status", [None, *InvoiceStatus])
@pytest.mark.parametrize("mark", list(InvoiceMark))
@pytest.mark.parametrize("funded", [None, FUNDED_AT])
def test_a_claim_in_the_mempool_counts_as_seen(
    status: InvoiceStatus | None, mark: InvoiceMark, funded: int | None
) -> None:
    """No refund competes with it, whatever the invoice, also when the funding is reorged."""
    claim = spend(SpendKind.CLAIM, None)
    decision = decide(AT_LOCK, status, facts(funded, claim, claim), mark=mark)
    assert decision.swap.state is CL
    assert decision.swap.spend_txid == claim.txid
    assert (decision.txid, decision.height) == (claim.txid, None)
    assert decision.action is None
    assert not decision.swap.finished


SPENDS: list[tuple[SpendKind, int | None, int | None, int, Action | None, bool]] = [
    # kind, asset spent at, subsidy spent at (0: not), tip → action, finished
    (SpendKind.CLAIM, 1_000, 1_000, 1_000, None, False),
    (SpendKind.CLAIM, 1_000, 1_000, 1_001, None, True),
    (SpendKind.CLAIM, 999, 1_000, 1_000, None, False),
    (SpendKind.CLAIM, 700, 0, 800, None, False),
    (SpendKind.CLAIM, 700, 0, 999, None, False),
    (SpendKind.CLAIM, 700, 0, 1_000, Refund((SUBSIDY_OUT,)), False),
    (SpendKind.CLAIM, 1_000, 0, 1_000, None, False),
    (SpendKind.CLAIM, 700, None, 1_000, None, False),
    (SpendKind.CLAIM, None, 0, 1_000, None, False),
    (SpendKind.REFUND, None, None, 1_000, None, False),
    (SpendKind.REFUND, 1_001, 1_001, 1_001, None, False),
    (SpendKind.REFUND, 1_001, 1_001, 1_002, None, True),
    (SpendKind.REFUND, 1_001, 0, 1_002, Refund((SUBSIDY_OUT,)), False),
]


@pytest.mark.parametrize("row", SPENDS, ids=str)
def test_spent(
    row: tuple[SpendKind, int | None, int | None, int, Action | None, bool],
) -> None:
    """Final when both are buried; what is left over is swept from the lock height on."""
    kind, asset_at, subsidy_at, height, action, finished = row
    subsidy = None if subsidy_at == 0 else spend(kind, subsidy_at, 2)
    decision = decide(height, ABSENT, facts(600, spend(kind, asset_at), subsidy), mark=CLOSED)
    assert decision.swap.state is (CL if kind is SpendKind.CLAIM else R)
    assert decision.action == action
    assert decision.swap.finished is finished


def test_a_spend_that_is_not_understood_stops_everything() -> None:
    """A witness of neither branch: no invoice, no refund."""
    for status, height in product([None, *InvoiceStatus], (EARLY, AT_LOCK)):
        decision = decide(height, status, facts(600, spend(None, 700)), mark=ASKED)
        assert decision.swap.state is F
        assert decision.action is None


def test_a_refunded_subsidy_does_not_keep_the_asset_from_being_refunded() -> None:
    """The outputs are spent apart; only what is unspent is taken."""
    seen = facts(600, None, spend(SpendKind.REFUND, 1_001))
    assert decide(1_002, ABSENT, seen, mark=REFUNDING).action == Refund((ASSET_OUT,))


@pytest.mark.parametrize("height", [None, 900], ids=["mempool", "confirmed"])
def test_a_claimed_subsidy_keeps_the_asset_from_being_refunded(height: int | None) -> None:
    """Whatever Lightning says of the invoice."""
    seen = facts(600, None, spend(SpendKind.CLAIM, height))
    decision = decide(AT_LOCK, ABSENT, seen, mark=CLOSED)
    assert (decision.action, decision.swap.invoice_mark) == (None, SEEN_PAID)
    assert decision.swap.paid_unclaimed


def test_an_unpaid_invoice_of_a_refunded_swap_is_deleted() -> None:
    """Never paid and refunded, also when Lightning carries the request out after the refund."""
    refund = spend(SpendKind.REFUND, 1_001)
    decision = decide(1_001, UNPAID, facts(600, refund, refund), mark=REFUNDING)
    assert decision.action == DropInvoice(UNPAID)


@pytest.mark.parametrize(
    ("height", "status", "mark", "action"),
    [
        (BEFORE, PAID, ASKED, None),
        (AT_LOCK, PAID, ASKED, BOTH),
        (AT_LOCK, ABSENT, SEEN_PAID, BOTH),
        (AT_LOCK, None, ASKED, None),
        (AT_LOCK, UNPAID, ASKED, DropInvoice(UNPAID)),
        (AT_LOCK, ABSENT, LOST, BOTH),
    ],
)
def test_a_refund_that_the_operator_orders(
    height: int, status: InvoiceStatus | None, mark: InvoiceMark, action: Action | None
) -> None:
    """Of a swap that was paid or may have been, from the lock height on."""
    decision = decide(height, status, mark=mark, forced_refund_reason="the buyer asked")
    assert decision.action == action
    claim = spend(SpendKind.CLAIM, None)
    claimed = decide(height, status, facts(600, claim, claim), mark=mark, forced_refund_reason="x")
    assert claimed.action is None


FOREIGN_TABLE: list[
    tuple[str, int, InvoiceStatus, InvoiceMark, str | None, Action | None, InvoiceMark]
] = [
    # what, tip, foreign invoice, mark and invoice before → action, mark that is stored first
    ("made by another wallet", EARLY, UNPAID, NONE, None, DropInvoice(UNPAID), CLOSED),
    ("in the way of ours", EARLY, UNPAID, ASKED, None, DropInvoice(UNPAID), CLOSED),
    ("in the way, expired", EARLY, EXPIRED, ASKED, None, DropInvoice(EXPIRED), CLOSED),
    ("shown by an older program", EARLY, UNPAID, ASKED, "lnert1other", DropInvoice(UNPAID), CLOSED),
    ("in the place of ours", EARLY, UNPAID, ASKED, "lnert1", DropInvoice(UNPAID), LOST),
    ("in the place of ours, late", AT_LOCK, EXPIRED, ASKED, "lnert1", DropInvoice(EXPIRED), LOST),
    ("paid", EARLY, PAID, NONE, None, None, LOST),
    ("shown and paid", AT_LOCK, PAID, ASKED, "lnert1other", None, LOST),
    ("paid, and ours was", AT_LOCK, PAID, SEEN_PAID, "lnert1", None, SEEN_PAID),
    ("before a refund", AT_LOCK, UNPAID, REFUNDING, None, DropInvoice(UNPAID), REFUNDING),
]


@pytest.mark.parametrize("wrong", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("row", FOREIGN_TABLE, ids=lambda r: r[0])
def test_an_invoice_that_is_not_the_swaps_is_never_shown(
    row: tuple[str, int, InvoiceStatus, InvoiceMark, str | None, Action | None, InvoiceMark],
    wrong: dict[str, Any],
) -> None:
    """Closed while it is unpaid, so that ours can be made; paid, it is the operator's to decide."""
    _, height, status, before, bolt11, action, after = row
    swap = replace(SWAP, invoice_mark=before, bolt11=bolt11, state=F)
    found = invoice(status)
    assert found is not None
    decision = reconcile(swap, facts(), replace(found, **wrong), tip(height), POLICY)
    assert (decision.action, decision.swap.invoice_mark) == (action, after)
    assert decision.swap.bolt11 is None
    assert decision.swap.invoice_expires_at is None


def test_after_a_foreign_invoice_is_gone_ours_is_made() -> None:
    """The swap goes on as if it had not been there."""
    swap = replace(SWAP, invoice_mark=ASKED, state=F)
    seen = reconcile(swap, facts(), foreign_invoice(UNPAID), tip(EARLY), POLICY)
    gone = reconcile(seen.swap, facts(), invoice(ABSENT), tip(EARLY), POLICY)
    assert gone.action == MakeInvoice(3_600)


def test_failed_is_not_a_state_of_a_funded_swap() -> None:
    """The reconciler never says FAILED: a funding that was signed may confirm."""
    states = {
        decide(h, s, f, mark=m).swap.state
        for h, s, m in product((600, AT_LOCK), [None, *InvoiceStatus], InvoiceMark)
        for f in (ChainFacts(), facts(None), facts(600))
    }
    assert X not in states
