"""Second half of a purchase: build the claim, send it, follow it until it is confirmed.

Once the price is paid nothing that the seller or an Electrum server says may stop the claim from
being sent: the stored reply, preimage and key are enough for it.
"""

import contextlib

from lnliquid.buyer.claim import affordable_rate, build_claim, claim_rate
from lnliquid.buyer.errors import AssetLost, BuyerError, SellerDeclined, SellerUnavailable
from lnliquid.buyer.facts import FundingView
from lnliquid.buyer.journal import Step
from lnliquid.buyer.view import HtlcView, Spender, look_at_htlc
from lnliquid.buyer.wallet import read_coins
from lnliquid.buyer.work import Work
from lnliquid.errors import BackendError, BackendRejected
from lnliquid.liquid import tx
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.htlc import SpendKind
from lnliquid.liquid.tx import FeeNotCovered
from lnliquid.swap import Coin, Outpoint, State, Tip


async def build(work: Work) -> None:
    """PAID → CLAIMING: sign a claim of what is unspent and store it. Sends nothing."""
    view = await work.until("the Electrum server", lambda: _look(work))
    swap = work.swap
    if _is_gone(view, swap.asset_outpoint):
        # Spent by a claim of ours or by a refund: following it tells which.
        work.save(step=Step.CLAIMING)
        return
    with_subsidy = not _is_gone(view, swap.subsidy_outpoint)
    if not with_subsidy:
        work.say("claim", "the subsidy is already spent; the fee has to come from your own L-BTC")
    signed = await _signed(work, with_asset=True, with_subsidy=with_subsidy)
    _store(work, signed)
    work.say("claim", f"claiming with {signed.txid}, fee {signed.fee_sats} sat")


def _is_gone(view: HtlcView, outpoint: Outpoint) -> bool:
    """Spent for good. A refund in the mempool is not: the claim may still replace or outrun it."""
    spender = view.spenders.get(outpoint)
    return spender is not None and (spender.height is not None or spender.kind is SpendKind.CLAIM)


async def _signed(work: Work, *, with_asset: bool, with_subsidy: bool) -> tx.Signed:
    swap, policy_asset = work.swap, work.settings.chain.policy_asset
    rate = await _rate(work)
    coins: list[Coin] = []
    if not with_subsidy and swap.asset_id != policy_asset:
        owned = await read_coins(work.chain, work.keys, work.journal.index_count())
        coins = [coin for coin in owned if coin.asset_id == policy_asset]
    else:
        lbtc_sats = swap.subsidy_sats if with_subsidy else swap.asset_amount
        rate = affordable_rate(rate, lbtc_sats)
    try:
        return build_claim(
            swap,
            work.key,
            bytes.fromhex(work.record.preimage),
            with_asset=with_asset,
            with_subsidy=with_subsidy,
            policy_asset=policy_asset,
            rate_sats_per_kvb=rate,
            coins=coins,
            keys=work.keys,
        )
    except FeeNotCovered as error:
        address = p2wpkh_address(work.key.key_hash, work.settings.chain)
        raise BuyerError(
            f"{error}, because the subsidy was spent by someone else; send that much L-BTC to "
            f"{address} (your own), then `lnliquid resume {work.request_id}`"
        ) from None


async def _rate(work: Work) -> int:
    """The rate now; a raised one when the last claim was refused for its fee."""
    try:
        rate = claim_rate(await work.chain.fee_rate_sats_per_kvb(2))
    except BackendError:
        rate = claim_rate(None)  # an estimate is not worth waiting for
    return max(rate, work.record.least_claim_rate)


def _store(work: Work, signed: tx.Signed) -> None:
    entry = {"txid": signed.txid, "raw": signed.raw.hex()}
    work.save(step=Step.CLAIMING, claims=[*work.record.claims, entry])


async def follow(work: Work) -> None:
    """CLAIMING: send the stored claim, again and again, until it is confirmed → DONE.

    Returns earlier, still CLAIMING, when the claim is in the mempool and the seller has seen it;
    and as PAID when another claim has to be built. Raises `AssetLost` when a refund won.
    """
    said: set[str] = set()
    await work.until("a block that holds the claim", lambda: _advance(work, said))


async def _advance(work: Work, said: set[str]) -> bool | None:
    """One look at the HTLC and what follows from it. None: look again later."""
    view = await _look(work)
    swap, claims = work.swap, work.record.claims
    spender = view.spenders.get(swap.asset_outpoint)
    if spender is not None and spender.kind is SpendKind.CLAIM:
        return await _claimed(work, spender)
    if spender is not None and spender.height is not None:
        await _lost(work, spender, with_subsidy=not _is_gone(view, swap.subsidy_outpoint))
    last = tx.parse(bytes.fromhex(claims[-1]["raw"])) if claims else None
    needs_subsidy = last and swap.subsidy_outpoint in {spent.outpoint for spent in last.inputs}
    if last is None or (needs_subsidy and _is_gone(view, swap.subsidy_outpoint)):
        work.save(step=Step.PAID)
        return True
    return await _send(work, last, said)


async def _claimed(work: Work, spender: Spender) -> bool | None:
    """The claim is seen. Only the buyer's key makes one, so whichever it is, it is ours."""
    if work.record.spend_txid != spender.txid:
        work.save(spend_txid=spender.txid)
        work.say("claim", f"claim {spender.txid} is seen by the network")
    if spender.height is not None:
        work.save(step=Step.DONE)
        work.say("done", f"claim confirmed in block {spender.height}; the asset is yours")
        return True
    try:
        swap = await work.seller.swap(work.swap.swap_id)
    except (SellerUnavailable, SellerDeclined):
        return None  # a block will tell as well
    if swap.state is not State.CLAIMED:
        return None
    work.say("done", "the seller sees the claim too; a block will confirm it")
    return True


async def _send(work: Work, claim: tx.Transaction, said: set[str]) -> bool | None:
    """Broadcast the stored bytes. On a refusal for the fee, go back and build a dearer claim."""
    try:
        await work.chain.broadcast(bytes.fromhex(work.record.claims[-1]["raw"]))
    except BackendRejected as rejected:
        if rejected.message not in said:
            said.add(rejected.message)
            work.say("claim", f"the claim is not taken yet: {rejected.message}")
        rate = claim.fee_sats * 1000 // claim.vsize
        most = affordable_rate(2 * rate, work.swap.subsidy_sats)
        if "fee" in rejected.message.lower() and most > rate:
            work.save(step=Step.PAID, least_claim_rate=most)
            return True
        # After a reorg the funding may have to be sent again too; anybody may do that.
        with contextlib.suppress(BackendRejected):
            await work.chain.broadcast(bytes.fromhex(work.record.funding_raw))
    else:
        if claim.txid not in said:
            said.add(claim.txid)
            work.say("claim", "claim sent")
    return None


async def _lost(work: Work, refund: Spender, *, with_subsidy: bool) -> None:
    """A refund has the asset, in a block. Take the subsidy if it is there; raise `AssetLost`."""
    error = AssetLost(work.request_id, refund.txid)
    if with_subsidy:
        with contextlib.suppress(BuyerError, BackendError):
            _store(work, await _signed(work, with_asset=False, with_subsidy=True))
            await work.chain.broadcast(bytes.fromhex(work.record.claims[-1]["raw"]))
    work.save(step=Step.LOST, spend_txid=refund.txid, note=str(error))
    raise error


async def _look(work: Work) -> HtlcView:
    """The HTLC as seen now. A server that refuses to show it (a script can be flooded with dust)
    counts as one that shows no spender: the claim is sent regardless.
    """
    try:
        return await look_at_htlc(work.chain, work.swap)
    except BackendRejected as rejected:
        work.say("claim", f"the Electrum server does not show the swap: {rejected.message}")
        return HtlcView(Tip(0, ""), FundingView(None, None), {})
