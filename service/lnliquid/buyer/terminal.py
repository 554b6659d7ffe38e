"""How the commands speak: progress and errors on stderr, the result on stdout, exit codes."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import typer
from rich.console import Console
from rich.text import Text

from lnliquid.buyer.errors import EXIT_UNAVAILABLE, EXIT_USAGE, BuyerError
from lnliquid.buyer.facts import Verdict
from lnliquid.buyer.work import Progress
from lnliquid.errors import BackendError, SettingsError

EXIT_CODES = """\b
Exit codes:
  0  done
  1  failed: the checks found something wrong, the seller declined, or the payment failed
  2  wrong usage or settings
  3  the seller, Electrum server or Lightning node cannot be reached
  4  unfinished: go on with `lnliquid resume`"""


def plain(text: str) -> str:
    """Text of others without control characters, which could rewrite what the terminal shows."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def say(text: str, style: str = "") -> None:
    """A line for the person, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(plain(text), style=style))


def show(text: str) -> None:
    """A line of the result, on stdout."""
    Console(highlight=False, soft_wrap=True).print(Text(plain(text)))


def show_json(values: dict[str, Any]) -> None:
    """The result as one JSON object on stdout."""
    sys.stdout.write(json.dumps(values, indent=2) + "\n")


def say_progress(progress: Progress) -> None:
    """A progress line."""
    say(f"{progress.step:>8}  {progress.text}")


def say_verdict(verdict: Verdict) -> None:
    """One line a check."""
    for check in verdict.checks:
        say(str(check), style="green" if check.ok else "bold red")


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
    except (BuyerError, BackendError, SettingsError) as error:
        code = exit_code(error)
        say(describe(error), style="red")
        if as_json:
            show_json({"error": describe(error), "exit_code": code})
        raise typer.Exit(code) from None
