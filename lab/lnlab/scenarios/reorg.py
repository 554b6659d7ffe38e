"""Reorgs: what a block took is given back, and the swap goes on from where the chain is."""

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.faults.control import Faults
from lnlab.nodes.lightning import LightningRpcError
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    CREATED,
    FUNDED,
    REFUNDED,
    history,
    is_logged,
    look,
    mine_to,
    require_path,
    require_refusal,
    require_spends,
    sell,
    until,
    until_final,
    until_no_invoice,
    until_state,
)

DEPTHS = (1, 3, 10)


async def funding_reorged(daemon: SellerDaemon, depth: int, say: Say) -> None:
    """A funding that a reorg takes back has no invoice until it confirms again."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    swap = await buyer.order()
    if depth > 1:
        await lab.mine(depth - 1)
    # An equal height and a greater one are both seen.
    await lab.reorg(depth, depth + depth % 2, without=[swap.funding_txid])
    await until_state(daemon, swap.swap_id, CREATED, invoice=False)
    await until_no_invoice(daemon, swap.swap_id)
    try:
        await buyer.pay(swap)
    except LightningRpcError:
        pass
    else:
        require(False, "an invoice was payable whose funding is not in the chain")
    say(f"the funding was undone {depth} deep: back to CREATED, and no invoice is payable")
    await lab.mine()
    again = await until_state(daemon, swap.swap_id, FUNDED, invoice=True)
    require(again.funding_txid == swap.funding_txid, "funded by another transaction")
    claim = await buyer.send(buyer.claim(again, await buyer.pay(again)))
    await until_final(daemon, swap.swap_id, CLAIMED)
    await require_path(daemon, swap.swap_id, (CREATED, FUNDED, CREATED, FUNDED, CLAIMED))
    await require_spends(daemon, swap, "claim", "claim")
    there = await history(daemon, swap)
    require(
        there == {swap.funding_txid, claim},
        f"{there} have to do with the swap, expected {swap.funding_txid} and {claim} alone",
    )
    say("confirmed again: FUNDED with a new invoice, paid, claimed")
    daemon.check_log()


async def claim_reorged(daemon: SellerDaemon, say: Say) -> None:
    """A claim that a reorg takes back is not final, and is claimed again when it returns."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    swap = await buyer.order()
    claim = buyer.claim(swap, await buyer.pay(swap))
    txid = await buyer.send(claim)
    await lab.mine()
    await until_state(daemon, swap.swap_id, CLAIMED)
    await lab.reorg(1, without=[txid])
    await lab.mine(2, without=[txid])
    require(not (await look(daemon, swap.swap_id)).swap.is_final, "final without the claim")
    if lab.nodes.kind == "embedded":
        await Faults(lab).drop_transaction(txid)
        await until_state(daemon, swap.swap_id, FUNDED)
        say("the claim was undone and forgotten: FUNDED again")
        await buyer.send(claim)
    await until_final(daemon, swap.swap_id, CLAIMED)
    await require_spends(daemon, swap, "claim", "claim")
    say("the claim came back and is buried")
    daemon.check_log()


async def refund_reorged(daemon: SellerDaemon, say: Say) -> None:
    """A refund that a reorg takes back is sent again, the same one."""
    lab = daemon.lab
    swap = await HandBuyer(daemon).order()
    await mine_to(daemon, swap.refund_lock_height)
    refunded = await until_state(daemon, swap.swap_id, REFUNDED)
    await lab.mine()
    txid = refunded.spend_txid
    await lab.reorg(1, 2, without=[txid])
    require(not (await look(daemon, swap.swap_id)).swap.is_final, "final without the refund")
    if lab.nodes.kind == "embedded":
        await Faults(lab).drop_transaction(txid)
        say("the refund was undone and forgotten")
        await lab.mine()

    async def is_sent() -> bool:
        return txid in await lab.rpc.call("getrawmempool")

    await until(daemon, is_sent, "the refund is in the mempool again")
    final = await until_final(daemon, swap.swap_id, REFUNDED)
    require(final.spend_txid == txid, "refunded by another transaction")
    await require_spends(daemon, swap, "refund", "refund")
    say("the same refund is buried")
    daemon.check_log()


async def deep_reorg(daemon: SellerDaemon, say: Say) -> None:
    """A final claim vanishes, deeper than final: sales stop, the swap is reopened and named.

    Once while the daemon runs, once while it is down. The operator resumes sales by hand.
    """
    for is_down in (False, True):
        await _final_claim_reorged(daemon, is_down, say)
    daemon.check_log()


async def _final_claim_reorged(daemon: SellerDaemon, is_down: bool, say: Say) -> None:
    lab, buyer = daemon.lab, HandBuyer(daemon)
    swap = await buyer.order()
    claim = buyer.claim(swap, await buyer.pay(swap))
    txid = await buyer.send(claim)
    await until_final(daemon, swap.swap_id, CLAIMED)
    buried = await lab.rpc.call("getrawtransaction", txid, True)
    if is_down:
        await daemon.stop()
    await lab.reorg(buried["confirmations"], buried["confirmations"] + 1, without=[txid])
    if lab.nodes.kind == "embedded":
        await Faults(lab).drop_transaction(txid)
    if is_down:
        await daemon.launch()  # it is not ready before the operator resumes
        await until(daemon, lambda: _answers(daemon), "the daemon answers")
    if lab.nodes.kind == "embedded":
        await until_state(daemon, swap.swap_id, FUNDED)
    else:  # the claim is in the mempool again
        await until(daemon, lambda: _is_reopened(daemon, swap.swap_id), "the swap is reopened")
    events = (await look(daemon, swap.swap_id)).events
    require(any("reopened" in e.cause for e in events), "no event tells that it was reopened")
    require(is_logged(daemon, "finished swap reopened", swap.swap_id), "the log does not name it")
    await require_refusal(buyer.order(), grpc.StatusCode.UNAVAILABLE)
    say(f"a final claim vanished{' while the daemon was down' if is_down else ''}: sales stopped")
    if lab.nodes.kind == "embedded":
        await buyer.send(claim)
    await until_final(daemon, swap.swap_id, CLAIMED)
    await require_spends(daemon, swap, "claim", "claim")
    await require_refusal(buyer.order(), grpc.StatusCode.UNAVAILABLE)
    await daemon.operator_stub().Resume(pb.ResumeRequest(), timeout=10)
    await sell(daemon, buyer)
    say("the claim is final again, and sales go on after `lnliquid resume-sales`")


async def _is_reopened(daemon: SellerDaemon, swap_id: str) -> bool:
    return not (await look(daemon, swap_id)).swap.is_final


async def _answers(daemon: SellerDaemon) -> bool:
    daemon.check_alive()
    try:
        await daemon.operator_stub().GetStatus(pb.GetStatusRequest(), timeout=2)
    except grpc.aio.AioRpcError:
        return False
    return True


async def reorg(daemon: SellerDaemon, say: Say) -> None:
    """Funding, claim and refund are undone by reorgs; each swap ends as it should."""
    for depth in DEPTHS:
        await funding_reorged(daemon, depth, say)
    await claim_reorged(daemon, say)
    await refund_reorged(daemon, say)
