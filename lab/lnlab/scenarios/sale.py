"""Sale: offer, create, verify, pay over Lightning, claim on Liquid; both sides agree."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnlab.nodes.lightning import lightning_call

Say = Callable[[str], None]


class ScenarioError(AssertionError):
    """What the scenario promises did not come true; the text says what was expected and found."""


def require(truth: bool, what: str) -> None:
    """Raise `ScenarioError` unless it is so."""
    if not truth:
        raise ScenarioError(what)


@dataclass(frozen=True)
class Sale:
    """How a sale ended. `secs` from the first call to the agreement of both sides."""

    swap_id: str
    bought: int
    balance_before: int
    balance_after: int
    invoice_status: str
    state: str
    claim_txid: str
    secs: float


async def sale(
    daemon: SellerDaemon,
    buyer: Buyer,
    amount: int,
    *,
    say: Say,
    before: int | None = None,
    block_every_secs: float = 0.3,
) -> Sale:
    """Buy `amount` smallest units while blocks are mined, then ask both sides what they have.

    `before`: what the buyer has, where that is known already. Raises `ScenarioError` when they do
    not agree, `ProgramError` when the buyer fails.
    """
    lab = daemon.lab
    if before is None:
        before = await buyer.balance()
    started = time.monotonic()
    async with mining(lab, block_every_secs):
        record = await buyer.buy(amount, max_price_msat=10**12, on_line=say)
        swap_id = str(record["swap"]["swap_id"])

        async def is_final() -> bool:
            reply = await daemon.stub().GetSwap(pb.GetSwapRequest(swap_id=swap_id), timeout=10)
            return bool(reply.swap.is_final)

        _, after = await asyncio.gather(
            lab.wait_for(is_final, timeout_secs=60, message="the seller sees the claim buried"),
            buyer.balance(),
        )
    reply = await daemon.stub().GetSwap(pb.GetSwapRequest(swap_id=swap_id), timeout=10)
    found = await lightning_call(lab.lightning["seller"], "listinvoices", label=swap_id)
    result = Sale(
        swap_id=swap_id,
        bought=amount,
        balance_before=before,
        balance_after=after,
        invoice_status=str(found["invoices"][0]["status"]),
        state=pb.SwapState.Name(reply.swap.state).removeprefix("SWAP_STATE_"),
        claim_txid=reply.swap.spend_txid,
        secs=time.monotonic() - started,
    )
    require(after == before + amount, f"the buyer has {after}, expected {before} + {amount}")
    require(result.invoice_status == "paid", f"the invoice is {result.invoice_status}, not paid")
    require(result.state == "CLAIMED", f"the seller says {result.state}, not CLAIMED")
    daemon.check_log()
    return result
