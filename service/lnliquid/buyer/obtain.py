"""First half of a purchase: get the swap made, wait until it is funded, check all of it."""

from lnliquid.buyer.claim import claim_rate
from lnliquid.buyer.errors import HashChanged, SellerDeclined, VerdictNotClean
from lnliquid.buyer.facts import Expectations, SwapReply, Verdict
from lnliquid.buyer.journal import Step
from lnliquid.buyer.verify import verify
from lnliquid.buyer.view import HtlcView, look_at_htlc
from lnliquid.buyer.work import Work
from lnliquid.swap import State

_NOT_THERE_YET = frozenset(
    {"confirmations", "funding transaction", "asset output", "subsidy output"}
)
"""Checks that also fail while the funding has not reached the buyer's own server."""


async def create(work: Work) -> None:
    """REQUESTED → CREATED: the seller makes the swap, or returns the one of this request."""
    order = work.record.order
    work.say("create", "asking the seller to lock the asset")
    try:
        swap = await work.until(
            "the seller", lambda: work.seller.create(order, work.record.claim_address)
        )
    except SellerDeclined as declined:
        work.save(step=Step.DECLINED, note=str(declined))
        raise
    work.save(step=Step.CREATED, swap=swap.to_dict())
    work.say("create", f"the seller made swap {swap.swap_id}")


async def check(work: Work) -> Verdict:
    """Wait until the swap can be paid and its funding is seen, run every check, store the verdict.

    CREATED stays CREATED when the verdict is clean, else it becomes REFUSED and `VerdictNotClean`
    is raised. `SellerDeclined` when the seller has given the swap up.
    """
    work.say("funding", "waiting for the funding to confirm")
    swap = await work.until("the funding", lambda: _payable(work))
    work.save(swap=swap.to_dict())
    work.say("funding", f"funded by {swap.funding_txid}")
    verdict, view = await work.until("confirmations", lambda: _judge(work, swap))
    raw = view.funding.raw.hex() if view.funding.raw else ""
    if not verdict.ok:
        error = VerdictNotClean(verdict)
        work.save(step=Step.REFUSED, verdict=verdict.to_dict(), note=str(error))
        raise error
    work.save(verdict=verdict.to_dict(), funding_raw=raw)
    work.say("verify", f"all {len(verdict.checks)} checks passed")
    return verdict


async def _payable(work: Work) -> SwapReply | None:
    """The swap once there is something to judge; None while the seller is still at work."""
    swap = await _reread(work)
    if swap.state in (State.FAILED, State.REFUNDED):
        declined = SellerDeclined(swap.state.name, "it gave the swap up; nothing was paid")
        work.save(step=Step.DECLINED, swap=swap.to_dict(), note=str(declined))
        raise declined
    waiting = swap.state is State.CREATED or (swap.state is State.FUNDED and not swap.bolt11)
    return None if waiting else swap


async def _reread(work: Work) -> SwapReply:
    """The swap as it stands now. → REFUSED and `HashChanged` when it is not the same any more.

    A payment of the hash that was told first may have been started, and still go through: to pay
    another one for the same swap could be to pay twice.
    """
    before = work.swap
    swap = await work.seller.swap(before.swap_id)
    if before.payment_hash and swap.payment_hash != before.payment_hash:
        changed = HashChanged(before.payment_hash, swap.payment_hash)
        work.save(step=Step.REFUSED, note=str(changed))
        raise changed
    return swap


async def _judge(work: Work, swap: SwapReply) -> tuple[Verdict, HtlcView] | None:
    """The verdict, None while it is only the buyer's own server that is not there yet."""
    view = await look_at_htlc(work.chain, swap)
    rate = claim_rate(await work.chain.fee_rate_sats_per_kvb(2))
    want = expectations(work, rate)
    verdict = verify(swap, work.offer, want, view.funding, view.tip, work.clock.now())
    height = view.funding.height
    unseen = height is None or view.tip.height - height + 1 < want.min_funding_confs
    if unseen and {check.name for check in verdict.failed} <= _NOT_THERE_YET:
        return None
    return verdict, view


def expectations(work: Work, claim_rate_sats_per_kvb: int) -> Expectations:
    """What the checks compare with: the stored order and the buyer's own assumptions."""
    record, settings = work.record, work.settings
    return Expectations(
        network=record.network,
        request_id=record.order.request_id,
        asset_id=record.order.asset_id,
        asset_amount=record.order.amount,
        claim_address=record.claim_address,
        claim_key_hash=work.key.key_hash,
        max_total_price_msat=record.order.max_price_msat,
        min_funding_confs=record.order.min_confs,
        claim_rate_sats_per_kvb=claim_rate_sats_per_kvb,
        liquid_block_secs=settings.liquid_block_secs,
        lightning_block_secs=settings.assumed_lightning_block_secs,
        min_claim_margin_blocks=settings.min_claim_margin_blocks,
        pay_wait_secs=settings.pay_wait_secs,
    )
