"""The operator's commands that ask the running daemon."""

import asyncio
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
from lnliquid.buyer import terminal
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
        ("swaps", swaps, "lnliquid swaps --state FUNDED"),
        ("swap", swap, "lnliquid swap c5c39ed2-6e4d-49c0-8f86-38bc6bd72a6f"),
        ("inventory", inventory, "lnliquid inventory --json"),
        ("pause", pause, "lnliquid pause"),
        ("resume-sales", resume_sales, "lnliquid resume-sales"),
        ("refund", refund, "lnliquid refund c5c39ed2-… --reason 'buyer lost its keys, ticket 71'"),
    ):
        epilog = f"\b\nExample:\n  {example}\n\n{EXIT_CODES}"
        cli.command(name, epilog=epilog, rich_help_panel="Operator")(command)


Call = Callable[[grpc.aio.Channel], Awaitable[T]]


def ask(address: str, call: Call[T]) -> T:
    """One call to the daemon; a refusal ends the command with the daemon's own words."""

    async def run() -> T:
        async with grpc.aio.insecure_channel(address) as channel:
            return await call(channel)

    try:
        return asyncio.run(run())
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            terminal.say(f"no daemon answers at {address}: {error.details()}", style="red")
            raise typer.Exit(EXIT_UNREACHABLE) from None
        terminal.say(error.details() or error.code().name, style="red")
        raise typer.Exit(EXIT_REFUSED) from None


def _operator(channel: grpc.aio.Channel) -> Any:
    return swap_pb2_grpc.OperatorServiceStub(channel)


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _state(swap: pb.Swap) -> str:
    name = pb.SwapState.Name(swap.state).removeprefix("SWAP_STATE_")
    return f"{name}, final" if swap.is_final else name


def swaps(
    operator: OperatorOption,
    state: Annotated[
        list[StateName] | None, typer.Option(help="Only this; may be repeated.")
    ] = None,
    paid_unclaimed: Annotated[
        bool, typer.Option("--paid-unclaimed", help="Only those that need you.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most this many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List swaps, newest first."""
    request = pb.ListSwapsRequest(
        states=[pb.SwapState.ValueType(State[s.name]) for s in state or []],
        paid_unclaimed=paid_unclaimed,
        limit=limit,
    )
    reply = ask(operator, lambda c: _operator(c).ListSwaps(request, timeout=CALL_SECS))
    if as_json:
        terminal.show_json(_as_dict(reply))
        return
    if reply.swaps:  # whole ids, for copying, so no table that would shorten them
        terminal.show(
            f"{'swap':36}  {'state':16}  {'refund from':>11}  {'age':>9}  amount for price"
        )
    for item in reply.swaps:
        s = item.swap
        age = max(0, int(time.time()) - s.created_at)
        terminal.show(
            f"{s.swap_id}  {_state(s):16}  {s.refund_lock_height or '-':>11}  {age:>7} s  "
            f"{s.asset_amount} for {s.total_price_msat} msat"
            + ("  PAID, NOT CLAIMED" if item.paid_unclaimed else "")
        )
    if not reply.swaps:
        terminal.show("no swaps")


def swap(swap_id: SwapArgument, operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Show one swap: where it stands and everything that happened to it."""
    request = pb.GetSwapRequest(swap_id=swap_id)
    reply = ask(
        operator,
        lambda c: swap_pb2_grpc.SwapServiceStub(c).GetSwap(request, timeout=CALL_SECS),
    )
    if as_json:
        terminal.show_json(_as_dict(reply))
        return
    s = reply.swap
    for name, value in (
        ("swap", s.swap_id),
        ("state", _state(s)),
        ("sells", f"{s.asset_amount} of {s.asset_id}"),
        ("for", f"{s.total_price_msat} msat"),
        ("to", s.buyer_claim_address),
        ("funding", s.funding_txid or "not signed yet"),
        ("refund from block", s.refund_lock_height or "-"),
        ("spent by", s.spend_txid or "-"),
    ):
        terminal.show(f"{name:18} {value}")
    for event in reply.events:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.at))
        after = pb.SwapState.Name(event.to_state).removeprefix("SWAP_STATE_")
        terminal.show(f"{when} UTC  {after:9} {event.cause} {event.txid}".rstrip())


def inventory(operator: OperatorOption, as_json: JsonOption = False) -> None:
    """Show what the wallet holds: available, reserved, locked in HTLCs, coin by coin."""
    request = pb.GetInventoryRequest()
    reply = ask(operator, lambda c: _operator(c).GetInventory(request, timeout=CALL_SECS))
    if as_json:
        terminal.show_json(_as_dict(reply))
        return
    for held in reply.assets:
        terminal.show(f"{held.asset_id}")
        for name in ("available", "reserved", "locked"):
            terminal.show(f"  {name:10} {getattr(held, name):>20}")
        for value in held.coins:
            terminal.show(f"  {'coin':10} {value:>20}")
    if reply.paused:
        terminal.show("paused: no new swaps are taken; `lnliquid resume-sales` takes them again")


def pause(operator: OperatorOption) -> None:
    """Take no new swaps, also after a restart. Running swaps and refunds go on."""
    ask(operator, lambda c: _operator(c).Pause(pb.PauseRequest(), timeout=CALL_SECS))
    terminal.show("paused; `lnliquid resume-sales` takes new swaps again")


def resume_sales(operator: OperatorOption) -> None:
    """Take new swaps again."""
    ask(operator, lambda c: _operator(c).Resume(pb.ResumeRequest(), timeout=CALL_SECS))
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
    reply = ask(operator, lambda c: _operator(c).RefundSwap(request, timeout=CALL_SECS))
    if as_json:
        terminal.show_json(_as_dict(reply))
    else:
        terminal.show(f"ordered: {swap_id} is refunded with the next round of the watcher")
