"""`lnliquid swap ID --watch`: one swap, redrawn as it changes, across restarts of the daemon."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from rich.console import Group
from rich.live import Live
from rich.text import Text

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.cli import console, views
from lnliquid.cli.formatting import utc
from lnliquid.grpc_client import Client, NoAnswer

EVERY_SECS = 1.0
CALL_SECS = 5.0

Draw = Callable[[pb.InspectSwapResponse, str], None]
"""Shows what the daemon answered last, and why it does not answer now; empty when it does."""


def watch_swap(
    address: str, first: pb.InspectSwapResponse, precision: int, *, as_json: bool
) -> None:
    """Follow until the swap is final, or until Ctrl-C, which is no error.

    On a terminal one picture is redrawn; otherwise each event is a line, or a JSON object with
    `as_json`. A daemon that is away is waited for. Raises `CallFailed` when it refuses.
    """
    try:
        if as_json or not sys.stdout.isatty():
            asyncio.run(_follow(address, first, _Lines(as_json).draw))
            return
        picture = views.swap_view(first, precision)
        with Live(picture, console=console.console(), auto_refresh=False) as live:

            def draw(reply: pb.InspectSwapResponse, problem: str) -> None:
                note = [Text(problem, style="bold red")] if problem else []
                live.update(Group(views.swap_view(reply, precision), *note), refresh=True)

            asyncio.run(_follow(address, first, draw))
    except KeyboardInterrupt:
        console.say("no longer watched; the daemon goes on with the swap", style="dim")


async def _follow(address: str, reply: pb.InspectSwapResponse, draw: Draw) -> None:
    request = pb.InspectSwapRequest(swap_id=reply.swap.swap.swap_id)

    def look(
        stub: "pb_grpc.OperatorServiceAsyncStub", secs: float
    ) -> Awaitable[pb.InspectSwapResponse]:
        return stub.InspectSwap(request, timeout=secs)

    async with Client(address, pb_grpc.OperatorServiceStub, call_secs=CALL_SECS) as client:
        draw(reply, "")
        while not reply.swap.swap.is_final:
            await asyncio.sleep(EVERY_SECS)
            problem = ""
            try:
                reply = await client.call(look)
            except NoAnswer as error:
                problem = f"{error}; this was its last answer"
            draw(reply, problem)


class _Lines:
    """Each event once, and each thing that is awaited, as a line for a log or a program."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._last_event = 0
        self._last: object = None
        self._awaited = ""
        self._problem = ""

    def draw(self, reply: pb.InspectSwapResponse, problem: str) -> None:
        if problem and problem != self._problem:
            console.say(problem, style="red")
        self._problem = problem
        if self._as_json:
            self._draw_json(reply)
        else:
            self._draw_text(reply)
        sys.stdout.flush()

    def _draw_json(self, reply: pb.InspectSwapResponse) -> None:
        if reply.swap != self._last:
            sys.stdout.write(json.dumps(views.as_values(reply)) + "\n")
        self._last = reply.swap

    def _draw_text(self, reply: pb.InspectSwapResponse) -> None:
        for event in reply.events:
            if event.seq > self._last_event:
                self._last_event = event.seq
                name = views.state_name(event.to_state)
                console.show(f"{utc(event.at)}  {name:9} {event.cause} {event.txid}".rstrip())
        ahead = reply.swap.outlook
        if ahead.awaited and ahead.awaited != self._awaited:
            by = views.when(ahead.by_height, reply.tip_height)
            actor = views.ACTORS.get(ahead.actor, "-")
            console.show(f"  awaited: {ahead.awaited} ({actor}{f', by {by}' if by else ''})")
        self._awaited = ahead.awaited
