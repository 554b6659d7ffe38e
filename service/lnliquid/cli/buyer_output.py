"""What the buyer's commands write: offers, purchases, checks; and how a purchase ends."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import typer

from lnliquid.buyer import (
    BuyerError,
    Journal,
    Order,
    Outcome,
    Progress,
    Record,
    Step,
    Verdict,
    offered_hold,
    quote_msat,
)
from lnliquid.buyer.errors import Unfinished, VerdictNotClean
from lnliquid.cli import error_report
from lnliquid.cli.console import describe, quiet_log, say, show, show_json
from lnliquid.cli.formatting import Row, sats, short, span, units, utc
from lnliquid.domain.errors import EXIT_UNAVAILABLE, KnownError
from lnliquid.domain.swap import Offer
from lnliquid.domain.timelock import LIQUID_BLOCK_SECS, Hold, LightningChain

T = TypeVar("T")

EXIT_CODES = """\b
Exit codes:
  0  done
  1  failed: a check found something wrong, the seller declined, the payment
     failed, or you said no
  2  wrong usage or settings
  3  the seller, Electrum server or Lightning node cannot be reached
  4  unfinished: go on with `lnliquid resume`
  5  this machine refused something: disk full, output closed"""


class NotAgreed(BuyerError):
    """The person said no, or could not be asked to the end."""


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, with the adapters' log kept off stdout."""
    quiet_log()
    return asyncio.run(work)


def conclude(
    journal: Journal, works: Mapping[str, Coroutine[Any, Any, Outcome]]
) -> list[tuple[dict[str, Any], int]]:
    """Run purchases by request id, side by side; the JSON form and the exit code of each.

    One that has to wait, for a held payment or a slow seller, or that meets a fault, keeps no other
    from being claimed in time.
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
    try:
        record, is_unknown = journal.find(request_id), False
    except OSError as unread:
        record, is_unknown, error = None, True, error or unread
    values: dict[str, Any] = Outcome(record).to_dict() if record else {"request_id": request_id}
    if error is None:
        return values | {"exit_code": 0}, 0
    go_on = f"go on with `lnliquid resume {request_id}`"
    if not isinstance(error, KnownError):
        code = error_report.report(error)
        if is_unknown or (record and not record.step.is_over):
            say(go_on)
        refused = error_report.refusal(error)
        why = "a fault of this program" if refused is None else f"this machine refused: {refused}"
        return values | {"error": why, "exit_code": code}, code
    if isinstance(error, VerdictNotClean):
        write_verdict(error.verdict, say)
    say(describe(error), style="red")
    code = error.exit_code
    if record and not record.step.is_over and code == EXIT_UNAVAILABLE:
        say(go_on)
    return values | {"error": describe(error), "exit_code": code}, code


def finish(
    journal: Journal, request_id: str, as_json: bool, work: Coroutine[Any, Any, Outcome]
) -> None:
    """Run one purchase, show the result, end with its exit code."""
    [(values, code)] = conclude(journal, {request_id: work})
    record = journal.find(request_id)
    if as_json:
        show_json(values)
    elif record and code == 0:
        if record.dry_run and record.checks:
            write_verdict(record.checks, say)
        write_rows(record_rows(record))
    raise typer.Exit(code)


def agree(question: str, otherwise: str) -> None:
    """Ask the person. Raises `NotAgreed`, saying `otherwise`, unless the answer is yes."""
    try:
        is_agreed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        say("")
        is_agreed = False
    if not is_agreed:
        raise NotAgreed(otherwise)


def say_progress(progress: Progress, of_which: str = "") -> None:
    """A progress line; on a terminal long ids are cut to their ends.

    `of_which` names the purchase when several go on at once.
    """
    text = short(progress.text) if sys.stderr.isatty() else progress.text
    say(f"{progress.step:>8}  {f'{of_which}  ' if of_which else ''}{text}", indent=10)


def write_verdict(verdict: Verdict, write: Callable[..., None] = show) -> None:
    """All checks: one line for a check that passed, five for one that did not."""
    for check in verdict.checks:
        if check.ok:
            write(f"ok     {check.name:20} {short(check.found)}", "green", indent=28)
            continue
        lines = [("expected", check.expected), ("found", check.found)]
        if check.meaning:  # journals of older versions have none
            lines.append(("it means", check.meaning))
        lines.append(("what to do", check.advice))
        write(f"WRONG  {check.name}", "bold red")
        for label, text in lines:
            write(f"         {label:10} {text}", "bold red", indent=20)


def write_rows(rows: list[Row], write: Callable[..., None] = show, *, width: int = 13) -> None:
    """Labels and values in two columns; with the default width an id still fits 80 columns."""
    for label, value in rows:
        write(f"{label:{width}}{value}", indent=width)


def _until(offer: Offer) -> str:
    return f", until {utc(offer.price_valid_until)} UTC" if offer.price_valid_until else ""


def add_commands(cli: typer.Typer, commands: Mapping[str, Callable[..., None]]) -> None:
    """Add commands, each by an example that begins with its name."""
    for example, command in commands.items():
        epilog = f"\b\nExample:\n  lnliquid {example}\n\n{EXIT_CODES}"
        cli.command(example.split()[0], epilog=epilog, rich_help_panel="Buyer")(command)


def offer_rows(offer: Offer, seller: str) -> list[Row]:
    """An offer with units and what its numbers mean."""
    over_bitcoin, over_liquid = (Hold(offer.max_ln_cltv_blocks, chain) for chain in LightningChain)
    refund_secs = offer.refund_delta_blocks * LIQUID_BLOCK_SECS
    precision = offer.asset_precision
    most = units(offer.max_swap_amount, precision)
    return [
        ("seller", seller),
        ("node", offer.lightning_node_id),
        ("network", offer.network),
        ("asset", offer.asset_id),
        ("precision", f"{precision}: one unit is {10 ** min(precision, 8)} of the smallest"),
        ("price", f"{sats(offer.price_msat_per_asset_unit)} a unit{_until(offer)}"),
        ("least", units(offer.min_swap_amount, precision)),
        ("most", most),
        ("available", units(offer.available_amount, precision)),
        ("fee subsidy", f"{offer.fee_subsidy_sats} sat of L-BTC beside it, for your claim's fee"),
        ("confirmations", f"up to {offer.max_min_funding_confs} before you pay, as you want"),
        ("invoice", f"expires {offer.invoice_expiry_secs} s after it can be paid"),
        ("held", f"payment up to {over_bitcoin},"),
        ("", f"or {over_liquid}, as the invoice says"),
        ("claim margin", f"{offer.claim_margin_blocks} Liquid blocks kept for your claim"),
        ("refund", f"opens after {offer.refund_delta_blocks} blocks, about {span(refund_secs)}"),
    ]


def quote_rows(offer: Offer, order: Order, chain: LightningChain) -> list[Row]:
    """What is about to be ordered."""
    price_msat = quote_msat(offer, order.amount)
    limit = order.max_price_msat
    confs = order.min_confs
    return [
        ("you receive", units(order.amount, offer.asset_precision)),
        ("asset", offer.asset_id),
        (
            "you pay",
            sats(price_msat) + ("" if limit == price_msat else f" (your limit: {sats(limit)})"),
        ),
        ("held", f"payment up to {offered_hold(offer, order, chain)}"),
        ("fees", f"up to {sats(order.max_fee_msat)} for Lightning, on top"),
        ("after", f"{confs} confirmation{'' if confs == 1 else 's'} and all checks"),
    ]


def record_rows(record: Record) -> list[Row]:
    """A purchase without its secrets."""
    order, swap = record.order, record.reply
    rows = [
        ("request", order.request_id),
        ("swap", swap.swap_id if swap else "-"),
        ("seller", record.seller),
        ("ordered", utc(record.created_at)[:16] + " UTC"),
        ("asset", order.asset_id),
        ("amount", units(order.amount, record.offer.get("asset_precision"))),
        ("price", sats(record.price_msat) if swap else "-"),
        ("limit", f"{sats(order.max_price_msat)}, fees {sats(order.max_fee_msat)}"),
        ("held", f"payment up to {record.hold}" if record.hold else "-"),
        ("paid", "-" if record.amount_sent_msat is None else sats(record.amount_sent_msat)),
        ("to", record.claim_address),
        ("funding", (swap and swap.funding_txid) or "-"),
        ("refund from", f"block {swap.refund_lock_height}" if swap else "-"),
        ("claim", record.spend_txid or "-"),
        ("step", record.label),
    ]
    if record.note:
        rows.append(("note", record.note))
    rows.append(("next", next_step(record)))
    return rows


def history_lines(record: Record) -> list[str]:
    """A purchase in two lines of at most 80 columns."""
    order = record.order
    amount = units(order.amount, record.offer.get("asset_precision")).split(" (")[0]
    asset = short(order.asset_id)
    return [
        f"{order.request_id}  {record.label:21} {utc(record.created_at)[:16]}",
        f"  {amount} of {asset} for {'' if record.swap else 'at most '}{sats(record.price_msat)}",
    ]


def next_step(record: Record) -> str:
    """The state of the money, and the command that goes on."""
    resume = f"lnliquid resume {record.order.request_id}"
    if record.is_dry_run and record.reply:
        height = record.reply.refund_lock_height  # 0 before the funding is signed
        locked = f"locked for you until block {height}; " if height else ""
        return f"nothing was paid; {locked}to pay: {resume}"
    match record.step:
        case Step.DONE:
            return "nothing; it is yours"
        case Step.REQUESTED | Step.CREATED:
            return f"nothing was paid; go on with: {resume}"
        case Step.PAYING:
            return f"a payment may be under way; go on with: {resume}"
        case Step.PAID:
            return f"you have paid; claim soon with: {resume}"
        case Step.CLAIMING if record.spend_txid:
            return f"a block will confirm the claim; to see it: {resume}"
        case Step.CLAIMING:
            return f"you have paid; get the claim through with: {resume}"
        case Step.REFUSED:
            return f"nothing was paid; to check again, and pay if all is well: {resume}"
        case Step.DECLINED:
            return "nothing was paid; buy again, or elsewhere"
        case Step.LOST:
            return "you paid and the seller has the asset: ask the seller, keep the journal"
