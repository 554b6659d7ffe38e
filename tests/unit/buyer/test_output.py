"""What a buyer reads: columns that fit 80, always a next step, and advice for each failed check."""

import pytest

from lnliquid.buyer import Check, Order, Record, Step, Verdict
from lnliquid.buyer.answers import from_printed
from lnliquid.buyer.verify import CHECKS
from lnliquid.cli import buyer_output as output
from lnliquid.cli.console import say
from lnliquid.domain.timelock import LightningChain

from .test_verify import ASSET, REQUEST_ID, WRONG, both, good, swap


def record(step: Step, *, dry_run: bool = False, with_swap: bool = True) -> Record:
    """A purchase that has come so far."""
    facts = swap(total_price_msat=150_500)(good())
    return Record(
        order=Order(REQUEST_ID, ASSET, 1_000, 2 * 10**9, 2, 5_000),
        network="liquid-regtest",
        seller="127.0.0.1:50051",
        key_index=0,
        claim_address=facts.want.claim_address,
        created_at=1_800_000_000,
        offer={"asset_precision": 2},
        step=step,
        dry_run=dry_run,
        swap=from_printed(facts.swap.to_dict()) if with_swap else None,
    )


def test_lists_fit_eighty_columns() -> None:
    """Offer, quote, purchase and history; sentences may be longer, ids and labels not."""
    offer = good().offer
    shown = output.offer_rows(offer, "127.0.0.1:50051")
    quote = output.quote_rows(
        offer, Order(REQUEST_ID, ASSET, 1_000, 160_000, 2, 5_000), LightningChain.BITCOIN
    )
    assert ("you pay", "150 sat (your limit: 160 sat)") in quote
    for step in Step:
        assert max(map(len, output.history_lines(record(step)))) <= 80
        quote += [row for row in output.record_rows(record(step)) if row[0] != "next"]
    assert max(14 + len(value) for _, value in shown) <= 80
    assert max(13 + len(value) for _, value in quote) <= 80


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("step", list(Step))
def test_every_step_says_whether_money_left_and_what_comes_next(step: Step, dry_run: bool) -> None:
    """No text sends a buyer to pay again, or tells one who has paid to do nothing."""
    shown = record(step, dry_run=dry_run)
    text = output.next_step(shown)
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
    rows = dict(output.record_rows(record(Step.REQUESTED, with_swap=False)))
    assert (rows["swap"], rows["price"], rows["refund from"], rows["claim"]) == ("-",) * 4
    assert "nothing was paid" in rows["next"]


def test_advice_is_whole_sentences_that_say_what_to_do() -> None:
    """And never to pay."""
    for rule in CHECKS:
        assert rule.meaning.endswith("."), rule.name
        assert rule.action.endswith("."), rule.name
        assert rule.action.startswith(("Do not pay", "Correct", "Wait", "If ", "Read")), rule.name


def test_each_failed_check_is_shown_with_all_that_a_person_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Expected, found, meaning and action of each failed check; a passed one takes one line."""
    for change in (both(), *(change for _, change in WRONG.values())):
        verdict = change(good()).verdict()
        output.write_verdict(verdict, say)
        shown = capsys.readouterr().err
        for check in verdict.failed:
            assert (
                f"WRONG  {check.name}\n"
                f"         expected   {check.expected}\n"
                f"         found      {check.found}\n"
                f"         it means   {check.meaning}\n"
                f"         what to do {check.advice}\n"
            ) in shown
        assert shown.count("\n") == len(verdict.checks) + 4 * len(verdict.failed)


def test_passed_checks_fit_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are cut to their ends, so that most checks are one line of at most 80 columns."""
    output.write_verdict(good().verdict())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["ok"] * len(CHECKS)
    long = [line for line in lines if len(line) > 80]
    assert [line[7:27].strip() for line in long] == ["payment hash", "timelock budget"]


def test_a_verdict_of_an_older_journal_is_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Journals written before there were meanings load, and show the advice that they have."""
    stored = {"name": "state", "ok": False, "expected": "a", "found": "b", "advice": "Wait."}
    verdict = Verdict.from_dict({"ok": False, "checks": [stored]})
    assert verdict.checks == (Check("state", False, "a", "b", "Wait."),)
    output.write_verdict(verdict)
    shown = capsys.readouterr().out
    assert "what to do Wait." in shown
    assert "it means" not in shown
