"""What commands write: results on stdout, the rest on stderr, and an exit code for each error."""

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

from lnliquid.domain.errors import KnownError

PIPE_WIDTH = 200
"""Columns where the output goes to a program, which must not find lines cut."""


def plain(text: str) -> str:
    """Text of others without control characters, which could rewrite what the terminal shows."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal, or wide enough for whole lines in a pipe."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPE_WIDTH
    return Console(highlight=False, stderr=stderr, width=width)


def say(text: str, style: str = "", indent: int = 0) -> None:
    """A line for the person, on stderr; on a terminal broken between words, then indented."""
    _print(console(stderr=True), text, style, indent)


def show(text: str, style: str = "", indent: int = 0) -> None:
    """A line of the result, on stdout, broken as by `say`."""
    _print(console(), text, style, indent)


def _print(target: Console, text: str, style: str, indent: int) -> None:
    text = plain(text)
    if target.is_terminal:  # whatever reads a pipe wants lines as they are
        text = "\n".join(_fitted(line, target.width, indent) for line in text.split("\n"))
    target.print(Text(text, style=style), soft_wrap=True)


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


def quiet_log() -> None:
    """Keep the adapters' log off stdout; what matters to a person comes as progress or error."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(40),
    )


def describe(error: KnownError) -> str:
    """Message and hint for a person."""
    return f"{error}\nhint: {error.hint}" if error.hint else str(error)


@contextmanager
def clean_errors(as_json: bool = False) -> Iterator[None]:
    """End the command with message and exit code of a `KnownError`, never with a traceback.

    With `as_json` stdout gets `{"error": …, "exit_code": …}`.
    """
    try:
        yield
    except KnownError as error:
        say(describe(error), style="red")
        if as_json:
            show_json({"error": describe(error), "exit_code": error.exit_code})
        raise typer.Exit(error.exit_code) from None
