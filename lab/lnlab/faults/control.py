"""Telling a running lab what shall go wrong: its proxies, its Lightning nodes, its mempool."""

import asyncio
import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lnlab.faults.orders import Fault, FaultError, tell_proxies
from lnlab.lab import Lab
from lnlab.nodes import hold_plugin, record
from lnlab.nodes.children import kill, spawn
from lnlab.nodes.lightning import LightningRpcError, lightning_call
from lnlab.nodes.record import NodeProcess

CHANNEL_SECS = 60.0
PLUGIN_FILE = "hold-payments.py"


class Faults:
    """What can be made to go wrong in a lab.

    Payments are held by the embedded nodes themselves, and on a real seller's node by a small
    plugin (``nodes/hold_plugin.py``) that is started there at first use. To make a node hang or go
    away as its clients see it, use the proxies: they work the same on both.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stopped: dict[str, NodeProcess] = {}

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

    async def stop_lightning(self, name: str) -> None:
        """End a Lightning node (``seller``, ``buyer``): SIGKILL for a real one."""
        if self._lab.nodes.kind == "embedded":
            await self._lab.rpc.call("lab_stop", name)
            return
        if self._lab.containers is not None:
            await asyncio.to_thread(self._lab.containers.kill, f"lightningd-{name}")
            return
        nodes = self._lab.nodes.processes
        process = next(p for p in nodes if p.name == f"lightningd-{name}")
        self._record([p for p in nodes if p is not process])
        self._stopped[name] = process
        await asyncio.to_thread(kill, [process])

    async def start_lightning(self, name: str) -> None:
        """Start it again on the same files, and wait until its channel carries payments."""
        if self._lab.nodes.kind == "embedded":
            await self._lab.rpc.call("lab_start", name)
        elif self._lab.containers is not None:
            await asyncio.to_thread(self._lab.containers.start, f"lightningd-{name}")
        else:
            old = self._stopped.pop(name)
            started = spawn(old.name, old.command, Path(old.log))
            self._record([*self._lab.nodes.processes, started])
        await self._lab.wait_for(
            self._channel_works, timeout_secs=CHANNEL_SECS, message=f"{name}'s channel works"
        )

    def _record(self, processes: list[NodeProcess]) -> None:
        """From now on the lab's nodes are these; what else runs in it stays recorded."""
        gone = {p.pid for p in self._lab.nodes.processes} - {p.pid for p in processes}
        known = record.load(self._lab.directory)
        others = [p for p in known.processes if p.pid not in gone]
        fresh = [p for p in processes if p not in others]
        record.save(self._lab.directory, replace(known, processes=[*others, *fresh]))
        self._lab.nodes = replace(self._lab.nodes, processes=processes)

    async def _channel_works(self) -> bool:
        for path in self._lab.lightning.values():
            try:
                answer = await lightning_call(path, "listpeerchannels")
            except (OSError, LightningRpcError):
                return False
            if not any(
                channel["state"] == "CHANNELD_NORMAL" and channel["peer_connected"]
                for channel in answer["channels"]
            ):
                return False
        return True

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
        # In the node's own directory: a container sees no other.
        path = Path(socket_path).with_name(PLUGIN_FILE)
        python = sys.executable if self._lab.containers is None else "/usr/bin/env python3"
        path.write_text(f"#!{python}\n" + inspect.getsource(hold_plugin))
        path.chmod(0o700)
        await lightning_call(socket_path, "plugin", subcommand="start", plugin=str(path))
