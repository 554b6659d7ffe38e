"""The calls recorded from two real Core Lightning nodes, made again to the embedded ones."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from pyln.client import LightningRpc, RpcError

from lnlab.nodes.embedded.lightning import LightningNetwork, bolt11

RECORD = json.loads((Path(__file__).parents[2] / "vectors" / "cln_rpc.json").read_text())
CALLS: list[dict[str, Any]] = RECORD["calls"]

# Where the recorded and the embedded node cannot have the same value: keys and what follows from
# them, transactions, times, and the machine. Everything else is compared exactly.
OWN_VALUES = frozenset(
    (
        *("id", "peer_id", "destination", "payee", "color", "bolt11", "signature", "direction"),
        *("channel_id", "funding_txid", "scratch_txid", "psbt", "close_to", "close_to_addr"),
        *("alias", "lightning-dir", "version"),
        *("expires_at", "created_at", "paid_at", "completed_at"),
        *("last_stable_connection", "timestamp"),
    )
)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_795_360_000.25

    def __call__(self) -> float:
        return self.now


class Replay:
    """Two nodes in the state the recorded ones were in, and the invoices made so far."""

    def __init__(self, network: LightningNetwork, clock: Clock) -> None:
        self.network = network
        self.clock = clock
        self.invoices: dict[str, str] = {}

    async def call(self, node: str, method: str, params: dict[str, Any]) -> Any:
        rpc = LightningRpc(str(self.network.nodes[node].socket_path))
        return await asyncio.to_thread(rpc.call, method, params)

    async def repeat(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """Make a recorded call with our invoices in it; {"result": …} or {"error": …}."""
        if recorded["why"] == "expired, by label":
            self.clock.now += 2
        params = {
            name: self.invoices.get(value, value) if isinstance(value, str) else value
            for name, value in recorded["params"].items()
        }
        try:
            result = await self.call(recorded["node"], recorded["method"], params)
        except RpcError as error:
            return {"error": error.error}
        if recorded["method"] == "invoice":
            self.invoices[recorded["result"]["bolt11"]] = result["bolt11"]
        return {"result": result}


@pytest.fixture
async def replay(tmp_path: Path) -> AsyncIterator[Replay]:
    clock, height = Clock(), [21]
    network = LightningNetwork(block_height=lambda: height[0], clock=clock)
    for name in ("seller", "buyer"):
        network.add_node(name, tmp_path / f"{name}.sock")
    network.open_channel("buyer", "seller", 1_000_000_000)
    height[0] = 49
    await network.start()
    replay = Replay(network, clock)
    # The recorded channel had carried 31 payments, and the seller had made 231 invoices.
    for i in range(231):
        amount_msat = 40_000 if i < 30 else 64_435
        made = await replay.call(
            "seller",
            "invoice",
            {"amount_msat": amount_msat, "label": f"before-{i}", "description": "earlier"},
        )
        if i < 31:
            await replay.call("buyer", "xpay", {"invstring": made["bolt11"]})
    yield replay
    await network.stop()


def shape(value: Any) -> Any:
    """Field names and JSON types, recursively."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def comparable(value: Any) -> Any:
    """The value without what a node has of its own."""
    if isinstance(value, dict):
        return {
            name: shape(inner) if name in OWN_VALUES else comparable(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    return value


async def test_every_recorded_call_is_answered_alike(replay: Replay) -> None:
    """All 43 calls give the recorded fields, types, error codes and texts, and the same values."""
    assert len(CALLS) == 43
    for recorded in CALLS:
        answer = await replay.repeat(recorded)
        why = recorded["why"]
        if "error" in recorded:
            assert answer == {"error": recorded["error"]}, why
            continue
        assert "result" in answer, (why, answer)
        assert shape(answer["result"]) == shape(recorded["result"]), why
        assert list(answer["result"]) == list(recorded["result"]), f"{why}: order of the fields"
        assert comparable(answer["result"]) == comparable(recorded["result"]), why


@pytest.mark.parametrize(
    "recorded",
    [c for c in CALLS if c["method"] == "invoice" and "result" in c],
    ids=lambda call: call["params"]["label"],
)
async def test_an_invoice_is_the_recorded_one_but_for_the_signature(
    recorded: dict[str, Any],
) -> None:
    """Fields, their order and the amount come out in the recorded characters."""
    asked, theirs = recorded["params"], recorded["result"]["bolt11"]
    preimage = bytes.fromhex(asked["preimage"])
    ours = bolt11.encode(
        PrivateKey(b"\x01" * 32),
        amount_msat=asked["amount_msat"],
        created_at=bolt11.decode(theirs).created_at,
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=bytes.fromhex(recorded["result"]["payment_secret"]),
        description=asked["description"],
        hash_description=False,
        expiry_secs=asked.get("expiry", 604_800),
        min_final_cltv_blocks=asked.get("cltv", 10),
    )
    signature_and_checksum = 104 + 6
    assert ours[:-signature_and_checksum] == theirs[:-signature_and_checksum]
    assert bolt11.decode(ours).payee != bolt11.decode(theirs).payee
