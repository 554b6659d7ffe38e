"""The operator's commands that ask the running daemon."""

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc
from lnliquid import operator_view as view
from lnliquid.buyer import terminal
from lnliquid.operator_watch import watch_swap
from lnliquid.swap import State

T = TypeVar("T")

CALL_SECS = 10.0
EXIT_REFUSED, EXIT_UNREACHABLE = 1, 3
EXIT_CODES = """\b
Exit codes:
  0  done
  1  the daemon refused, and says why
  2  wrong usage
  3  the daemon cannot be reached"""


class StateName(StrEnum):
    """The states as they are typed."""

    CREATED = "CREATED"
    FUNDED = "FUNDED"
    CLAIMED = "CLAIMED"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"


SECS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


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
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
SwapArgument = Annotated[str, typer.Argument(help="Swap id, in full.")]


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, command, example in (
        ("swaps", swaps, "lnliquid swaps --state FUNDED --older-than 2h"),
        ("swap", swap, "lnliquid swap c5c39ed2-6e4d-49c0-8f86-38bc6bd72a6f --watch"),
        ("inventory", inventory, "lnliquid inventory --json"),
        ("top", top, "lnliquid top"),
        ("pause", pause, "lnliquid pause"),
        ("resume-sales", resume_sales, "lnliquid resume-sales"),
        ("refund", refund, "lnliquid refund c5c39ed2-… --reason 'buyer lost its keys, ticket 71'"),
    ):
        epilog = f"\b\nExample:\n  {example}\n\n{EXIT_CODES}"
        cli.command(name, epilog=epilog, rich_help_panel="Operator")(command)


Call = Callable[[grpc.aio.Channel], Awaitable[T]]


def ask(address: str, call: Call[T], as_json: bool = False) -> T:
    """One call to the daemon; a refusal ends the command with the daemon's own words."""

    async def run() -> T:
        async with grpc.aio.insecure_channel(address) as channel:
            return await call(channel)

    try:
        return asyncio.run(run())
    except grpc.aio.AioRpcError as error:
        code, text = explain(error, address)
    terminal.say(text, style="red")
    if as_json:
        terminal.show_json({"error": text, "exit_code": code})
    raise typer.Exit(code)


def explain(error: grpc.aio.AioRpcError, address: str) -> tuple[int, str]:
    """Exit code and words for a call that failed."""
    said = error.details() or ""
    match error.code():
        case grpc.StatusCode.UNAVAILABLE if "NOT_READY" not in str(error.trailing_metadata()):
            return (
                EXIT_UNREACHABLE,
                f"no daemon answers at {address}: does it run, and does it log this address as "
                "`operator` when it starts?",
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return EXIT_UNREACHABLE, f"no answer from {address} in {CALL_SECS:g} s"
        case grpc.StatusCode.UNIMPLEMENTED:
            return (
                EXIT_REFUSED,
                f"what listens at {address} does not have this call: it is not the operator's "
                "address, or the daemon is older than this program",
            )
    if not said or error.code() is grpc.StatusCode.UNKNOWN:
        said = f"the daemon ended the call with {error.code().name} and no reason; see its log"
    return EXIT_REFUSED, said


def _operator(channel: grpc.aio.Channel) -> Any:
    return swap_pb2_grpc.OperatorServiceStub(channel)


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def _status(channel: grpc.aio.Channel) -> pb.GetStatusResponse:
    reply: pb.GetStatusResponse = await _operator(channel).GetStatus(
        pb.GetStatusRequest(limit=1), timeout=CALL_SECS
    )
    return reply


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
    now = int(time.time())
    request = pb.ListSwapsRequest(
        states=[pb.SwapState.ValueType(State[s.name]) for s in state or []],
        paid_unclaimed=paid_unclaimed,
        unfinished=unfinished,
        limit=limit,
        created_before=max(1, now - older_than) if older_than is not None else 0,
        created_from=max(1, now - newer_than) if newer_than is not None else 0,
    )

    async def call(channel: grpc.aio.Channel) -> tuple[pb.ListSwapsResponse, int]:
        reply = await _operator(channel).ListSwaps(request, timeout=CALL_SECS)
        return reply, 0 if as_json else (await _status(channel)).asset_precision

    reply, precision = ask(operator, call, as_json)
    if as_json:
        terminal.show_json(_as_dict(reply))
        return
    if not reply.swaps:
        terminal.show("no swaps")
        return
    console = view.console()
    console.print(view.swaps_table(reply.swaps, precision, console.width))
    if len(reply.swaps) == limit:
        terminal.say(f"the newest {limit}; --limit shows more", style="dim")


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

    async def call(channel: grpc.aio.Channel) -> tuple[pb.InspectSwapResponse, int]:
        reply = await _operator(channel).InspectSwap(request, timeout=CALL_SECS)
        return reply, (await _status(channel)).asset_precision

    reply, precision = ask(operator, call, as_json)
    if watch:
        watch_swap(operator, request, reply, precision, as_json=as_json)
    elif as_json:
        terminal.show_json(_as_dict(reply))
    else:
        view.console().print(view.swap_view(reply, precision))


def inventory(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Show what the wallet holds: available, reserved, locked in HTLCs, its lanes and coins."""
    if as_json:
        request = pb.GetInventoryRequest()
        held = ask(operator, lambda c: _operator(c).GetInventory(request, timeout=CALL_SECS), True)
        terminal.show_json(_as_dict(held))
        return
    status = ask(operator, _status)
    console = view.console()
    console.print(view.inventory_table(status, console.width))
    if status.paused:
        terminal.show("paused: no new swaps are taken; `lnliquid resume-sales` takes them again")


def top(operator: OperatorOption) -> None:
    """Watch the daemon live: swaps, deadlines, lanes, backends, events. q quits, ? helps."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        terminal.say(
            "top needs a terminal; `lnliquid swaps --json` and the metrics are for programs",
            style="red",
        )
        raise typer.Exit(2)
    from lnliquid.top.app import Top

    Top(operator).run()


def _switch(operator: str, paused: bool, as_json: bool) -> None:
    async def call(channel: grpc.aio.Channel) -> None:
        stub = _operator(channel)
        if paused:
            await stub.Pause(pb.PauseRequest(), timeout=CALL_SECS)
        else:
            await stub.Resume(pb.ResumeRequest(), timeout=CALL_SECS)

    ask(operator, call, as_json)
    if as_json:
        terminal.show_json({"paused": paused})


def pause(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Take no new swaps, also after a restart. Running swaps and refunds go on."""
    _switch(operator, True, as_json)
    if not as_json:
        terminal.show("paused; `lnliquid resume-sales` takes new swaps again")


def resume_sales(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Take new swaps again. (`lnliquid resume` is the buyer's: it goes on with a purchase.)"""
    _switch(operator, False, as_json)
    if not as_json:
        terminal.show("new swaps are taken again")


def refund(
    swap_id: SwapArgument,
    operator: OperatorOption,
    reason: Annotated[str, typer.Option(help="Why; it is recorded with the swap.")],
    as_json: JsonOption = False,
) -> None:
    """Refund a swap that was PAID and never claimed. The buyer has paid: be sure.

    The daemon refunds unpaid swaps by itself and never a paid one.
    """
    request = pb.RefundSwapRequest(swap_id=swap_id, reason=reason)
    reply = ask(operator, lambda c: _operator(c).RefundSwap(request, timeout=CALL_SECS), as_json)
    if as_json:
        terminal.show_json(_as_dict(reply))
    else:
        terminal.show(f"ordered: {swap_id} is refunded with the next round of the watcher")
