"""Checks of what the seller answered: the swap, its invoice and its script. Pure."""

from datetime import UTC, datetime

from lnliquid.buyer.checks import (
    AGAIN,
    ELSEWHERE,
    Checks,
    Evidence,
    Fact,
    Finding,
    same,
)
from lnliquid.domain import htlc
from lnliquid.domain.swap import State
from lnliquid.domain.terms import total_price_msat
from lnliquid.liquid.networks import NETWORKS_BY_NAME

CHECKS = Checks()

_HASHLOCK = slice(7, 39)  # where the payment hash stands in the HTLC script


@CHECKS.add(
    "network",
    Fact.OFFER,
    compares="the seller's chain is yours",
    meaning="The seller sells on another chain than yours; its asset would not reach you.",
    action="Correct --network, or use a seller on your chain.",
)
def _(e: Evidence) -> Finding:
    return same(e.want.network, e.offer.network)


@CHECKS.add(
    "request",
    Fact.REQUEST_ID,
    compares="the swap is the one you asked for",
    meaning="The reply is about another order than yours; the seller mixed them up.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    return same(e.want.request_id, e.swap.request_id)


@CHECKS.add(
    "state",
    compares="the seller says `FUNDED`",
    meaning="Only a FUNDED swap has something locked for you. CREATED is not ready yet; the other "
    "states are over.",
    action="If it is CREATED, look again after the next block. Else buy again.",
)
def _(e: Evidence) -> Finding:
    return same(State.FUNDED.name, "unknown" if e.swap.state is None else e.swap.state.name)


@CHECKS.add(
    "asset",
    Fact.ASSET,
    Fact.OFFER,
    compares="order, offer and swap name one asset",
    meaning="Something else than the asset that you ordered would be delivered.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    named = e.swap.asset_id
    found = named if named == e.offer.asset_id else f"{e.offer.asset_id} in the offer"
    return same(e.want.asset_id, found)


@CHECKS.add(
    "amount",
    Fact.AMOUNT,
    compares="order and swap have the same amount",
    meaning="The seller would deliver another amount than you ordered.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    return same(str(e.want.asset_amount), str(e.swap.asset_amount))


@CHECKS.add(
    "claim address",
    Fact.CLAIM_KEY,
    compares="the swap pays your key",
    meaning="The asset would go to an address that is not yours.",
    action=f"{ELSEWHERE} Look who can change what you receive from the seller.",
)
def _(e: Evidence) -> Finding:
    return same(e.want.claim_address, e.swap.claim_address)


@CHECKS.add(
    "invoice",
    compares="it can be read, its signature fits, no field stands in it twice",
    meaning="The invoice is missing, damaged, or could be read in two ways. Your node might pay "
    "for something else than was checked.",
    action="Read the swap again with `lnliquid resume`. If it stays like this, do not pay.",
)
def _(e: Evidence) -> Finding:
    problem = e.invoice.problem
    return not problem, "a signed invoice", problem or "signed and readable"


@CHECKS.add(
    "invoice network",
    compares="its prefix fits the chain",
    meaning="The invoice is for another Lightning network.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    network = NETWORKS_BY_NAME.get(e.want.network)
    currencies = network.bolt11_currencies if network else ()
    expected = " or ".join(f"ln{c}" for c in currencies)
    return (
        e.invoice.currency in currencies,
        expected or f"a known network, not {e.want.network}",
        f"ln{e.invoice.currency}",
    )


@CHECKS.add(
    "invoice signer",
    Fact.OFFER,
    compares="it is signed by the Lightning node of the offer",
    meaning="The payment would go to a node that is not the one in the seller's offer.",
    action=f"{ELSEWHERE} Ask the seller by another way which node is theirs.",
)
def _(e: Evidence) -> Finding:
    return same(e.offer.lightning_node_id, e.invoice.payee or "none")


@CHECKS.add(
    "payment hash",
    compares="swap, invoice and script have one and the same",
    meaning="Paying would not reveal the secret that unlocks the asset: you would pay for nothing.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    stated, in_invoice = e.swap.payment_hash, e.invoice.payment_hash.hex()
    in_script = e.swap.witness_script[_HASHLOCK].hex()
    return (
        not e.invoice.problem and in_invoice == stated == in_script,
        f"one hash everywhere, {stated} in the swap",
        f"{in_invoice or 'none'} in the invoice, {in_script or 'none'} in the script",
    )


@CHECKS.add(
    "price",
    Fact.OFFER,
    Fact.AMOUNT,
    compares="invoice, swap and offer agree",
    meaning="The invoice asks for another price than the offer.",
    action="Do not pay. Ask for a new offer with `lnliquid offer`, and order on that.",
)
def _(e: Evidence) -> Finding:
    quote = None
    if 0 <= e.offer.asset_precision <= 8:  # as Elements has it; the power could be endless
        unit_price, precision = e.offer.price_msat_per_asset_unit, e.offer.asset_precision
        quote = total_price_msat(e.want.asset_amount, unit_price, precision)
    asked, stated = e.invoice.amount_msat, e.swap.total_price_msat
    return (
        quote is not None and asked == stated == quote,
        f"{quote} msat as quoted",
        f"{asked} msat in the invoice, {stated} in the swap",
    )


@CHECKS.add(
    "price limit",
    Fact.MAX_PRICE,
    compares="the invoice is within your limit",
    meaning="It costs more than you agreed to.",
    action="Do not pay, or buy again with a higher --max-price-msat.",
)
def _(e: Evidence) -> Finding:
    asked, limit = e.invoice.amount_msat, e.want.max_total_price_msat
    return asked is not None and asked <= limit, f"at most {limit} msat", f"{asked} msat"


@CHECKS.add(
    "invoice expiry",
    compares="the invoice has not expired",
    meaning="The invoice can no longer be paid, or has no expiry that can be read.",
    action=AGAIN,
)
def _(e: Evidence) -> Finding:
    ends = e.invoice.expires_at
    found = "none" if e.invoice.problem else _time(ends)
    return e.now < ends, f"after {_time(e.now)}", found


@CHECKS.add(
    "invoice CLTV",
    Fact.OFFER,
    compares="its final CLTV is within the longest hold that offer and you agree to",
    meaning="Your payment could be held longer than was agreed, past the time at which the seller "
    "can take the asset back.",
    action=f"{ELSEWHERE} If the offer allows it and your --max-hold does not, you may raise that.",
)
def _(e: Evidence) -> Finding:
    blocks, hold = e.invoice.min_final_cltv_blocks, e.hold_ceiling_blocks
    return 0 < blocks <= hold, f"at most {hold} blocks", f"{blocks} blocks"


@CHECKS.add(
    "script",
    Fact.CLAIM_KEY,
    compares="byte for byte the template with your key and the stated height",
    meaning="The contract is not the agreed one. Your key might not be able to claim the asset, or "
    "the seller could take it back too early.",
    action=ELSEWHERE,
)
def _(e: Evidence) -> Finding:
    swap, found = e.swap, e.swap.witness_script.hex() or "none"
    try:
        expected = htlc.witness_script(
            bytes.fromhex(swap.payment_hash),
            e.want.claim_key_hash,
            bytes.fromhex(swap.seller_key_hash),
            swap.refund_lock_height,
        )
    except ValueError as error:
        return False, f"an HTLC that can be built ({error})", found
    return swap.witness_script == expected, expected.hex(), found


def _time(unix_secs: int) -> str:
    try:
        return datetime.fromtimestamp(unix_secs, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{unix_secs} s"
