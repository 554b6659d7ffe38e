"""The operator's commands that ask the running daemon."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.cli import console, views
from lnliquid.cli.options import JsonOption, epilog
from lnliquid.cli.watch_swap import watch_swap
from lnliquid.clock import SystemClock
from lnliquid.domain.errors import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE
from lnliquid.domain.swap import State
from lnliquid.grpc_client import Client, NoAnswer

T = TypeVar("T")

CODES = {
    EXIT_OK: "done",
    EXIT_FAILED: "the daemon refused; its message has the reason",
    EXIT_USAGE: "wrong usage",
    EXIT_UNAVAILABLE: "the daemon cannot be reached",
}
AWAY_HINT = "is the daemon running? It logs this address as `operator` when it starts"
SECS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class StateName(StrEnum):
    """The states as they are typed."""

    CREATED = "CREATED"
    FUNDED = "FUNDED"
    CLAIMED = "CLAIMED"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"


def span(text: str) -> int:
    """Seconds of a time span as it is typed: `90s`, `30m`, `2h`, `7d`."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time span; write 90s, 30m, 2h or 7d")
    return int(match[1]) * SECS[match[2]]


OperatorOption = Annotated[
    str,
    typer.Option(
        "--operator",
        envvar="LNLIQUID_OPERATOR",
        help="The daemon's operator address: unix:/path or host:port. It logs it at start.",
    ),
]
SwapArgument = Annotated[str, typer.Argument(help="Swap id, in full.")]


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, command, example in (
        ("swaps", swaps, "swaps --state FUNDED --older-than 2h"),
        ("swap", swap, "swap c5c39ed2-6e4d-49c0-8f86-38bc6bd72a6f --watch"),
        ("inventory", inventory, "inventory --json"),
        ("top", top, "top"),
        ("pause", pause, "pause"),
        ("resume-sales", resume_sales, "resume-sales"),
        ("refund", refund, "refund c5c39ed2-… --reason 'buyer lost its keys, ticket 71'"),
    ):
        text = epilog(example, codes=CODES)
        cli.command(name, epilog=text, rich_help_panel="Operator")(command)


def ask(
    address: str, call: Callable[["pb_grpc.OperatorServiceAsyncStub", float], Awaitable[T]]
) -> T:
    """The answer of the daemon to one call. Raises `CallFailed`."""

    async def run() -> T:
        async with Client(address, pb_grpc.OperatorServiceStub) as client:
            return await client.call(call)

    try:
        return asyncio.run(run())
    except NoAnswer as error:
        error.hint = AWAY_HINT
        raise


def status_of(address: str) -> pb.GetStatusResponse:
    """How the daemon is, with the newest event only."""
    request = pb.GetStatusRequest(limit=1)
    return ask(address, lambda stub, secs: stub.GetStatus(request, timeout=secs))


def swaps(
    operator: OperatorOption,
    state: Annotated[
        list[StateName] | None, typer.Option(help="Only this; may be repeated.")
    ] = None,
    paid_unclaimed: Annotated[
        bool, typer.Option("--paid-unclaimed", help="Only those that need you.")
    ] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only those that are not final.")
    ] = False,
    older_than: Annotated[
        int | None,
        typer.Option(parser=span, metavar="SPAN", help="Created longer ago: 90s, 30m, 2h, 7d."),
    ] = None,
    newer_than: Annotated[
        int | None,
        typer.Option(parser=span, metavar="SPAN", help="Created since: 90s, 30m, 2h, 7d."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most this many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List swaps, newest first, with who acts next and by which block."""
    now = SystemClock().now()
    request = pb.ListSwapsRequest(
        states=[pb.SwapState.ValueType(State[s.name]) for s in state or []],
        paid_unclaimed=paid_unclaimed,
        unfinished=unfinished,
        limit=limit,
        created_before=max(1, now - older_than) if older_than is not None else 0,
        created_from=max(1, now - newer_than) if newer_than is not None else 0,
    )
    with console.clean_errors(as_json):
        reply = ask(operator, lambda stub, secs: stub.ListSwaps(request, timeout=secs))
        if as_json:
            console.show_json(views.as_values(reply))
        elif not reply.swaps:
            console.show("no swaps")
        else:
            screen = console.console()
            precision = status_of(operator).asset_precision
            screen.print(views.swaps_table(reply.swaps, precision, screen.width))
            if len(reply.swaps) == limit:
                console.say(f"the newest {limit}; --limit shows more", style="dim")


def swap(
    swap_id: SwapArgument,
    operator: OperatorOption,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow it until it is final or you press Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one swap: what happened to it, what is awaited, by which block, and who acts next.

    With --watch and --json each change is one JSON object on a line of its own.
    """
    request = pb.InspectSwapRequest(swap_id=swap_id)
    with console.clean_errors(as_json):
        reply = ask(operator, lambda stub, secs: stub.InspectSwap(request, timeout=secs))
        if as_json and not watch:
            console.show_json(views.as_values(reply))
            return
        precision = status_of(operator).asset_precision
        if watch:
            watch_swap(operator, reply, precision, as_json=as_json)
        else:
            console.console().print(views.swap_view(reply, precision))


def inventory(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Show what the wallet holds: available, reserved, locked in HTLCs, its lanes and coins."""
    with console.clean_errors(as_json):
        if as_json:
            request = pb.GetInventoryRequest()
            held = ask(operator, lambda stub, secs: stub.GetInventory(request, timeout=secs))
            console.show_json(views.as_values(held))
            return
        status = status_of(operator)
    screen = console.console()
    screen.print(views.inventory_table(status, screen.width))
    if status.paused:
        console.show("paused: no new swaps; `lnliquid resume-sales` sells again")


def top(operator: OperatorOption) -> None:
    """Watch the daemon live: swaps, deadlines, lanes, backends, events. q quits, ? helps."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        console.say(
            "top needs a terminal; `lnliquid swaps --json` and the metrics are for programs",
            style="red",
        )
        raise typer.Exit(EXIT_USAGE)
    from lnliquid.cli.top.app import Top

    Top(operator).run()


def pause(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Take no new swaps, also after a restart. Running swaps and refunds go on."""
    with console.clean_errors(as_json):
        ask(operator, lambda stub, secs: stub.Pause(pb.PauseRequest(), timeout=secs))
    if as_json:
        console.show_json({"paused": True})
    else:
        console.show("paused: no new swaps; `lnliquid resume-sales` sells again")


def resume_sales(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Take new swaps again. (`lnliquid resume` is the buyer's: it goes on with a purchase.)"""
    with console.clean_errors(as_json):
        ask(operator, lambda stub, secs: stub.Resume(pb.ResumeRequest(), timeout=secs))
    if as_json:
        console.show_json({"paused": False})
    else:
        console.show("new swaps are taken again")


def refund(
    swap_id: SwapArgument,
    operator: OperatorOption,
    reason: Annotated[str, typer.Option(help="The reason; it is recorded with the swap.")],
    as_json: JsonOption = False,
) -> None:
    """Refund a swap that was PAID and never claimed. The buyer has paid: be sure.

    The daemon refunds unpaid swaps by itself and never a paid one.
    """
    request = pb.RefundSwapRequest(swap_id=swap_id, reason=reason)
    with console.clean_errors(as_json):
        reply = ask(operator, lambda stub, secs: stub.RefundSwap(request, timeout=secs))
    if as_json:
        console.show_json(views.as_values(reply))
    else:
        console.show(f"refund of {swap_id} ordered; the daemon signs it in its next round")
