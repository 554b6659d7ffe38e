"""`domain.reconcile`: the money rules, as properties of any decision on any picture."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import (
    ChainFacts,
    DropInvoice,
    MakeInvoice,
    Refund,
    Spend,
    confirmations,
    reconcile,
)
from lnliquid.domain.swap import InvoiceMark, State, Swap, Tip

from ..builders import LOCK_HEIGHT, TIMELOCKS, txid_of
from .test_reconcile import (
    ABSENT,
    ASKED,
    ASSET_OUT,
    CLOSED,
    EXPIRED,
    LOST,
    NONE,
    PAID,
    POLICY,
    REFUNDING,
    SEEN_PAID,
    SUBSIDY_OUT,
    SWAP,
    UNPAID,
    F,
    foreign_invoice,
    invoice,
    tip,
)

heights = st.none() | st.integers(590, 1_010)
spends = st.none() | st.builds(
    Spend,
    txid=st.sampled_from([txid_of(1), txid_of(2)]),
    height=heights,
    kind=st.sampled_from([SpendKind.CLAIM, SpendKind.REFUND, None]),
)
any_facts = st.builds(
    ChainFacts,
    funding_seen=st.booleans(),
    funding_height=heights,
    asset_spend=spends,
    subsidy_spend=spends,
)
any_status = st.sampled_from(list(InvoiceStatus))
any_invoice = st.none() | any_status.map(invoice)
any_bill = any_invoice | any_status.map(foreign_invoice)
any_tip = st.sampled_from([600, 602, 700, 871, 872, 873, 874, 998, 999, 1_000, 1_001]).map(tip)
any_swap = st.builds(
    lambda bolt11, invoice_mark, **others: replace(
        SWAP,
        invoice_mark=invoice_mark,
        bolt11=None if invoice_mark is NONE else bolt11,  # what was never asked for is not there
        **others,
    ),
    state=st.sampled_from(list(State)),
    bolt11=st.none() | st.just("lnert1"),
    invoice_mark=st.sampled_from(list(InvoiceMark)),
    spend_txid=st.none() | st.just(txid_of(1)),
    paid_unclaimed=st.booleans(),
    finished=st.booleans(),
    min_funding_confs=st.integers(1, 6),
    forced_refund_reason=st.none() | st.just("asked"),
)


@given(any_swap, any_facts, any_bill, any_tip, st.sampled_from(list(State)), st.booleans())
def test_the_state_before_does_not_matter(
    swap: Swap,
    seen: ChainFacts,
    bill: Invoice | None,
    at: Tip,
    before: State,
    flag: bool,
) -> None:
    """Money rule 5: another past with the same marks leads to the same decision.

    But what the operator was shown stays shown while nothing is locked: its funding is abandoned.
    """
    other = replace(swap, state=before, spend_txid=None, finished=flag)
    decision = reconcile(swap, seen, bill, at, POLICY)
    assert decision == reconcile(other, seen, bill, at, POLICY)
    if decision.swap.state is not State.CREATED:
        shown = replace(other, paid_unclaimed=not swap.paid_unclaimed)
        assert decision == reconcile(shown, seen, bill, at, POLICY)


@given(any_swap, any_facts, any_bill, any_tip)
def test_a_decision_that_was_stored_is_stable(
    swap: Swap, seen: ChainFacts, bill: Invoice | None, at: Tip
) -> None:
    """Deciding again on the same picture changes nothing more and asks for nothing else."""
    first = reconcile(swap, seen, bill, at, POLICY)
    second = reconcile(first.swap, seen, bill, at, POLICY)
    assert second.swap.state is first.swap.state
    if first.swap.bolt11 == swap.bolt11:
        assert (second.swap, second.action) == (first.swap, first.action)
    third = reconcile(second.swap, seen, bill, at, POLICY)
    assert (third.swap, third.action) == (second.swap, second.action)


@given(any_swap, any_facts, any_bill, any_tip)
def test_no_refund_against_money_rule_4(
    swap: Swap, seen: ChainFacts, bill: Invoice | None, at: Tip
) -> None:
    """Of the asset: at the lock height, unspent, confirmed, invoice known gone and never paid."""
    decision = reconcile(swap, seen, bill, at, POLICY)
    if not isinstance(decision.action, Refund):
        return
    assert at.height >= LOCK_HEIGHT
    assert decision.swap.invoice_mark in (REFUNDING, SEEN_PAID, LOST)
    taken = set(decision.action.outpoints)
    assert taken
    assert taken <= {ASSET_OUT, SUBSIDY_OUT}
    assert not (SUBSIDY_OUT in taken and seen.subsidy_spend is not None)
    if ASSET_OUT in taken:
        assert seen.asset_spend is None
        assert confirmations(seen.funding_height, at) >= max(2, swap.min_funding_confs)
        if swap.forced_refund_reason is None:  # by hand what was paid, or perhaps was, may be too
            assert decision.swap.invoice_mark is REFUNDING
            assert bill is not None
            assert bill.status is ABSENT
            assert swap.invoice_mark is not SEEN_PAID
            assert swap.invoice_mark is not ASKED or swap.bolt11 is None
    else:  # a leftover, long after the asset is gone
        assert seen.asset_spend is not None
        assert confirmations(seen.asset_spend.height, at) >= 2


@given(any_swap, any_facts, any_invoice, any_tip)
def test_no_invoice_against_money_rule_3(
    swap: Swap, seen: ChainFacts, bill: Invoice | None, at: Tip
) -> None:
    """Made only when the lock is confirmed, unspent, and there is time to pay and to claim."""
    decision = reconcile(swap, seen, bill, at, POLICY)
    if isinstance(decision.action, MakeInvoice):
        assert decision.swap.state is F
        assert confirmations(seen.funding_height, at) >= max(2, swap.min_funding_confs)
        assert seen.asset_spend is None
        assert bill is not None
        assert bill.status is ABSENT
        assert swap.invoice_mark in (NONE, ASKED, CLOSED)
        assert decision.swap.invoice_mark is ASKED
        blocks_used = -(-decision.action.expiry_secs // 60)
        assert 10 <= decision.action.expiry_secs <= TIMELOCKS.invoice_expiry_secs
        assert LOCK_HEIGHT - at.height - blocks_used >= TIMELOCKS.blocks_to_pay_and_claim
    if isinstance(decision.action, DropInvoice):
        assert bill is not None
        assert bill.status is decision.action.status
        assert bill.status in (UNPAID, EXPIRED)
        assert decision.swap.invoice_mark in (CLOSED, REFUNDING, SEEN_PAID)


@given(any_swap, any_facts, any_invoice, any_tip)
def test_paid_is_for_ever_and_final_is_buried(
    swap: Swap, seen: ChainFacts, bill: Invoice | None, at: Tip
) -> None:
    """No later picture takes the mark away; nothing unburied or still payable is finished."""
    decision = reconcile(swap, seen, bill, at, POLICY)
    if swap.invoice_mark is SEEN_PAID or (bill is not None and bill.status is PAID):
        assert decision.swap.invoice_mark is SEEN_PAID
    both = [s for s in (seen.asset_spend, seen.subsidy_spend) if s is not None]
    buried = len(both) == 2 and all(confirmations(s.height, at) >= 2 for s in both)
    settled = bill is not None and bill.status in (ABSENT, PAID)
    is_claimed = decision.swap.state is State.CLAIMED
    assert decision.swap.finished is (buried and (is_claimed or settled))
    kept = {"state", "bolt11", "invoice_expires_at", "invoice_mark", "spend_txid", "paid_unclaimed",
            "finished", "final_height"}  # fmt: skip
    is_final = decision.swap.finished
    height = max(s.height or 0 for s in both) if is_final else swap.final_height
    assert decision.swap.final_height == height
    for name in Swap.__dataclass_fields__:
        if name not in kept:
            assert getattr(decision.swap, name) == getattr(swap, name)


@given(any_swap, any_facts, any_status.map(foreign_invoice), any_tip)
def test_an_invoice_that_is_not_the_swaps_is_never_stored(
    swap: Swap, seen: ChainFacts, bill: Invoice, at: Tip
) -> None:
    """Only closed; what was paid under its label is refunded by the operator alone."""
    decision = reconcile(swap, seen, bill, at, POLICY)
    assert decision.swap.bolt11 != "lnert1other"
    assert bill.status is ABSENT or not isinstance(decision.action, MakeInvoice)
    if bill.status is PAID:
        assert decision.swap.invoice_mark in (LOST, SEEN_PAID)


@given(
    any_swap,
    st.lists(st.tuples(any_facts, any_bill, any_tip), max_size=5),
    st.tuples(any_facts, any_bill, any_tip),
)
def test_missed_repeated_and_reordered_news_do_not_change_the_state(
    swap: Swap,
    news: list[tuple[ChainFacts, Invoice | None, Tip]],
    last: tuple[ChainFacts, Invoice | None, Tip],
) -> None:
    """Whatever was seen on the way, the last picture decides the state and what is final."""
    straight = reconcile(swap, *last, POLICY).swap
    for views in (news, news[::-1], [*news, *news]):
        here = swap
        for view in views:
            here = reconcile(here, *view, POLICY).swap
        after = reconcile(here, *last, POLICY).swap
        assert (after.state, after.finished, after.spend_txid) == (
            straight.state,
            straight.finished,
            straight.spend_txid,
        )
