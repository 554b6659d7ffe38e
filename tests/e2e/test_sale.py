"""A sale from the first question to the buried claim, also with the daemon killed at every step."""

import asyncio
import hashlib
import uuid

import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnlab.nodes.electrum import electrum_call
from lnlab.scenarios.sale import sale
from lnliquid.crashpoints import POINTS, VARIABLE

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_OF_A_SALE = (
    "commit.",
    "refund.",
    "invoice.dropped",
    "bump.",
    "lanes.",
    "withdraw.",
    "own_tx.resent",
    "own_tx.abandoned",
)
SALE_POINTS = [p for p in POINTS if not p.startswith(NOT_OF_A_SALE)]


async def test_sale(daemon: SellerDaemon) -> None:
    """A buyer with nothing but the CLI ends up with the asset, and both sides say the same."""
    steps: list[str] = []
    done = await sale(daemon, Buyer(daemon, "sale"), 1_000, say=steps.append)
    assert done.bought == 1_000
    assert any("checks passed" in step for step in steps)


@pytest.mark.parametrize("point", SALE_POINTS)
async def test_daemon_killed_at(daemon: SellerDaemon, point: str) -> None:
    """Killed dead at this point and again during recovery, the sale completes with one funding."""
    lab = daemon.lab
    buyer = Buyer(daemon, point)
    await daemon.restart({VARIABLE: point})
    request_id = str(uuid.uuid4())
    async with mining(lab):
        buying = asyncio.create_task(buyer.buy(700, max_price_msat=10**12, request_id=request_id))
        await daemon.wait_dead()
        await daemon.launch({VARIABLE: "*"})
        # At the last points there may be nothing left to recover, and so nothing to die at.
        await lab.wait_for(
            lambda: buying.done() or not daemon.is_running(),
            timeout_secs=30,
            message="a second crash, or the end",
        )
        await daemon.restart()
        swap = (await buying)["swap"]

        async def is_final() -> bool:
            request = pb.GetSwapRequest(swap_id=swap["swap_id"])
            return bool((await daemon.stub().GetSwap(request, timeout=10)).swap.is_final)

        await lab.wait_for(is_final, timeout_secs=30, message="the claim is buried")
    assert await buyer.balance() == 700
    reply = await daemon.stub().GetSwap(pb.GetSwapRequest(swap_id=swap["swap_id"]), timeout=10)
    assert [event.to_state for event in reply.events] == [
        pb.SWAP_STATE_CREATED,
        pb.SWAP_STATE_FUNDED,
        pb.SWAP_STATE_CLAIMED,
        pb.SWAP_STATE_CLAIMED,  # the claim is final
    ]
    # Everything that ever touched the HTLC: the one funding and the one claim.
    script = b"\x00\x20" + hashlib.sha256(reply.swap.witness_script).digest()
    history = await electrum_call(
        lab.electrum_url,
        "blockchain.scripthash.get_history",
        hashlib.sha256(script).digest()[::-1].hex(),
    )
    assert {item["tx_hash"] for item in history} == {
        reply.swap.funding_txid,
        reply.swap.spend_txid,
    }
