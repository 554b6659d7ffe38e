"""The daemon's log as JSON, over a whole sale and a refund: ids in it, and nothing secret."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.lab import Lab
from lnlab.nodes.lightning import lightning_call
from lnlab.scenarios.sale import sale
from lnlab.scenarios.steps import refund_now
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.liquid.networks import REGTEST

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDRESSES = 60
"""Keys of each branch that are looked for; more than these flows use."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(lab: Lab) -> AsyncIterator[SellerDaemon]:
    """A seller that logs JSON."""
    async with await SellerDaemon.create(lab, coins=2, settings={"log_format": "json"}) as made:
        yield made
        made.check_log()


def lines(text: str) -> list[dict[str, Any]]:
    """The log; a line that is not JSON fails."""
    return [json.loads(line) for line in text.splitlines()]


def secrets_of(words: str, swaps: list[pb.Swap]) -> dict[str, bytes]:
    """What must be in no log, by name: preimages and private keys of a wallet's first keys."""
    keys = Keychain(words, REGTEST)
    found = {}
    for index, swap in enumerate(swaps):
        found[f"preimage {index}"] = keys.preimage(index, swap.swap_id)
        found[f"refund key {index}"] = keys.refund_key(index)._secret
    for branch in (RECEIVE, CHANGE):
        for index in range(ADDRESSES):
            found[f"wallet key {branch}/{index}"] = keys.wallet_key(branch, index)._secret
    return found


async def test_a_sale_and_a_refund_are_told_by_their_ids_and_without_their_secrets(
    daemon: SellerDaemon,
) -> None:
    """Every line is JSON; each step names its swap, request and payment hash; no secret is there.

    Looked for: mnemonic, its words in a row, preimages (also after they were revealed), private
    keys, invoices, and what was sent to Lightning.
    """
    done = await sale(daemon, Buyer(daemon, "log"), 1_000, say=lambda _: None)
    buyer = HandBuyer(daemon)
    async with mining(daemon.lab):
        unpaid = await buyer.order(700)
    await refund_now(daemon, unpaid)
    swaps = []
    for swap_id in (done.swap_id, unpaid.swap_id):
        request = pb.GetSwapRequest(swap_id=swap_id)
        swaps.append((await daemon.stub().GetSwap(request, timeout=10)).swap)
    text = daemon.log.read_text()
    entries = lines(text)

    for swap, states in zip(swaps, (["FUNDED", "CLAIMED"], ["FUNDED", "REFUNDED"]), strict=True):
        mine = [entry for entry in entries if entry.get("swap_id") == swap.swap_id]
        for entry in mine:
            assert entry["request_id"] == swap.request_id, entry
            assert entry["payment_hash"] == swap.payment_hash, entry
        events = [entry["event"] for entry in mine]
        assert {"swap created", "invoice made", "state changed"} <= set(events)
        assert [e["state"] for e in mine if e["event"] == "state changed"] == states
    paid = [entry["swap_id"] for entry in entries if entry["event"] == "invoice paid"]
    assert paid == [swaps[0].swap_id]
    assert all({"event", "level", "timestamp"} <= set(entry) for entry in entries)

    words = (daemon.directory / "mnemonic").read_text().strip()
    assert words not in text
    assert " ".join(words.split()[:3]) not in text
    for name, secret in secrets_of(words, swaps).items():
        assert secret.hex() not in text.lower(), name
    revealed = await lightning_call(
        daemon.lab.lightning["seller"], "listinvoices", label=done.swap_id
    )
    assert revealed["invoices"][0]["payment_preimage"] not in text  # the right one was looked for
    assert (
        revealed["invoices"][0]["payment_preimage"] == secrets_of(words, swaps)["preimage 0"].hex()
    )
    assert "lnert1" not in text
    for payload in ("preimage", "payment_secret", "jsonrpc", "bolt11", "mnemonic"):
        assert payload not in text.lower(), payload
    for swap in swaps:
        assert swap.witness_script.hex() not in text
        assert swap.buyer_claim_address not in text
