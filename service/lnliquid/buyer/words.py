"""How offers and purchases are put for a person. Plain text, no I/O."""

from lnliquid.buyer.journal import Record, Step
from lnliquid.formatting import Row, sats, short, span, units, utc
from lnliquid.swap import Offer
from lnliquid.terms import total_price_msat


def offer_rows(offer: Offer, seller: str) -> list[Row]:
    """An offer with units and what its numbers mean."""
    hold_secs = offer.max_ln_cltv_blocks * offer.lightning_block_secs
    refund_secs = offer.refund_delta_blocks * offer.liquid_block_secs
    precision = offer.asset_precision
    most = units(offer.max_swap_amount, precision)
    return [
        ("seller", seller),
        ("node", offer.lightning_node_id),
        ("network", offer.network),
        ("asset", offer.asset_id),
        ("precision", f"{precision}: one unit is {10 ** min(precision, 8)} of the smallest"),
        ("price", f"{sats(offer.price_msat_per_asset_unit)} a unit"),
        ("least", units(offer.min_swap_amount, precision)),
        ("most", most),
        ("available", units(offer.available_amount, precision)),
        ("fee subsidy", f"{offer.fee_subsidy_sats} sat of L-BTC beside it, for your claim's fee"),
        ("confirmations", f"up to {offer.max_min_funding_confs} before you pay, as you want"),
        ("invoice", f"expires {offer.invoice_expiry_secs} s after it can be paid"),
        ("held", f"payment up to {offer.max_ln_cltv_blocks} blocks, about {span(hold_secs)}"),
        ("claim margin", f"{offer.claim_margin_blocks} Liquid blocks kept for your claim"),
        ("refund", f"opens after {offer.refund_delta_blocks} blocks, about {span(refund_secs)}"),
        (
            "block times",
            f"Liquid {offer.liquid_block_secs} s, Lightning's chain "
            f"{offer.lightning_block_secs} s (as the seller reckons)",
        ),
    ]


def quote_rows(
    offer: Offer, amount: int, *, max_price_msat: int, max_fee_msat: int, confs: int
) -> list[Row]:
    """What is about to be ordered."""
    price_msat = total_price_msat(amount, offer.price_msat_per_asset_unit, offer.asset_precision)
    limit = "" if max_price_msat == price_msat else f" (your limit: {sats(max_price_msat)})"
    return [
        ("you receive", units(amount, offer.asset_precision)),
        ("asset", offer.asset_id),
        ("you pay", f"{sats(price_msat)}{limit}"),
        ("fees", f"up to {sats(max_fee_msat)} for Lightning, on top"),
        ("after", f"{confs} confirmation{'' if confs == 1 else 's'} and all checks"),
    ]


def record_rows(record: Record) -> list[Row]:
    """A purchase without its secrets."""
    order, swap = record.order, record.swap or {}
    rows = [
        ("request", order.request_id),
        ("swap", swap.get("swap_id", "-")),
        ("seller", record.seller),
        ("ordered", utc(record.created_at)[:16] + " UTC"),
        ("asset", order.asset_id),
        ("amount", units(order.amount, record.offer.get("asset_precision"))),
        ("price", sats(record.price_msat) if swap else "-"),
        ("limit", f"{sats(order.max_price_msat)}, fees {sats(order.max_fee_msat)}"),
        ("paid", "-" if record.amount_sent_msat is None else sats(record.amount_sent_msat)),
        ("to", record.claim_address),
        ("funding", swap.get("funding_txid") or "-"),
        ("refund from", f"block {swap['refund_lock_height']}" if swap else "-"),
        ("claim", record.spend_txid or "-"),
        ("step", record.label),
    ]
    if record.note:
        rows.append(("note", record.note))
    rows.append(("next", next_step(record)))
    return rows


def history_lines(record: Record) -> list[str]:
    """A purchase in two lines of at most 80 columns."""
    order = record.order
    amount = units(order.amount, record.offer.get("asset_precision")).split(" (")[0]
    asset = short(order.asset_id)
    return [
        f"{order.request_id}  {record.label:21} {utc(record.created_at)[:16]}",
        f"  {amount} of {asset} for {'' if record.swap else 'at most '}{sats(record.price_msat)}",
    ]


def next_step(record: Record) -> str:
    """Who has to do what now."""
    resume = f"lnliquid resume {record.order.request_id}"
    if record.is_dry_run and record.swap:
        height = record.swap["refund_lock_height"]  # 0 before the funding is signed
        locked = f"locked for you until block {height}; " if height else ""
        return f"nothing was paid; {locked}to pay: {resume}"
    match record.step:
        case Step.DONE:
            return "nothing; it is yours"
        case Step.REQUESTED | Step.CREATED:
            return f"nothing was paid; go on with: {resume}"
        case Step.PAYING:
            return f"a payment may be under way; go on with: {resume}"
        case Step.PAID:
            return f"you have paid; claim soon with: {resume}"
        case Step.CLAIMING if record.spend_txid:
            return f"a block will confirm the claim; to see it: {resume}"
        case Step.CLAIMING:
            return f"you have paid; get the claim through with: {resume}"
        case Step.REFUSED:
            return f"nothing was paid; to check again, and pay if all is well: {resume}"
        case Step.DECLINED:
            return "nothing was paid; buy again, or elsewhere"
        case Step.LOST:
            return "you paid and the seller has the asset: ask the seller, keep the journal"
