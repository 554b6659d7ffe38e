"""`domain.next_step`: for every stage of a swap what is awaited, by which block, and who acts."""

from typing import Any

import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.domain.next_step import Actor, PayWindow, outlook, pay_window
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import ChainFacts, MakeInvoice, Policy, Refund, reconcile
from lnliquid.domain.swap import InvoiceMark, State, Tip

from ..builders import LOCK_HEIGHT, NOW, TIMELOCKS, make_swap

POLICY = Policy(funding_confs=1, final_confs=2, timelocks=TIMELOCKS)
LAST = TIMELOCKS.last_height_to_pay(LOCK_HEIGHT)
"""The last block under which a payment may start."""

OPEN: dict[str, Any] = {
    "state": State.FUNDED,
    "bolt11": "lnert1",
    "invoice_expires_at": NOW + 60,
    "invoice_mark": InvoiceMark.ASKED,
}


def test_a_reopened_swap_is_named_as_one_in_whatever_state() -> None:
    """Until it is final again; what is awaited stands behind it."""
    for changes in ({}, OPEN, OPEN | {"invoice_mark": InvoiceMark.PAID}, {"state": State.CLAIMED}):
        before = outlook(make_swap(**changes), 500, NOW, POLICY)
        after = outlook(make_swap(**changes, final_height=400), 500, NOW, POLICY)
        assert before is not None
        assert after is not None
        assert after.awaited == f"REOPENED by a chain incident: {before.awaited}"
    final = make_swap(state=State.CLAIMED, final_height=400, finished=True)
    assert outlook(final, 500, NOW, POLICY) is None


@pytest.mark.parametrize(
    ("changes", "tip_height", "actor", "by_height", "awaited"),
    [
        ({"funding_txid": None}, 500, Actor.DAEMON, None, "the funding transaction is signed"),
        ({}, 500, Actor.CHAIN, LAST - 1, "the funding gets 2 confirmations"),
        ({"state": State.FUNDED}, 500, Actor.DAEMON, LAST - 1, "the invoice is made"),
        (OPEN, 500, Actor.BUYER, LAST, "the buyer pays"),
        (OPEN, LAST, Actor.BUYER, LAST, "the buyer pays"),
        (OPEN, None, Actor.BUYER, LAST, "the buyer pays"),
        (OPEN, LAST + 1, Actor.CHAIN, LOCK_HEIGHT, "the invoice was not paid"),
        (
            OPEN | {"invoice_expires_at": NOW}, 500, Actor.CHAIN, LOCK_HEIGHT,
            "the invoice was not paid",
        ),
        (
            OPEN | {"invoice_mark": InvoiceMark.CLOSED}, 500, Actor.CHAIN, LOCK_HEIGHT,
            "the invoice was not paid",
        ),
        (OPEN, LOCK_HEIGHT, Actor.DAEMON, None, "the refund is signed"),
        (OPEN | {"invoice_mark": InvoiceMark.REFUNDING}, LOCK_HEIGHT + 2, Actor.DAEMON, None,
         "the refund is signed"),
        (OPEN | {"invoice_mark": InvoiceMark.PAID}, 500, Actor.BUYER, LOCK_HEIGHT, "claims"),
        (OPEN | {"invoice_mark": InvoiceMark.PAID}, LOCK_HEIGHT, Actor.OPERATOR, None, "claims"),
        (
            OPEN | {"invoice_mark": InvoiceMark.PAID, "paid_unclaimed": True}, None,
            Actor.OPERATOR, None, "claims",
        ),
        (
            OPEN | {"invoice_mark": InvoiceMark.LOST}, 500, Actor.OPERATOR, LOCK_HEIGHT,
            "a look at Lightning",
        ),
        (
            OPEN | {"invoice_mark": InvoiceMark.PAID, "forced_refund_reason": "x"}, LOCK_HEIGHT,
            Actor.DAEMON, LOCK_HEIGHT, "the operator ordered",
        ),
        ({"state": State.CLAIMED}, 500, Actor.CHAIN, None, "the claim gets 2 confirmations"),
        ({"state": State.REFUNDED}, 500, Actor.CHAIN, None, "the refund gets 2 confirmations"),
    ],
)  # fmt: skip
def test_each_stage_has_its_outlook(
    changes: dict[str, Any],
    tip_height: int | None,
    actor: Actor,
    by_height: int | None,
    awaited: str,
) -> None:
    """Whose turn it is, by which block, and for what."""
    found = outlook(make_swap(**changes), tip_height, NOW, POLICY)
    assert found is not None
    assert (found.actor, found.by_height) == (actor, by_height)
    assert awaited in found.awaited


@pytest.mark.parametrize("state", [State.CLAIMED, State.REFUNDED, State.FAILED])
def test_a_final_swap_has_none(state: State) -> None:
    """Nothing is awaited any more."""
    assert outlook(make_swap(state=state, finished=True), 500, NOW, POLICY) is None


def test_the_last_blocks_are_those_of_the_reconciler() -> None:
    """Under the last block told an invoice is still made, one later not; the refund likewise."""
    swap = make_swap(state=State.FUNDED)
    absent = Invoice(swap.swap_id, InvoiceStatus.ABSENT)
    facts = ChainFacts(funding_seen=True, funding_height=400)

    def action(height: int) -> object:
        return reconcile(swap, facts, absent, Tip(height, "b"), POLICY).action

    told = outlook(swap, 500, NOW, POLICY)
    assert told is not None
    assert told.by_height is not None
    assert isinstance(action(told.by_height), MakeInvoice)
    assert action(told.by_height + 1) is None
    assert action(LOCK_HEIGHT - 1) is None
    assert isinstance(action(LOCK_HEIGHT), Refund)


@pytest.mark.parametrize(
    ("changes", "tip_height", "is_over"),
    [
        ({}, 500, False),
        ({}, LAST - 1, False),
        ({}, LAST, True),  # an invoice that is still to be made needs a block
        ({"state": State.FUNDED}, LAST - 1, False),
        ({"state": State.FUNDED}, LAST, True),
        ({"state": State.FUNDED, "invoice_mark": InvoiceMark.CLOSED}, 500, False),
        (OPEN, 500, False),
        (OPEN, None, False),
        (OPEN, LAST, False),
        (OPEN, LAST + 1, True),
        (OPEN | {"invoice_expires_at": NOW + 1}, 500, False),
        (OPEN | {"invoice_expires_at": NOW}, 500, True),
        (OPEN | {"invoice_mark": InvoiceMark.REFUNDING}, None, True),
        (OPEN | {"invoice_mark": InvoiceMark.LOST}, 500, True),
        (OPEN | {"invoice_mark": InvoiceMark.PAID}, LOCK_HEIGHT, False),
        (OPEN | {"state": State.CLAIMED}, LOCK_HEIGHT, False),
        (OPEN | {"state": State.REFUNDED}, 500, True),
        ({"state": State.FAILED}, 500, True),
    ],
)
def test_the_time_for_paying_is_over(
    changes: dict[str, Any], tip_height: int | None, is_over: bool
) -> None:
    """By block, by the invoice's end or by its end in Lightning; what was paid is not over."""
    window = pay_window(make_swap(**changes), tip_height, NOW, TIMELOCKS)
    assert window == PayWindow(LAST, is_over=is_over)


def test_before_the_funding_is_signed_no_block_is_the_last() -> None:
    """The lock height is not chosen yet; what has failed is over."""
    unsigned: dict[str, Any] = {"funding_txid": None, "refund_lock_height": None}
    assert pay_window(make_swap(**unsigned), 500, NOW, TIMELOCKS) == PayWindow(0, is_over=False)
    failed = make_swap(**unsigned, state=State.FAILED)
    assert pay_window(failed, 500, NOW, TIMELOCKS) == PayWindow(0, is_over=True)


def test_the_actors_have_the_numbers_of_the_schema() -> None:
    """They are sent as numbers."""
    assert {f"ACTOR_{actor.name}": int(actor) for actor in Actor} == {
        name: number for name, number in pb.Actor.items() if number
    }
