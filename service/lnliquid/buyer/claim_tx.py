"""Building the claim out of what is still unspent of the HTLC. Pure.

As a rule both outputs are there and the subsidy pays the fee. The two can be spent apart, though;
then the asset is claimed with L-BTC of the buyer's own, or the subsidy alone.
"""

from collections.abc import Sequence
from dataclasses import replace

from lnliquid.buyer.checks import SwapReply
from lnliquid.domain import htlc
from lnliquid.domain.swap import Coin
from lnliquid.domain.terms import CLAIM_VSIZE, FEE_FLOOR_SATS_PER_KVB
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import Key, WalletKeys


def claim_rate(estimate_sats_per_kvb: int | None) -> int:
    """Rate for a claim now: the backend's estimate, never below the relay floor, sat/kvB."""
    return max(FEE_FLOOR_SATS_PER_KVB, estimate_sats_per_kvb or 0)


def affordable_rate(rate_sats_per_kvb: int, subsidy_sats: int) -> int:
    """The rate, capped at what the subsidy can pay: a slow claim is better than none."""
    return max(FEE_FLOOR_SATS_PER_KVB, min(rate_sats_per_kvb, subsidy_sats * 1000 // CLAIM_VSIZE))


def build_claim(
    swap: SwapReply,
    key: Key,
    preimage: bytes,
    *,
    with_asset: bool,
    with_subsidy: bool,
    policy_asset: str,
    rate_sats_per_kvb: int,
    coins: Sequence[Coin] = (),
    keys: WalletKeys | None = None,
) -> tx_builder.Signed:
    """Sign the claim of what is unspent, to the buyer's claim address; inputs are final.

    `coins` (L-BTC, with their `keys`) are used as far as they are needed for the fee. Raises
    `tx.FeeNotCovered`, and `ValueError` when there is nothing to claim.
    """
    script_pubkey = htlc.p2wpkh_script(key.key_hash)
    parts = []
    if with_asset:
        parts.append((swap.asset_outpoint, swap.asset_amount))
    if with_subsidy:
        parts.append((swap.subsidy_outpoint, swap.subsidy_sats))
    if not parts:
        raise ValueError("both HTLC outputs are spent")
    spends = [
        tx_builder.claim_spend(outpoint, value, key, swap.witness_script, preimage)
        for outpoint, value in parts
    ]
    lbtc_sats = swap.subsidy_sats if with_subsidy else 0
    spare = list(coins)
    while True:
        try:
            return tx_builder.claim(
                spends=spends,
                asset_id=swap.asset_id,
                asset_amount=swap.asset_amount if with_asset else 0,
                subsidy_sats=lbtc_sats,
                script_pubkey=script_pubkey,
                policy_asset=policy_asset,
                rate_sats_per_kvb=rate_sats_per_kvb,
            )
        except tx_builder.FeeNotCovered:
            if not spare or keys is None:
                raise
        coin = spare.pop()
        spend = tx_builder.wallet_spend(
            coin.outpoint, coin.value, keys.wallet_key(coin.branch, coin.index)
        )
        # One replaceable input would make the whole claim replaceable by a refund.
        spends.append(replace(spend, sequence=tx_builder.SEQUENCE_FINAL))
        lbtc_sats += coin.value
