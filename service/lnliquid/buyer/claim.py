"""Last steps of a purchase: build the claim, send it, follow it until it is confirmed.

Once the price is paid nothing that the seller or an Electrum server says may stop the claim from
being sent: the stored reply, preimage and key are enough for it.
"""

import contextlib

from lnliquid.buyer.answers import swap_of
from lnliquid.buyer.chain_view import HtlcView, Spender, look_at_htlc, read_coins
from lnliquid.buyer.checks import FundingView
from lnliquid.buyer.claim_tx import affordable_rate, build_claim, claim_rate
from lnliquid.buyer.errors import AssetLost, BuyerError, SellerDeclined, SellerUnavailable
from lnliquid.buyer.journal import Step
from lnliquid.buyer.purchase import Purchase
from lnliquid.domain.errors import (
    BackendError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.swap import Coin, Outpoint, State, Tip
from lnliquid.domain.transaction import Transaction, parse_transaction
from lnliquid.liquid import tx_builder
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.tx_builder import FeeNotCovered

_NOTHING_SHOWN = HtlcView(Tip(0, ""), FundingView(None, None), {})


async def build(purchase: Purchase) -> None:
    """PAID → CLAIMING: sign a claim of what is unspent and store it. Sends nothing."""
    # The first claim is built without a look: whatever a server shows, it is to be sent.
    view = await _look(purchase) if purchase.record.claims else _NOTHING_SHOWN
    swap = purchase.swap
    if _is_gone(view, swap.asset_outpoint):
        # Spent by a claim of ours or by a refund: following it tells which.
        purchase.save(step=Step.CLAIMING)
        return
    with_subsidy = not _is_gone(view, swap.subsidy_outpoint)
    if not with_subsidy:
        purchase.say(
            "claim", "the subsidy is already spent; the fee has to come from your own L-BTC"
        )
    signed = await _signed(purchase, with_asset=True, with_subsidy=with_subsidy)
    _store(purchase, signed)
    purchase.say("claim", f"claiming with {signed.txid}, fee {signed.fee_sats} sat")


def _is_gone(view: HtlcView, outpoint: Outpoint) -> bool:
    """Spent for good. A refund in the mempool is not: the claim may still replace or outrun it."""
    spender = view.spenders.get(outpoint)
    return spender is not None and (spender.height is not None or spender.kind is SpendKind.CLAIM)


async def _signed(purchase: Purchase, *, with_asset: bool, with_subsidy: bool) -> tx_builder.Signed:
    swap, policy_asset = purchase.swap, purchase.settings.chain.policy_asset
    rate = await _rate(purchase)
    coins: list[Coin] = []
    if not with_subsidy and swap.asset_id != policy_asset:
        owned = await read_coins(purchase.chain, purchase.keys, purchase.journal.index_count())
        coins = [coin for coin in owned if coin.asset_id == policy_asset]
    else:
        lbtc_sats = swap.subsidy_sats if with_subsidy else swap.asset_amount
        rate = affordable_rate(rate, lbtc_sats)
    try:
        return build_claim(
            swap,
            purchase.key,
            bytes.fromhex(purchase.record.preimage),
            with_asset=with_asset,
            with_subsidy=with_subsidy,
            policy_asset=policy_asset,
            rate_sats_per_kvb=rate,
            coins=coins,
            keys=purchase.keys,
        )
    except FeeNotCovered as error:
        address = p2wpkh_address(purchase.key.key_hash, purchase.settings.chain)
        raise BuyerError(
            f"{error}, because the subsidy was spent by someone else; send that much L-BTC to "
            f"{address} (your own), then `lnliquid resume {purchase.request_id}`"
        ) from None


async def _rate(purchase: Purchase) -> int:
    """The rate now; a raised one when the last claim was refused for its fee."""
    try:
        rate = claim_rate(await purchase.chain.fee_rate_sats_per_kvb(2))
    except BackendError:
        rate = claim_rate(None)  # an estimate is not worth waiting for
    return max(rate, purchase.record.least_claim_rate)


def _store(purchase: Purchase, signed: tx_builder.Signed) -> None:
    entry = {"txid": signed.txid, "raw": signed.raw.hex()}
    purchase.save(step=Step.CLAIMING, claims=[*purchase.record.claims, entry])


async def follow(purchase: Purchase) -> None:
    """CLAIMING: send the stored claim, again and again, until it is confirmed → DONE.

    Returns earlier, still CLAIMING, when the claim is in the mempool and the seller has seen it;
    and as PAID when another claim has to be built. Raises `AssetLost` when a refund won.
    """
    said: set[str] = set()
    claims = purchase.record.claims
    if claims:  # sent first, looked at later
        with contextlib.suppress(BackendUnavailable, BackendTimeout):
            last = parse_transaction(bytes.fromhex(claims[-1]["raw"]))
            if await _send(purchase, last, said):
                return
    await purchase.until("a block that holds the claim", lambda: _advance(purchase, said))


async def _advance(purchase: Purchase, said: set[str]) -> bool | None:
    """One look at the HTLC and what follows from it. None: look again later."""
    view = await _look(purchase)
    swap, claims = purchase.swap, purchase.record.claims
    spender = view.spenders.get(swap.asset_outpoint)
    if spender is not None and spender.kind is SpendKind.CLAIM:
        return await _claimed(purchase, spender)
    if spender is not None and spender.height is not None:
        await _lost(purchase, spender, with_subsidy=not _is_gone(view, swap.subsidy_outpoint))
    last = parse_transaction(bytes.fromhex(claims[-1]["raw"])) if claims else None
    needs_subsidy = last and swap.subsidy_outpoint in {spent.outpoint for spent in last.inputs}
    if last is None or (needs_subsidy and _is_gone(view, swap.subsidy_outpoint)):
        purchase.save(step=Step.PAID)
        return True
    return await _send(purchase, last, said)


async def _claimed(purchase: Purchase, spender: Spender) -> bool | None:
    """The claim is seen. Only the buyer's key makes one, so whichever it is, it is ours."""
    if purchase.record.spend_txid != spender.txid:
        purchase.save(spend_txid=spender.txid)
        purchase.say("claim", f"claim {spender.txid} is seen by the network")
    if spender.height is not None:
        purchase.save(step=Step.DONE)
        purchase.say("done", f"claim confirmed in block {spender.height}; the asset is yours")
        return True
    try:
        answer = await purchase.seller.swap(purchase.swap.swap_id)
    except (SellerUnavailable, SellerDeclined):
        return None  # a block will tell as well
    if swap_of(answer).state is not State.CLAIMED:
        return None
    purchase.say("done", "the seller sees the claim too; a block will confirm it")
    return True


async def _send(purchase: Purchase, claim: Transaction, said: set[str]) -> bool | None:
    """Broadcast the stored bytes. Refused for the fee: go back to build one at a higher rate."""
    try:
        await purchase.chain.broadcast(bytes.fromhex(purchase.record.claims[-1]["raw"]))
    except BackendRejected as rejected:
        if rejected.message not in said:
            said.add(rejected.message)
            purchase.say("claim", f"the claim is not taken yet: {rejected.message}")
        rate = claim.fee_sats * 1000 // claim.vsize
        most = affordable_rate(2 * rate, purchase.swap.subsidy_sats)
        if "fee" in rejected.message.lower() and most > rate:
            purchase.save(step=Step.PAID, least_claim_rate=most)
            return True
        # After a reorg the funding may have to be sent again too, which anyone can do.
        with contextlib.suppress(BackendRejected):
            await purchase.chain.broadcast(bytes.fromhex(purchase.record.funding_raw))
    else:
        if claim.txid not in said:
            said.add(claim.txid)
            purchase.say("claim", "claim sent")
    return None


async def _lost(purchase: Purchase, refund: Spender, *, with_subsidy: bool) -> None:
    """A refund has the asset, in a block. Take the subsidy if it is there; raise `AssetLost`."""
    error = AssetLost(purchase.request_id, refund.txid)
    if with_subsidy:
        with contextlib.suppress(BuyerError, BackendError):
            _store(purchase, await _signed(purchase, with_asset=False, with_subsidy=True))
            await purchase.chain.broadcast(bytes.fromhex(purchase.record.claims[-1]["raw"]))
    purchase.save(step=Step.LOST, spend_txid=refund.txid, note=str(error))
    raise error


async def _look(purchase: Purchase) -> HtlcView:
    """The HTLC as seen now. A server that does not show it, as for a script that was flooded with
    dust, counts as one that shows no spender: the claim is sent regardless.
    """
    try:
        return await look_at_htlc(purchase.chain, purchase.swap)
    except BackendError as error:
        purchase.say("claim", f"the Electrum server does not show the swap: {error.message}")
        return _NOTHING_SHOWN
