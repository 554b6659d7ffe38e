"""Telling a running lab what shall go wrong: its proxies, its Lightning nodes, its mempool."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from lnlab.faults import CONTROL_SOCKET, Fault, FaultError
from lnlab.lab import Lab
from lnlab.nodes.lightning import LightningRpcError, lightning_call

PLUGIN_FILE = "hold-payments.py"
PLUGIN_TEXT = """#!{python}
from lnlab.nodes.hold_plugin import main

main()
"""


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


class Faults:
    """What can be made to go wrong in a lab.

    Payments are held by the embedded nodes themselves, and on a real seller's node by a small
    plugin (``nodes/hold_plugin.py``) that is started there at first use. To make a node hang or go
    away as its clients see it, use the proxies: they work the same on both.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    async def set(self, proxy: str, fault: Fault | str, secs: float = 0.0) -> None:
        """Make a proxy (``electrum``, ``lightning-seller``, ``lightning-buyer``) misbehave so."""
        order = {"proxy": proxy, "fault": Fault(fault).value, "secs": secs}
        await tell_proxies(self._lab.directory, order)

    async def clear(self) -> None:
        """End all faults of all proxies."""
        for name in await tell_proxies(self._lab.directory, {}):
            await self.set(name, Fault.NONE)

    async def hold_payments(self) -> None:
        """From now on the seller's node takes payments in and settles none."""
        await self._payments("lab_hold_payments", "lab-hold")

    async def release_payments(self) -> None:
        """Let held and later payments settle, or fail where the invoice is not payable any more."""
        await self._payments("lab_release_payments", "lab-release")

    async def fail_payments(self, count: int = 1) -> None:
        """Make the seller's node fail that many of the next payments (temporary_node_failure)."""
        await self._payments("lab_fail_payments", "lab-fail", count)

    async def held_payments(self) -> list[str]:
        """Payment hashes of the payments that are held now."""
        return list(await self._payments("lab_held_payments", "lab-held"))

    async def drop_transaction(self, txid: str) -> None:
        """Make the chain forget an unconfirmed transaction. Raises FaultError on real nodes.

        elementsd has no way to do that but a restart with an empty mempool.
        """
        if self._lab.nodes.kind != "embedded":
            raise FaultError("a real elementsd cannot be told to forget a transaction")
        await self._lab.rpc.call("lab_drop_transaction", txid)

    async def _payments(self, embedded_method: str, plugin_method: str, *params: object) -> Any:
        if self._lab.nodes.kind == "embedded":
            return await self._lab.rpc.call(embedded_method, *params)
        seller = self._lab.lightning["seller"]
        named: dict[str, Any] = {"count": params[0]} if params else {}
        try:
            answer = await lightning_call(seller, plugin_method, **named)
        except LightningRpcError as error:
            if error.code != -32601:  # unknown command: the plugin is not there yet
                raise
            await self._start_plugin(seller)
            answer = await lightning_call(seller, plugin_method, **named)
        return answer.get("held")

    async def _start_plugin(self, socket_path: str) -> None:
        path = self._lab.directory / PLUGIN_FILE
        path.write_text(PLUGIN_TEXT.format(python=sys.executable))
        path.chmod(0o700)
        await lightning_call(socket_path, "plugin", subcommand="start", plugin=str(path))
