"""The buyer's checks before payment (design section 8). Pure: no I/O, no clock.

All checks always run, so that a person sees everything that is wrong at once. A check never
raises: what a seller sent may be damaged in any way, and that is a failed check.
"""

from datetime import UTC, datetime

from lnliquid.buyer import bolt11
from lnliquid.buyer.advice import ADVICE
from lnliquid.buyer.facts import Check, Expectations, FundingView, SwapReply, Verdict
from lnliquid.liquid import htlc, tx
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.swap import Offer, State, Tip
from lnliquid.terms import (
    CLAIM_VSIZE,
    Timelocks,
    blocks_to_pay_and_claim,
    fee_sats,
    timelock_budget,
    total_price_msat,
)

_HASHLOCK = slice(7, 39)  # where the payment hash stands in the HTLC script


def hold_blocks(swap: SwapReply, offer: Offer) -> int:
    """The longest that the payment may be held, in Lightning-chain blocks; `maxdelay` of `pay`."""
    return min(swap.max_ln_cltv_blocks, offer.max_ln_cltv_blocks)


def buyer_timelocks(swap: SwapReply, offer: Offer, want: Expectations) -> Timelocks:
    """The offer's numbers with the more careful of both sides' assumptions about time.

    The seller's slack before the first block is left out: it is the seller's own, and the blocks
    that are really left are checked against the tip.
    """
    return Timelocks(
        refund_delta_blocks=offer.refund_delta_blocks,
        max_funding_confs=max(offer.max_min_funding_confs, want.min_funding_confs),
        create_slack_secs=0,
        invoice_expiry_secs=offer.invoice_expiry_secs,
        max_ln_cltv_blocks=hold_blocks(swap, offer),
        claim_margin_blocks=max(offer.claim_margin_blocks, want.min_claim_margin_blocks),
        liquid_block_secs=max(1, min(want.liquid_block_secs, offer.liquid_block_secs)),
        lightning_block_secs=max(want.lightning_block_secs, offer.lightning_block_secs),
    )


def verify(
    swap: SwapReply,
    offer: Offer,
    want: Expectations,
    funding: FundingView,
    tip: Tip,
    now: int,
) -> Verdict:
    """Run every check. `now` in unix seconds; `tip` and `funding` from the buyer's own backend."""
    return Verdict(
        (
            *_request_checks(swap, offer, want),
            *_invoice_checks(swap, offer, want, now),
            *_script_checks(swap, want),
            *_funding_checks(swap, offer, want, funding, tip),
            *_time_checks(swap, offer, want, tip),
        )
    )


def _request_checks(swap: SwapReply, offer: Offer, want: Expectations) -> tuple[Check, ...]:
    return (
        _same("network", want.network, offer.network),
        _same("request", want.request_id, swap.request_id),
        _same(
            "state",
            State.FUNDED.name,
            "unknown" if swap.state is None else swap.state.name,
        ),
        _same(
            "asset",
            want.asset_id,
            swap.asset_id if swap.asset_id == offer.asset_id else f"{offer.asset_id} in the offer",
        ),
        _same("amount", str(want.asset_amount), str(swap.asset_amount)),
        _same("claim address", want.claim_address, swap.claim_address),
    )


def _invoice_checks(
    swap: SwapReply, offer: Offer, want: Expectations, now: int
) -> tuple[Check, ...]:
    try:
        invoice, reading, readable = bolt11.decode(swap.bolt11), "signed and readable", True
    except bolt11.InvoiceError as error:
        invoice, reading, readable = bolt11.NO_INVOICE, str(error), False
    network = NETWORKS_BY_NAME.get(want.network)
    currencies = network.bolt11_currencies if network else ()
    script_hash = swap.witness_script[_HASHLOCK].hex()
    quote = _quote_msat(offer, want.asset_amount)
    hold = hold_blocks(swap, offer)
    invoice_hash = invoice.payment_hash.hex()
    amount_msat = invoice.amount_msat
    cltv_blocks = invoice.min_final_cltv_blocks
    return (
        _check(
            "invoice",
            readable,
            "a signed invoice",
            reading,
        ),
        _check(
            "invoice network",
            invoice.currency in currencies,
            " or ".join(f"ln{c}" for c in currencies) or f"a known network, not {want.network}",
            f"ln{invoice.currency}",
        ),
        _same(
            "invoice signer",
            offer.lightning_node_id,
            invoice.payee or "none",
        ),
        _check(
            "payment hash",
            readable and invoice_hash == swap.payment_hash == script_hash,
            f"one hash everywhere, {swap.payment_hash} in the swap",
            f"{invoice_hash or 'none'} in the invoice, {script_hash or 'none'} in the script",
        ),
        _check(
            "price",
            quote is not None and amount_msat == swap.total_price_msat == quote,
            f"{quote} msat as quoted",
            f"{amount_msat} msat in the invoice, {swap.total_price_msat} in the swap",
        ),
        _check(
            "price limit",
            amount_msat is not None and amount_msat <= want.max_total_price_msat,
            f"at most {want.max_total_price_msat} msat",
            f"{amount_msat} msat",
        ),
        _check(
            "invoice expiry",
            now < invoice.expires_at,
            f"after {_time(now)}",
            _time(invoice.expires_at) if readable else "none",
        ),
        _check(
            "invoice CLTV",
            0 < cltv_blocks <= hold,
            f"at most {hold} blocks",
            f"{cltv_blocks} blocks",
        ),
    )


def _quote_msat(offer: Offer, amount: int) -> int | None:
    """None for a precision that no asset has (Elements: 8 at most); the power could be endless."""
    if not 0 <= offer.asset_precision <= 8:
        return None
    return total_price_msat(amount, offer.price_msat_per_asset_unit, offer.asset_precision)


def _script_checks(swap: SwapReply, want: Expectations) -> tuple[Check, ...]:
    try:
        expected = htlc.witness_script(
            bytes.fromhex(swap.payment_hash),
            want.claim_key_hash,
            bytes.fromhex(swap.seller_key_hash),
            swap.refund_lock_height,
        )
    except ValueError as error:
        wanted, ok = f"an HTLC that can be built ({error})", False
    else:
        wanted, ok = expected.hex(), swap.witness_script == expected
    return (
        _check(
            "script",
            ok,
            wanted,
            swap.witness_script.hex() or "none",
        ),
    )


def _funding_checks(
    swap: SwapReply, offer: Offer, want: Expectations, funding: FundingView, tip: Tip
) -> tuple[Check, ...]:
    transaction: tx.Transaction | None = None
    found_txid = "not known to your Electrum server"
    if funding.raw is not None:
        try:
            transaction = tx.parse(funding.raw)
            found_txid = transaction.txid
        except ValueError as error:
            found_txid = str(error)
    network = NETWORKS_BY_NAME.get(want.network)
    policy_asset = network.policy_asset if network else ""
    claim_fee = fee_sats(CLAIM_VSIZE, want.claim_rate_sats_per_kvb)
    confs = 0 if funding.height is None else max(0, tip.height - funding.height + 1)
    script_pubkey = htlc.output_script(swap.witness_script)
    ours = {swap.asset_outpoint, swap.subsidy_outpoint}
    spent = [f"{outpoint} by {txid}" for outpoint, txid in funding.spends if outpoint in ours]
    asset_ok, asset_found = _output(
        transaction, swap.asset_vout, script_pubkey, want.asset_id, want.asset_amount
    )
    subsidy_ok, subsidy_found = _output(
        transaction, swap.subsidy_vout, script_pubkey, policy_asset, swap.subsidy_sats
    )
    return (
        _same(
            "funding transaction",
            swap.funding_txid or "a txid",
            found_txid,
        ),
        _check(
            "asset output",
            asset_ok,
            f"{want.asset_amount} of {want.asset_id}, explicit, to the HTLC",
            asset_found,
        ),
        _check(
            "subsidy output",
            subsidy_ok
            and swap.subsidy_vout != swap.asset_vout
            and swap.subsidy_sats >= offer.fee_subsidy_sats,
            f"{max(swap.subsidy_sats, offer.fee_subsidy_sats)} sat of L-BTC, explicit, to the HTLC,"
            " in an output of its own",
            subsidy_found,
        ),
        _check(
            "claim fee",
            swap.subsidy_sats >= claim_fee,
            f"at least {claim_fee} sat at {want.claim_rate_sats_per_kvb} sat/kvB",
            f"{swap.subsidy_sats} sat",
        ),
        _check(
            "confirmations",
            confs >= max(1, want.min_funding_confs),
            f"at least {max(1, want.min_funding_confs)}",
            str(confs),
        ),
        _check(
            "unspent",
            not spent,
            "both HTLC outputs unspent",
            "; ".join(spent) or "both HTLC outputs unspent",
        ),
    )


def _output(
    transaction: tx.Transaction | None, vout: int, script_pubkey: bytes, asset_id: str, value: int
) -> tuple[bool, str]:
    """Whether this output pays the script that much of that asset in the open, and what it does."""
    if transaction is None:
        return False, "no transaction"
    if not 0 <= vout < len(transaction.outputs):
        return False, f"no output {vout}"
    output = transaction.outputs[vout]
    if output.asset_id is None or output.value is None:
        return False, f"output {vout} is blinded"
    right_script = output.script_pubkey == script_pubkey
    found = f"{output.value} of {output.asset_id} to " + (
        "the HTLC" if right_script else f"script {output.script_pubkey.hex() or '(fee)'}"
    )
    return right_script and output.asset_id == asset_id and output.value == value, found


def _time_checks(swap: SwapReply, offer: Offer, want: Expectations, tip: Tip) -> tuple[Check, ...]:
    times = buyer_timelocks(swap, offer, want)
    budget = timelock_budget(times)
    pay_blocks = -(-want.pay_wait_secs // times.liquid_block_secs)
    needed = blocks_to_pay_and_claim(times) + pay_blocks
    left = swap.refund_lock_height - tip.height
    return (
        _check(
            "timelock budget",
            budget.is_safe and times.max_ln_cltv_blocks > 0,
            f"at least {budget.needed_secs} s from funding to refund",
            str(budget),
        ),
        _check(
            "blocks left",
            left >= needed,
            f"at least {needed} before the refund opens",
            f"{left} (refund at {swap.refund_lock_height}, tip {tip.height})",
        ),
    )


def _time(unix_secs: int) -> str:
    try:
        return datetime.fromtimestamp(unix_secs, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{unix_secs} s"


def _check(name: str, ok: bool, expected: str, found: str) -> Check:
    advice = ADVICE[name]
    if ok:
        return Check(name, ok, expected, found)
    return Check(name, ok, expected, found, advice.action, advice.meaning)


def _same(name: str, expected: str, found: str) -> Check:
    return _check(name, expected == found, expected, found)
