"""Running purchases for the command line: what it shows, and how they end."""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import typer

from lnliquid import faults
from lnliquid.buyer import terminal, words
from lnliquid.buyer.client import Outcome
from lnliquid.buyer.errors import NotAgreed, Unfinished, VerdictNotClean
from lnliquid.buyer.facts import Verdict
from lnliquid.buyer.journal import Journal, Record
from lnliquid.console import describe, quiet_log, say, show, show_json
from lnliquid.errors import EXIT_UNAVAILABLE, KnownError
from lnliquid.formatting import columns

T = TypeVar("T")


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, with the adapters' log kept off stdout."""
    quiet_log()
    return asyncio.run(work)


def conclude(
    journal: Journal, request_id: str, work: Coroutine[Any, Any, Outcome]
) -> tuple[dict[str, Any], int]:
    """Run a purchase to its end or its error; its JSON form, and the exit code."""
    [end] = conclude_all(journal, {request_id: work})
    return end


def conclude_all(
    journal: Journal, works: Mapping[str, Coroutine[Any, Any, Outcome]]
) -> list[tuple[dict[str, Any], int]]:
    """The same for several purchases by request id, side by side.

    One that has to wait, for a payment that somebody holds or for a seller that delays, or that
    meets a fault, keeps no other from being claimed in time.
    """
    errors: dict[str, Exception | None] = {
        request_id: Unfinished(request_id, "interrupted") for request_id in works
    }

    async def one(request_id: str, work: Coroutine[Any, Any, Outcome]) -> None:
        try:
            await work
        except Exception as error:
            errors[request_id] = error
        else:
            errors[request_id] = None

    async def every() -> None:
        await asyncio.gather(*(one(*item) for item in works.items()))

    with contextlib.suppress(KeyboardInterrupt):
        run_now(every())
    return [_ended(journal, request_id, error) for request_id, error in errors.items()]


def _ended(
    journal: Journal, request_id: str, error: Exception | None
) -> tuple[dict[str, Any], int]:
    record = journal.find(request_id)
    values: dict[str, Any] = Outcome(record).to_dict() if record else {"request_id": request_id}
    if error is None:
        return values | {"exit_code": 0}, 0
    if not isinstance(error, KnownError):
        code = faults.report(error)
        return values | {"error": "a fault of this program", "exit_code": code}, code
    if isinstance(error, VerdictNotClean):
        terminal.say_verdict(error.verdict)
    say(describe(error), style="red")
    code = error.exit_code
    if record and not record.step.is_over and code == EXIT_UNAVAILABLE:
        say(f"go on with `lnliquid resume {request_id}`")
    return values | {"error": describe(error), "exit_code": code}, code


def finish(
    journal: Journal, request_id: str, as_json: bool, work: Coroutine[Any, Any, Outcome]
) -> None:
    """Run one purchase, show the result, end with its exit code."""
    values, code = conclude(journal, request_id, work)
    record = journal.find(request_id)
    if as_json:
        show_json(values)
    elif record and code == 0:
        if record.dry_run and record.verdict:
            terminal.say_verdict(Verdict.from_dict(record.verdict))
        show_record(record)
    raise typer.Exit(code)


def show_record(record: Record) -> None:
    """The purchase on stdout, without secrets."""
    for row in words.record_rows(record):
        show(columns([row]), indent=13)


def agree(question: str, otherwise: str) -> None:
    """Ask the person. Raises `NotAgreed`, saying `otherwise`, unless the answer is yes."""
    try:
        is_agreed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        say("")
        is_agreed = False
    if not is_agreed:
        raise NotAgreed(otherwise)
