"""What a conformance case has in hand: a running lab, and a transcript of what its nodes answered.

A case calls nodes through `elementsd`, `electrum` and `lightning`; each call and its answer become
a line of the case's transcript. What a case only needs to get there (coins, blocks) goes through
`lab` and `money` and leaves no line.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from lnlab.faults.control import Faults
from lnlab.lab import Lab
from lnlab.nodes.rpc import NodeRpcError

from .money import Money
from .verdicts import vector
from .wire import ElectrumWire, lightning_exchange

Answer = dict[str, Any]
"""`result`, or `error` as the node sent it; one of the two."""

CAUGHT_UP_SECS = 30.0


class Height(int):
    """A block height as a parameter, which a transcript tells relative to the case's start."""


class World:
    """A lab, and the transcript of the case that runs on it.

    Cases follow each other on one lab, in one order, so that counters of the nodes (pay indexes,
    ids of payments) are the same on every kind of nodes.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.money = Money(lab)
        self.calls: list[dict[str, Any]] = []
        self.vectors: list[dict[str, Any]] = []
        self.start_height = 0
        self._recorded_as = ""
        self._wires: list[ElectrumWire] = []

    async def begin(self, recorded_as: str = "") -> None:
        """Start an empty transcript at a fresh block, which the Lightning nodes have seen too.

        With `recorded_as`, mempool verdicts are kept as `vectors` under this name besides.
        """
        await self.lab.mine()
        self.start_height = (await self.lab.tip()).height
        self.calls, self.vectors, self._recorded_as = [], [], recorded_as
        await self.lightning_synced()

    async def end(self) -> None:
        """Close the case's connections and confirm what it left in the mempool."""
        for wire in self._wires:
            await wire.close()
        self._wires = []
        await self.lab.mine()

    def at(self, offset: int) -> Height:
        """The height so many blocks above the case's start."""
        return Height(self.start_height + offset)

    # -- calls that are recorded ----------------------------------------------------------------

    async def elementsd(self, why: str, method: str, *params: object) -> Any:
        """Call elementsd; returns the result, None for an error."""
        answer: Answer
        try:
            answer = {"result": await self.lab.rpc.call(method, *params)}
        except NodeRpcError as error:
            answer = {"error": {"code": error.code, "message": error.reason}}
        if self._recorded_as and method == "testmempoolaccept" and "result" in answer:
            await self._keep_verdict(why, params, answer["result"])
        return self._record("elementsd", why, method, list(params), answer)

    async def _keep_verdict(
        self, why: str, params: Sequence[Any], answers: list[dict[str, Any]]
    ) -> None:
        """Keep a verdict that a chain alone can give: with a fee cap it is the call's."""
        if len(params) == 1:
            name = f"{self._recorded_as}: {why}"
            self.vectors.append(await vector(self.lab, name, params[0][0], answers[0]))

    async def electrum(self, why: str, method: str, *params: object) -> Any:
        """Call the Electrum server on a connection of its own; the result, None for an error."""
        wire = await self.wire()
        answer = await wire.ask(method, params)
        await wire.close()
        self._wires.remove(wire)
        return self._record("electrum", why, method, list(params), answer)

    async def lightning(
        self, node: str, why: str, method: str, *, timeout_secs: float = 30, **params: object
    ) -> Any:
        """Call the node `seller` or `buyer`; returns the result, None for an error."""
        socket_path = self.lab.lightning[node]
        answer = await lightning_exchange(socket_path, method, params, timeout_secs)
        return self._record(node, why, method, params, answer)

    def note(self, node: str, why: str, result: object) -> None:
        """Record what was seen otherwise than as the answer to one call, notifications say."""
        self._record(node, why, "", [], {"result": result})

    def _record(self, node: str, why: str, method: str, params: object, answer: Answer) -> Any:
        self.calls.append({"node": node, "why": why, "method": method, "params": params, **answer})
        return answer.get("result")

    # -- getting there --------------------------------------------------------------------------

    async def wire(self) -> ElectrumWire:
        """A connection to the Electrum server, closed at the end of the case."""
        place = urlsplit(self.lab.electrum_url)
        wire = await ElectrumWire.open(str(place.hostname), int(place.port or 0))
        self._wires.append(wire)
        return wire

    async def until(
        self, predicate: Callable[[], Awaitable[Any]], message: str, secs: float = CAUGHT_UP_SECS
    ) -> Any:
        """Wait for something that an Electrum server sees in its own time."""

        async def nudged() -> Any:
            self.lab.nudge_electrum()
            return await predicate()

        return await self.lab.wait_for(nudged, timeout_secs=secs, message=message)

    async def until_history(self, scripthash: str, count: int, unconfirmed: int) -> None:
        """Wait until the script has so many entries, so many of them unconfirmed."""
        wire = await self.wire()

        async def so() -> bool:
            answer = await wire.ask("blockchain.scripthash.get_history", [scripthash])
            items = answer["result"]
            open_ones = sum(item["height"] <= 0 for item in items)
            return (len(items), open_ones) == (count, unconfirmed)

        await self.until(so, f"{count} entries of history, {unconfirmed} of them unconfirmed")

    async def lightning_synced(self) -> None:
        """Wait until both Lightning nodes are at the tip, with the channel usable."""
        height = (await self.lab.tip()).height

        async def synced() -> bool:
            for path in self.lab.lightning.values():
                try:
                    info = await lightning_exchange(path, "getinfo", {}, 10)
                    peers = await lightning_exchange(path, "listpeerchannels", {}, 10)
                except OSError:  # it is being started again
                    return False
                if "result" not in info or info["result"]["blockheight"] != height:
                    return False
                channels = peers["result"]["channels"]
                usable = [c for c in channels if c["peer_connected"] and c["reestablished"]]
                if not usable or any(c.get("htlcs") for c in channels):
                    return False
            return True

        await self.until(synced, "both Lightning nodes are at the tip and connected")

    async def restart_lightning(self, node: str) -> None:
        """Stop a Lightning node and start it on the same data, and wait until it can pay."""
        faults = Faults(self.lab)
        await faults.stop_lightning(node)
        await faults.start_lightning(node)
        await self.lightning_synced()

    async def versions(self) -> dict[str, str]:
        """What the nodes say that they are."""
        wire = await self.wire()
        electrum = await wire.ask("server.version", ["lnlab", "1.4"])
        info = await lightning_exchange(self.lab.lightning["seller"], "getinfo", {}, 10)
        network = await self.lab.rpc.call("getnetworkinfo")
        return {
            "elementsd": str(network["subversion"]),
            "electrs": str(electrum["result"][0]),
            "lightningd": str(info["result"]["version"]),
        }
