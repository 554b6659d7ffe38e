"""The faults that proxies know, and how a lab's proxies are told to have one."""

import asyncio
import contextlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

CONTROL_SOCKET = "faults.sock"


class Fault(StrEnum):
    """What a proxy does. The last five are for Electrum only."""

    NONE = "none"
    """Pass everything on."""
    REFUSE = "refuse"
    """Nobody listens; open connections are closed."""
    HANG = "hang"
    """Connections are taken, nothing moves; what came in goes on when this ends."""
    DELAY = "delay"
    """Each answer comes ``secs`` later than it would, as over a long line."""
    CUT = "cut"
    """Requests pass; each answer breaks off in the middle and the connection is closed."""
    DROP = "drop"
    """Notifications are lost."""
    DUPLICATE = "duplicate"
    """Each notification comes twice."""
    LAG = "lag"
    """Notifications are lost and the tip is for ever the one last seen."""
    FROZEN = "frozen"
    """The server shows the chain as it was, for ever; its tip's header is ``secs`` older."""
    BEHIND = "behind"
    """The server has fallen behind: its tip goes back, and its histories end there."""


class FaultError(Exception):
    """A fault that cannot be set; the text says why."""


async def tell_proxies(directory: Path, order: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Send an order to the lab's proxies; returns endpoint and fault of each.

    Raises FaultError when there are no proxies or they refuse the order.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(directory / CONTROL_SOCKET)
    except OSError:
        raise FaultError(
            "this lab runs no proxies: start it with `lnlab up --proxies`, and let the daemon use "
            "the endpoints that it prints for them"
        ) from None
    try:
        writer.write(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
    finally:
        writer.close()
    if "error" in answer:
        raise FaultError(str(answer["error"]))
    return answer


async def endpoints_of_proxies(directory: Path) -> dict[str, str]:
    """Return where each proxy listens; nothing while they do not answer."""
    with contextlib.suppress(FaultError, ValueError):
        told = await tell_proxies(directory, {})
        return {name: proxy["endpoint"] for name, proxy in told.items()}
    return {}
