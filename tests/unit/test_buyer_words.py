"""What a buyer reads: amounts with units, columns that fit 80, and always a next step."""

from dataclasses import replace

import pytest

from lnliquid import buyer_output as words
from lnliquid.buyer import Order, Record, Step
from lnliquid.buyer.answers import from_printed

from .test_buyer_verify import ASSET, REQUEST_ID, good


def record(step: Step, *, dry_run: bool = False, with_swap: bool = True) -> Record:
    """A purchase that has come so far."""
    facts = good()
    swap = replace(facts.swap, total_price_msat=150_500).to_dict()
    return Record(
        order=Order("7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11", ASSET, 1_000, 2 * 10**9, 2, 5_000),
        network="liquid-regtest",
        seller="127.0.0.1:50051",
        key_index=0,
        claim_address=facts.want.claim_address,
        created_at=1_800_000_000,
        offer={"asset_precision": 2},
        step=step,
        dry_run=dry_run,
        swap=from_printed(swap) if with_swap else None,
    )


def test_lists_fit_eighty_columns() -> None:
    """Offer, quote, purchase and history; sentences may be longer, ids and labels not."""
    facts = good()
    offer = words.offer_rows(facts.offer, "127.0.0.1:50051")
    assert max(14 + len(value) for _, value in offer) <= 80
    quote = words.quote_rows(facts.offer, Order(REQUEST_ID, ASSET, 1_000, 160_000, 2, 5_000))
    assert max(13 + len(value) for _, value in quote) <= 80
    assert ("you pay", "150 sat (your limit: 160 sat)") in quote
    for step in Step:
        shown = record(step)
        assert max(map(len, words.history_lines(shown))) <= 80
        listed = [row for row in words.record_rows(shown) if row[0] != "next"]
        assert max(13 + len(value) for _, value in listed) <= 80


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("step", list(Step))
def test_every_step_says_whether_money_left_and_what_comes_next(step: Step, dry_run: bool) -> None:
    """Nobody is sent to pay again what is over, and nobody who has paid is told to do nothing."""
    shown = record(step, dry_run=dry_run)
    text = words.next_step(shown)
    paid = step in (Step.PAID, Step.CLAIMING, Step.LOST)
    unpaid = step in (Step.REQUESTED, Step.CREATED, Step.REFUSED, Step.DECLINED)
    if not (dry_run and not step.is_over):
        assert ("you have paid" in text or "you paid" in text) == paid
        assert ("nothing was paid" in text) == unpaid
    resumes = step not in (Step.DONE, Step.DECLINED, Step.LOST)
    assert (f"lnliquid resume {shown.order.request_id}" in text) == resumes
    assert shown.label == (f"{step.value}, dry run" if dry_run and not step.is_over else step.value)


def test_a_purchase_without_a_reply_can_be_shown() -> None:
    """Before the seller has answered there is no swap, no price and no lock height."""
    rows = dict(words.record_rows(record(Step.REQUESTED, with_swap=False)))
    assert (rows["swap"], rows["price"], rows["refund from"], rows["claim"]) == ("-",) * 4
    assert "nothing was paid" in rows["next"]
