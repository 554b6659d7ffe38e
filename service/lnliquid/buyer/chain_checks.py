"""Checks of what the buyer's own server shows: funding, fee and the time that is left. Pure."""

from lnliquid.buyer.checks import ELSEWHERE, Checks, Evidence, Fact, Finding, same
from lnliquid.domain import htlc
from lnliquid.domain.terms import CLAIM_VSIZE, fee_sats
from lnliquid.domain.timelock import STALE_TIP_SECS

CHECKS = Checks()

BEHIND = "tip height"
"""The check that the server is not behind the buyer's node."""
MAX_FUTURE_SECS = 2 * 60 * 60
"""No node takes a block whose header is further ahead (Elements `MAX_FUTURE_BLOCK_TIME`)."""


@CHECKS.add(
    "funding transaction",
    Fact.FUNDING,
    compares="your server knows it, and it hashes to the stated txid",
    meaning="Your Electrum server does not show the transaction that the seller names.",
    action="If it may still be on its way, resume after the next block. If your server is in sync "
    "and does not have it, do not pay.",
)
def _(e: Evidence) -> Finding:
    found = e.transaction if isinstance(e.transaction, str) else e.transaction.txid
    return same(e.swap.funding_txid or "a txid", found)


@CHECKS.add(
    "asset output",
    Fact.FUNDING,
    Fact.ASSET,
    Fact.AMOUNT,
    compares="explicit, the right asset and amount, pays the script",
    meaning="The asset is not locked for you as the seller says.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    asset_id, amount = e.want.asset_id, e.want.asset_amount
    ok, found = _output(e, e.swap.asset_vout, asset_id, amount)
    return ok, f"{amount} of {asset_id}, explicit, to the HTLC", found


@CHECKS.add(
    "subsidy output",
    Fact.FUNDING,
    Fact.OFFER,
    compares="likewise, an output of its own, as large as offered",
    meaning="The L-BTC for the fee of your claim is not locked as offered; you could pay and not "
    "be able to claim.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    swap, offered = e.swap, e.offer.fee_subsidy_sats
    ok, found = _output(e, swap.subsidy_vout, e.policy_asset, swap.subsidy_sats)
    return (
        ok and swap.subsidy_vout != swap.asset_vout and swap.subsidy_sats >= offered,
        f"{max(swap.subsidy_sats, offered)} sat of L-BTC, explicit, to the HTLC,"
        " in an output of its own",
        found,
    )


@CHECKS.add(
    "claim fee",
    Fact.FEE_RATE,
    compares="the subsidy pays a claim at today's rate",
    meaning="At the fees of now a claim might not confirm before the seller can take the asset "
    "back.",
    action="Wait until fees are lower, then `lnliquid resume`. Mind the invoice's expiry.",
)
def _(e: Evidence) -> Finding:
    rate = e.want.claim_rate_sats_per_kvb
    fee, subsidy = fee_sats(CLAIM_VSIZE, rate), e.swap.subsidy_sats
    return subsidy >= fee, f"at least {fee} sat at {rate} sat/kvB", f"{subsidy} sat"


@CHECKS.add(
    "confirmations",
    Fact.CHAIN,
    compares="on your own server, at least as many as you want",
    meaning="The funding is not deep enough in the chain as your own server sees it; it could "
    "vanish.",
    action="Wait for more blocks, then `lnliquid resume`.",
)
def _(e: Evidence) -> Finding:
    height, wanted = e.funding.height, max(1, e.want.min_funding_confs)
    confs = 0 if height is None else max(0, e.tip.height - height + 1)
    return confs >= wanted, f"at least {wanted}", str(confs)


@CHECKS.add(
    "unspent",
    Fact.CHAIN,
    compares="neither output is spent, in chain or mempool",
    meaning="What was locked for you is already spent, or about to be.",
    action="Do not pay. Buy again with a new request id if you still want it.",
)
def _(e: Evidence) -> Finding:
    expected = "both HTLC outputs unspent"
    outputs = {e.swap.asset_outpoint, e.swap.subsidy_outpoint}
    spent = [f"{outpoint} by {txid}" for outpoint, txid in e.funding.spends if outpoint in outputs]
    return not spent, expected, "; ".join(spent) or expected


@CHECKS.add(
    "tip age",
    Fact.CHAIN,
    compares="your server's newest block is less than 20 blocks old, by its header's time",
    meaning="Your server may be cut off from the network: what it shows as locked for you may be "
    "gone.",
    action="Do not pay. See that your Electrum server follows the chain, and that the clock of "
    "this machine is right; then `lnliquid resume`.",
)
def _(e: Evidence) -> Finding:
    age_secs = e.now - e.tip.time
    age = f"{age_secs} s old" if age_secs >= 0 else f"{-age_secs} s in the future: a wrong clock"
    return (
        -MAX_FUTURE_SECS <= age_secs <= STALE_TIP_SECS,
        f"a newest block at most {STALE_TIP_SECS} s old",
        f"block {e.tip.height}, {age}",
    )


@CHECKS.add(
    BEHIND,
    Fact.CHAIN,
    compares="your server is not behind your Lightning node, where that is on Liquid too",
    meaning="Your server is behind the chain: what it shows as locked for you may be gone.",
    action="Do not pay. See that your Electrum server follows the chain, then `lnliquid resume`.",
)
def _(e: Evidence) -> Finding:
    known, height = e.want.node_height, e.tip.height
    return height >= known, f"at least block {known}" if known else "any", f"block {height}"


@CHECKS.add(
    "timelock budget",
    Fact.OFFER,
    Fact.TIP,
    compares="enough blocks are left for the longest hold of your payment and for your claim",
    meaning="The seller could take the asset back while your payment is still held on its way.",
    action="Do not pay. Buy again with a new request id; if a fresh order leaves too little too, "
    "the seller's lock is too short: buy elsewhere.",
)
def _(e: Evidence) -> Finding:
    ceiling, most = e.hold_ceiling_blocks, e.max_delay_blocks
    least = min(e.invoice.min_final_cltv_blocks, ceiling)
    budget = e.budget(max(most, least))
    height, tip = e.swap.refund_lock_height, e.tip.height
    return (
        ceiling > 0 and most >= least,
        f"at least {e.budget(least).needed_blocks} blocks, for the CLTV of {least} that the "
        "invoice needs",
        f"{budget}; maxdelay {most}; refund at {height}, tip {tip}",
    )


def _output(e: Evidence, vout: int, asset_id: str, value: int) -> tuple[bool, str]:
    """Whether this output pays the HTLC that much of that asset in the open, and what it does."""
    if isinstance(e.transaction, str):
        return False, "no transaction"
    if not 0 <= vout < len(e.transaction.outputs):
        return False, f"no output {vout}"
    output = e.transaction.outputs[vout]
    if output.asset_id is None or output.value is None:
        return False, f"output {vout} is blinded"
    is_htlc = output.script_pubkey == htlc.output_script(e.swap.witness_script)
    payee = "the HTLC" if is_htlc else f"script {output.script_pubkey.hex() or '(fee)'}"
    ok = is_htlc and output.asset_id == asset_id and output.value == value
    return ok, f"{output.value} of {output.asset_id} to {payee}"
