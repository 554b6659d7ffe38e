"""How the commands speak: progress and errors on stderr, the result on stdout, exit codes."""

import sys
from collections.abc import Iterator

from lnliquid.buyer.facts import Verdict
from lnliquid.buyer.work import Progress
from lnliquid.console import clean_errors as clean_errors
from lnliquid.console import describe as describe
from lnliquid.console import plain as plain
from lnliquid.console import quiet_log as quiet_log
from lnliquid.console import say as say
from lnliquid.console import show as show
from lnliquid.console import show_json as show_json
from lnliquid.formatting import short

EXIT_CODES = """\b
Exit codes:
  0  done
  1  failed: a check found something wrong, the seller declined, the payment
     failed, or you said no
  2  wrong usage or settings
  3  the seller, Electrum server or Lightning node cannot be reached
  4  unfinished: go on with `lnliquid resume`"""


def say_progress(progress: Progress, of_which: str = "") -> None:
    """A progress line; on a terminal long ids are cut to their ends.

    `of_which` names the purchase when several go on at once.
    """
    text = short(progress.text) if sys.stderr.isatty() else progress.text
    say(f"{progress.step:>8}  {f'{of_which}  ' if of_which else ''}{text}", indent=10)


def verdict_lines(verdict: Verdict) -> Iterator[tuple[bool, str]]:
    """Whether it is good, and a line: one for a check that passed, five for one that did not."""
    for check in verdict.checks:
        if check.ok:
            yield True, f"ok     {check.name:20} {short(check.found)}"
            continue
        yield False, f"WRONG  {check.name}"
        yield False, f"         expected   {check.expected}"
        yield False, f"         found      {check.found}"
        if check.meaning:  # journals of older versions have none
            yield False, f"         it means   {check.meaning}"
        yield False, f"         what to do {check.advice}"


def say_verdict(verdict: Verdict) -> None:
    """All checks on stderr, with advice for those that failed."""
    for good, line in verdict_lines(verdict):
        say(line, style="green" if good else "bold red", indent=28 if good else 20)


def show_verdict(verdict: Verdict) -> None:
    """All checks on stdout, with advice for those that failed."""
    for good, line in verdict_lines(verdict):
        show(line, indent=28 if good else 20)
