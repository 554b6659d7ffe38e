"""First steps of a purchase: have the swap made, wait until it is funded, check all of it."""

from dataclasses import dataclass

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer.answers import swap_of, to_json
from lnliquid.buyer.chain_checks import BEHIND
from lnliquid.buyer.chain_view import look_at_htlc
from lnliquid.buyer.checks import Evidence, SwapReply, Verdict
from lnliquid.buyer.claim_tx import claim_rate
from lnliquid.buyer.errors import (
    BuyerError,
    HashChanged,
    SellerDeclined,
    TooLateToPay,
    VerdictNotClean,
)
from lnliquid.buyer.journal import Step
from lnliquid.buyer.payment import was_found
from lnliquid.buyer.purchase import Purchase
from lnliquid.buyer.verify import verify
from lnliquid.domain.swap import State
from lnliquid.domain.timelock import LightningChain, chain_of_node

_NOT_THERE_YET = frozenset(
    {"confirmations", "funding transaction", "asset output", "subsidy output"}
)
"""Checks that also fail while the funding has not reached the buyer's own server."""


async def create(purchase: Purchase) -> None:
    """REQUESTED → CREATED: the seller makes the swap, or returns the one of this request."""
    order, address = purchase.record.order, purchase.record.claim_address
    purchase.say("create", "asking the seller to lock the asset")
    try:
        answer = await purchase.until("the seller", lambda: purchase.seller.create(order, address))
    except SellerDeclined as declined:
        purchase.save(step=Step.DECLINED, note=str(declined))
        raise
    purchase.save(step=Step.CREATED, swap=to_json(answer))
    purchase.say("create", f"the seller made swap {answer.swap_id}")


async def check(purchase: Purchase) -> None:
    """Wait until the swap can be paid and its funding is seen, run every check, store the verdict.

    CREATED stays CREATED when the verdict is clean, else it becomes REFUSED and `VerdictNotClean`
    is raised; DECLINED and `SellerDeclined` when the seller has given the swap up. PAYING or PAID
    instead of either when the Lightning node knows of a payment.
    """
    purchase.say("funding", "waiting for the funding to confirm")
    answer: pb.Swap | _Over = await purchase.until("the funding", lambda: _payable(purchase))
    if isinstance(answer, _Over):
        await _end_unpaid(purchase, answer.step, answer.error)
        return
    was_clean = purchase.record.swap if purchase.record.funding_raw else None
    purchase.save(swap=to_json(answer))
    purchase.say("funding", f"funded by {answer.funding_txid}")
    patience_ends = purchase.clock.now() + round(purchase.patience_secs)
    verdict, evidence = await purchase.until(
        "confirmations", lambda: _judge(purchase, patience_ends)
    )
    if not verdict.ok:
        # A payment of the swap that was clean before may still go through: that one is claimed.
        purchase.save(verdict=verdict.to_dict(), swap=was_clean or purchase.record.swap)
        await _end_unpaid(purchase, Step.REFUSED, VerdictNotClean(verdict))
        return
    raw = evidence.funding.raw.hex() if evidence.funding.raw else ""
    purchase.save(
        verdict=verdict.to_dict(), funding_raw=raw, max_delay_blocks=evidence.max_delay_blocks
    )
    purchase.say("verify", f"all {len(verdict.checks)} checks passed")


@dataclass(frozen=True)
class _Over:
    """Why the purchase ends before it can be judged, unless something was paid."""

    step: Step
    error: BuyerError


async def _end_unpaid(purchase: Purchase, step: Step, error: BuyerError) -> None:
    """End the purchase and raise why, if Lightning says too that nothing was paid (rule 12)."""
    if await purchase.until("the Lightning node", lambda: was_found(purchase)):
        purchase.say("pay", f"{error}; but the Lightning node knows of a payment: going on")
        return
    purchase.save(step=step, note=str(error))
    raise error


async def _payable(purchase: Purchase) -> "pb.Swap | _Over | None":
    """The swap once there is something to judge; None while the seller is still at work.

    When it is not the same any more a payment of the hash that was told first may have been
    started, and to pay another one could be to pay twice.
    """
    before = purchase.swap
    answer = await purchase.seller.swap(before.swap_id)
    if before.payment_hash and answer.payment_hash != before.payment_hash:
        return _Over(Step.REFUSED, HashChanged(before.payment_hash, answer.payment_hash))
    state = swap_of(answer).state
    if state in (State.FAILED, State.REFUNDED):
        return _Over(
            Step.DECLINED, SellerDeclined(state.name, "it gave the swap up; nothing was paid")
        )
    waiting = state is State.CREATED or (state is State.FUNDED and not answer.bolt11)
    if not waiting:
        return answer
    if why := await _too_late(purchase, swap_of(answer)):
        late = TooLateToPay(purchase.request_id, why, answer.refund_lock_height)
        return _Over(Step.REFUSED, late)
    return None


async def _too_late(purchase: Purchase, swap: SwapReply) -> str | None:
    """Why this swap, which has no invoice yet, can no longer be paid; None while it may be."""
    if swap.payment_closed:
        return "the seller takes no payment for it any more"
    if not swap.refund_lock_height:
        return None
    # A seller of an older version does not tell the block; then the claim's own time decides.
    last = swap.payable_until_height
    last = last or swap.refund_lock_height - purchase.settings.claim_margin_blocks
    tip = (await purchase.chain.tip()).height
    return f"the last block for paying is {last}, and the tip is {tip}" if tip > last else None


async def _judge(purchase: Purchase, patience_ends: int) -> tuple[Verdict, Evidence] | None:
    """The verdict, None while it is only the buyer's own server that is not there yet.

    One that is behind the buyer's Lightning node may catch up until `patience_ends`.
    """
    record, swap = purchase.record, purchase.swap
    node = await purchase.lightning.info()
    on_liquid = chain_of_node(node.network) is LightningChain.LIQUID
    view = await look_at_htlc(purchase.chain, swap)
    want = purchase.settings.expectations(
        record.order,
        claim_address=record.claim_address,
        claim_key_hash=purchase.key.key_hash,
        claim_rate_sats_per_kvb=claim_rate(await purchase.chain.fee_rate_sats_per_kvb(2)),
        node_height=node.block_height if on_liquid else 0,
    )
    now = purchase.clock.now()
    evidence = Evidence(swap, purchase.offer, want, view.funding, view.tip, now)
    verdict = verify(evidence)
    height = view.funding.height
    unseen = height is None or view.tip.height - height + 1 < want.min_funding_confs
    passing = _NOT_THERE_YET if unseen else frozenset()
    if now < patience_ends:
        passing |= {BEHIND}
    failed = {check.name for check in verdict.failed}
    return None if failed and failed <= passing else (verdict, evidence)
