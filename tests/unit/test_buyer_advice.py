"""Every check that can fail tells a person what it means and what to do, and it is shown."""

import pytest

from lnliquid import console
from lnliquid.buyer import Check, Verdict
from lnliquid.buyer.verify import CHECKS
from lnliquid.buyer_output import write_verdict

from .test_buyer_verify import WRONG, good

ADVICE = {rule.name: rule for rule in CHECKS}


def test_there_is_advice_for_exactly_the_checks_that_run() -> None:
    """In their order; two whole sentences or more, of which one tells what to do."""
    assert list(ADVICE) == [check.name for check in good().verdict().checks]
    for name, advice in ADVICE.items():
        assert advice.meaning.endswith("."), name
        assert advice.action.endswith("."), name
        verbs = ("Do not pay", "Correct", "Wait", "If ", "Read")
        assert advice.action.startswith(verbs), name


@pytest.mark.parametrize("case", WRONG)
def test_a_failed_check_is_shown_with_all_that_a_person_needs(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Expected, found, meaning and action of each failed check; a passed one takes one line."""
    verdict = WRONG[case][1](good()).verdict()
    write_verdict(verdict, console.say)
    shown = capsys.readouterr().err
    for check in verdict.failed:
        block = shown.split(f"WRONG  {check.name}\n")[1]
        values = (
            check.expected,
            check.found,
            ADVICE[check.name].meaning,
            ADVICE[check.name].action,
        )
        for text, label in zip(
            values, ("expected", "found", "it means", "what to do"), strict=True
        ):
            line, block = block.split("\n", 1)
            assert line == f"         {label:10} {text}"
    assert shown.count("\n") == len(verdict.checks) + 4 * len(verdict.failed)


def test_passed_checks_fit_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are cut to their ends, so that most checks are one line of at most 80 columns."""
    write_verdict(good().verdict())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ADVICE)
    assert [line.split("  ")[0] for line in lines] == ["ok"] * len(ADVICE)
    long = [line for line in lines if len(line) > 80]
    assert [line[7:27].strip() for line in long] == ["payment hash", "timelock budget"]


def test_a_verdict_of_an_older_journal_is_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Journals written before there were meanings load, and show the advice that they have."""
    stored = {"name": "state", "ok": False, "expected": "a", "found": "b", "advice": "Wait."}
    verdict = Verdict.from_dict({"ok": False, "checks": [stored]})
    assert verdict.checks == (Check("state", False, "a", "b", "Wait."),)
    write_verdict(verdict)
    shown = capsys.readouterr().out
    assert "what to do Wait." in shown
    assert "it means" not in shown
