"""Lanes: the inventory as several confirmed pairs of coins, so that bursts go out in one block.

A chain of unconfirmed transactions holds 25 of them and 101 kvB, about 634 swaps. Each lane begins
a chain of its own. Splitting and merging cost a fee and a block, so both are done when idle only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lnliquid.domain.swap import Coin
from lnliquid.domain.terms import MAX_AMOUNT, fee_sats
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import Keychain

MERGE_FACTOR = 3
"""More coins of one asset than this many times the wanted lanes are merged."""
UNEVEN_FACTOR = 4
"""A lane with less than the average divided by this counts as none."""
MAX_INPUTS = 100
MOST_FEE_SATS = 50_000
"""More than a rearrangement can cost at any sane rate."""


@dataclass(frozen=True, slots=True)
class LanesPlan:
    """A signed transaction that rearranges coins, its inputs and the wallet's new coins."""

    signed: tx_builder.Signed
    inputs: tuple[Coin, ...]
    outputs: tuple[Coin, ...]


def lanes_wanted(total: int, lanes: int, least_value: int) -> int:
    """How many lanes this much can be cut into, none of them below the least value."""
    return max(1, min(lanes, total // max(1, least_value)))


def is_uneven(values: Sequence[int], wanted: int) -> bool:
    """True when there are too few coins of use, or far too many."""
    if not values:
        return False
    return useful_lanes(values, wanted) < wanted or len(values) > MERGE_FACTOR * wanted


def useful_lanes(values: Sequence[int], wanted: int) -> int:
    """How many of these coins are large enough to count as a lane."""
    average = sum(values) // wanted
    return sum(1 for value in values if value >= average // UNEVEN_FACTOR)


def plan_lanes(
    coins: Sequence[Coin],
    *,
    asset_id: str,
    lanes: int,
    least_asset: int,
    least_lbtc_sats: int,
    keys: Keychain,
    next_change: int,
    rate_sats_per_kvb: int,
) -> LanesPlan | None:
    """Rearrange confirmed coins into equal lanes; None when they are well as they are.

    Coins of an asset that is even already are left out. `next_change` is the first of as many fresh
    change indexes as there are outputs.
    """
    policy_asset = keys.network.policy_asset
    by_asset = {
        asset: sorted(
            (c for c in coins if c.asset_id == asset and c.height is not None),
            key=lambda c: (-c.value, c.outpoint),
        )[:MAX_INPUTS]
        for asset in (asset_id, policy_asset)
    }
    least = {asset_id: least_asset, policy_asset: least_lbtc_sats}
    counts: dict[str, int] = {}
    inputs: list[Coin] = []
    for asset, held in by_asset.items():
        values = [c.value for c in held]
        wanted = lanes_wanted(sum(values), lanes, least[asset])
        if is_uneven(values, wanted):
            counts[asset] = wanted
            inputs += held
    if not counts or sum(c.value for c in inputs) >= MAX_AMOUNT:
        return None
    if policy_asset not in counts:
        # The smallest coin that pays the fee; what is left of it comes back as one coin.
        payers = [c for c in by_asset[policy_asset] if c.value >= MOST_FEE_SATS]
        if not payers:
            return None
        inputs.append(payers[-1])
        counts[policy_asset] = 1
    spends = tx_builder.wallet_spends(inputs, keys)
    shape = [tx_builder.Output(bytes(22), policy_asset, 0)] * sum(counts.values())
    fee = fee_sats(tx_builder.predict_vsize(spends, shape), rate_sats_per_kvb)
    changes: list[tx_builder.Change] = []
    for asset, count in counts.items():
        total = sum(c.value for c in inputs if c.asset_id == asset)
        total -= fee if asset == policy_asset else 0
        if total // count < (tx_builder.DUST_SATS if asset == policy_asset else 1):
            return None
        first = next_change + len(changes)
        share = total // count
        changes += [(first + n, asset, share) for n in range(count - 1)]
        changes.append((first + count - 1, asset, total - share * (count - 1)))
    signed, outputs = tx_builder.sign_with_change(spends, [], changes, keys=keys, fee=fee)
    return LanesPlan(signed, tuple(inputs), outputs)
