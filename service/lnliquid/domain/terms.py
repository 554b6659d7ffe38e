"""Price, fees and sizes. Pure; imports nothing of the project.

Sizes are of explicit transactions as Elements weighs them: weight = 3 * (size without witness) +
(size with witness), vsize = weight / 4 rounded up (Elements `src/policy/policy.cpp`).
"""

MAX_AMOUNT = 2_100_000_000_000_000
"""Largest explicit amount of a transaction output, 21 million whole units (`MAX_MONEY`)."""

MAX_SWAPS_PER_FUNDING = 634
"""HTLC pairs in one standard transaction of 400,000 weight; 635 fail with `tx-size`."""

POLICY_ASSETS = {
    "liquidv1": "6f0279e9ed041c3d710a9f57d0c02928416460c4b722ae3457a11eec381c526d",
    "liquidtestnet": "144c654344aa716d6f3abcc1ca90e5641e4e2a7f633bc09fe3baf64585819a49",
    # Of the chain named `liquid-regtest`, the only one of that kind that Core Lightning accepts.
    "liquid-regtest": "ceb851388a62039c49710566bc8b0b229eaa8a92bafbca512d8f7fd363b9e75c",
}
"""L-BTC, which pays fees, on each chain (Elements `src/chainparams.cpp`)."""

FEE_FLOOR_SATS_PER_KVB = 100
"""elementsd's minimum relay fee."""

SINGLE_FUNDING_VSIZE = 620
"""Funding of one swap alone from up to four coins, in vbytes."""

CLAIM_VSIZE = 393
"""Claim of both outputs to one P2WPKH address with its fee, two inputs, in vbytes.

392 below height 32,768, where the lock height takes a byte less.
"""

REFUND_VSIZE = 375
"""Refund of both outputs to two P2WPKH addresses with its fee, in vbytes."""


def fee_sats(vsize: int, rate_sats_per_kvb: int) -> int:
    """Fee in sat of `vsize` vbytes, rounded up: rounding down fails by one sat at the floor."""
    return -(-vsize * rate_sats_per_kvb // 1000)


def total_price_msat(amount: int, price_msat_per_asset_unit: int, asset_precision: int) -> int:
    """Price of `amount` smallest units, where one asset unit is 10**precision of them, rounded up.

    Rounded up to a whole sat, because many Lightning nodes do not pay fractions of one.
    """
    unit: int = 10**asset_precision
    msat = -(-amount * price_msat_per_asset_unit // unit)
    return max(1000, (msat + 999) // 1000 * 1000)


def least_amount(cost_sats: int, price_msat_per_asset_unit: int, asset_precision: int) -> int:
    """The least amount whose `total_price_msat` is not below this cost, in smallest units."""
    unit: int = 10**asset_precision
    # The price is rounded up, so it reaches the last sat of the cost just above the sat before.
    return max(0, cost_sats - 1) * 1000 * unit // price_msat_per_asset_unit + 1
