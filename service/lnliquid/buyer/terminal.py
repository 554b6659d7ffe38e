"""How the commands speak: progress and errors on stderr, the result on stdout, exit codes."""

import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import typer
from rich.console import Console
from rich.text import Text

from lnliquid.buyer.errors import EXIT_UNAVAILABLE, EXIT_USAGE, BuyerError
from lnliquid.buyer.facts import Verdict
from lnliquid.buyer.words import short
from lnliquid.buyer.work import Progress
from lnliquid.errors import BackendError, SettingsError, StoreFailure, SwapError

EXIT_CODES = """\b
Exit codes:
  0  done
  1  failed: a check found something wrong, the seller declined, the payment
     failed, or you said no
  2  wrong usage or settings
  3  the seller, Electrum server or Lightning node cannot be reached
  4  unfinished: go on with `lnliquid resume`"""


def plain(text: str) -> str:
    """Text of others without control characters, which could rewrite what the terminal shows."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def say(text: str, style: str = "", indent: int = 0) -> None:
    """A line for the person, on stderr; on a terminal broken between words, then indented."""
    _print(Console(stderr=True, highlight=False, soft_wrap=True), text, style, indent)


def show(text: str, indent: int = 0) -> None:
    """A line of the result, on stdout, broken as by `say`."""
    _print(Console(highlight=False, soft_wrap=True), text, "", indent)


def _print(console: Console, text: str, style: str, indent: int) -> None:
    text = plain(text)
    if console.is_terminal:  # whatever reads a pipe wants lines as they are
        text = "\n".join(_fitted(line, console.width, indent) for line in text.split("\n"))
    console.print(Text(text, style=style))


def _fitted(line: str, width: int, indent: int) -> str:
    return "\n".join(
        textwrap.wrap(
            line,
            max(width, 40),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )
        or [""]
    )


def show_json(values: dict[str, Any]) -> None:
    """The result as one JSON object on stdout."""
    sys.stdout.write(json.dumps(values, indent=2) + "\n")


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


def quiet_log() -> None:
    """Keep the adapters' log off stdout; what matters to a person comes as progress or error."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(40),
    )


def exit_code(error: Exception) -> int:
    """What the process ends with after this error."""
    match error:
        case BuyerError():
            return error.exit_code
        case BackendError():
            return EXIT_UNAVAILABLE
        case _:
            return EXIT_USAGE


def describe(error: Exception) -> str:
    """Message and hint for a person."""
    if isinstance(error, SettingsError) and error.hint:
        return f"{error}\nhint: {error.hint}"
    return str(error)


@contextmanager
def clean_errors(as_json: bool = False) -> Iterator[None]:
    """End the command with a message and an exit code, never with a traceback, on known errors.

    With `as_json` stdout gets `{"error": …, "exit_code": …}`.
    """
    try:
        yield
    except (BuyerError, BackendError, SettingsError, StoreFailure, SwapError) as error:
        code = exit_code(error)
        say(describe(error), style="red")
        if as_json:
            show_json({"error": describe(error), "exit_code": code})
        raise typer.Exit(code) from None
