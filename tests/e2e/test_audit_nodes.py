"""The audit by its command, against nodes in which something was changed behind the daemon."""

import json
from typing import Any

import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.programs import ProgramError, run_program
from lnlab.nodes.lightning import lightning_call
from lnlab.scenarios.steps import REFUNDED, look, mine_to, until, until_final

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def audited(daemon: SellerDaemon, *options: str) -> str:
    """What `lnliquid audit` prints, whether it finds something or not."""
    command = ("lnliquid", "audit", "--config", str(daemon.config), "--settle-secs", "0", *options)
    try:
        return await run_program(*command)
    except ProgramError as error:
        if error.code == 1:
            return error.output
        raise


async def test_an_invoice_that_somebody_deleted_is_found_and_settled(daemon: SellerDaemon) -> None:
    """Named at once with what to do; it ends with the operator's word, and the audit is exact."""
    swap = await HandBuyer(daemon).order()
    assert "OK: store, chain and Lightning agree" in await audited(daemon)
    seller = daemon.lab.lightning["seller"]
    await lightning_call(seller, "delinvoice", label=swap.swap_id, status="unpaid")
    told = await audited(daemon)
    assert f"the invoice of swap {swap.swap_id} was shown, and is deleted" in told
    assert "meaning:" in told
    assert "to do:" in told
    await mine_to(daemon, swap.refund_lock_height)

    async def needs_operator() -> bool:
        request = pb.ListSwapsRequest(paid_unclaimed=True)
        reply = await daemon.operator_stub().ListSwaps(request, timeout=10)
        return swap.swap_id in [s.swap.swap_id for s in reply.swaps]

    await until(daemon, needs_operator, "the swap is shown to the operator")
    assert (await look(daemon, swap.swap_id)).swap.state != REFUNDED
    order = pb.RefundSwapRequest(swap_id=swap.swap_id, reason="nobody paid, says the buyer")
    await daemon.operator_stub().RefundSwap(order, timeout=10)
    await until_final(daemon, swap.swap_id, REFUNDED)
    assert "OK: store, chain and Lightning agree" in await audited(daemon)


async def test_a_payable_invoice_of_a_refunded_swap_is_found(daemon: SellerDaemon) -> None:
    """Somebody makes it anew under the swap's label: a payment would buy nothing."""
    swap = await HandBuyer(daemon).order()
    await mine_to(daemon, swap.refund_lock_height)
    await until_final(daemon, swap.swap_id, REFUNDED)
    seller = daemon.lab.lightning["seller"]
    await lightning_call(
        seller, "invoice", label=swap.swap_id, amount_msat=7_000, description="by hand"
    )
    report: dict[str, Any] = json.loads(await audited(daemon, "--json"))
    texts = [d["text"] for d in report["differences"]]
    assert any("REFUNDED: nothing is locked" in text for text in texts)
    assert any("another payment hash" in text for text in texts)
    assert any("asks for 7000 msat" in text for text in texts)
    assert all(d["meaning"] and d["advice"] for d in report["differences"])
    assert json.loads(await audited(daemon, "--json", "--without-lightning"))["exact"]
    await lightning_call(seller, "delinvoice", label=swap.swap_id, status="unpaid")
    assert json.loads(await audited(daemon, "--json"))["exact"]
