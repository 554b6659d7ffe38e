"""`lnliquid swap ID --watch`: one swap, redrawn as it changes, across restarts of the daemon."""

import asyncio
import json
import sys
from collections.abc import Callable

import grpc
from google.protobuf.json_format import MessageToDict
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc
from lnliquid import operator_view as view
from lnliquid.buyer import terminal

EVERY_SECS = 1.0
CALL_SECS = 5.0
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def watch_swap(
    address: str,
    request: pb.InspectSwapRequest,
    first: pb.InspectSwapResponse,
    precision: int,
    *,
    as_json: bool,
) -> None:
    """Follow until the swap is final, or until Ctrl-C, which is no error.

    On a terminal one picture is redrawn; otherwise each event is a line, or a JSON object with
    `as_json`. A daemon that is away is waited for. Raises `grpc.aio.AioRpcError` when it refuses.
    """
    try:
        if sys.stdout.isatty() and not as_json:
            console = view.console()
            with Live(
                view.swap_view(first, precision), console=console, auto_refresh=False
            ) as live:

                def draw(reply: pb.InspectSwapResponse, problem: str) -> None:
                    shown = view.swap_view(reply, precision)
                    note = Text(problem, style="bold red")
                    live.update(Group(shown, note) if problem else shown, refresh=True)

                asyncio.run(_follow(address, request, first, draw))
        else:
            lines = _Lines(as_json)
            asyncio.run(_follow(address, request, first, lines.draw))
    except KeyboardInterrupt:
        terminal.say("no longer watched; the daemon goes on with the swap", style="dim")


class _Lines:
    """Each event once, and each thing that is awaited, as a line for a log or a program."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._last_event = 0
        self._last: bytes | None = None
        self._awaited = ""
        self._problem = ""

    def draw(self, reply: pb.InspectSwapResponse, problem: str) -> None:
        if problem != self._problem and problem:
            terminal.say(problem, style="red")
        self._problem = problem
        if self._as_json:
            key = reply.swap.SerializeToString(deterministic=True)
            if key != self._last:
                values = MessageToDict(
                    reply,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=True,
                )
                sys.stdout.write(json.dumps(values) + "\n")
            self._last = key
        else:
            fresh = [e for e in reply.events if e.seq > self._last_event]
            for event in fresh:
                self._last_event = event.seq
                name = view.state_name(event.to_state)
                terminal.show(f"{view.utc(event.at)}  {name:9} {event.cause} {event.txid}".rstrip())
            awaited = reply.swap.outlook.awaited
            if awaited and awaited != self._awaited:
                actor = view.ACTORS.get(reply.swap.outlook.actor, "-")
                by = view.when(reply.swap.outlook.by_height, reply.tip_height)
                terminal.show(f"  awaited: {awaited} ({actor}{', by ' + by if by else ''})")
            self._awaited = awaited
        sys.stdout.flush()


async def _follow(
    address: str,
    request: pb.InspectSwapRequest,
    reply: pb.InspectSwapResponse,
    draw: Callable[[pb.InspectSwapResponse, str], None],
) -> None:
    options = [("grpc.max_reconnect_backoff_ms", 1_000)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = swap_pb2_grpc.OperatorServiceStub(channel)
        problem = ""
        while True:
            draw(reply, problem)
            if reply.swap.swap.is_final:
                return
            await asyncio.sleep(EVERY_SECS)
            try:
                reply = await stub.InspectSwap(request, timeout=CALL_SECS)
                problem = ""
            except grpc.aio.AioRpcError as error:
                if error.code() not in AWAY:
                    raise
                problem = f"no daemon answers at {address}; this is what it said last"
