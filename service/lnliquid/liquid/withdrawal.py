"""Planning a withdrawal: coins of the wallet to one script, the change back. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from lnliquid.domain.swap import Coin
from lnliquid.domain.terms import MAX_AMOUNT, fee_sats
from lnliquid.liquid import tx_builder
from lnliquid.liquid.coin_selection import MAX_VSIZE, NotEnoughCoins, select_coins
from lnliquid.liquid.keys import Keychain

CHANGES = 2
"""Change outputs at the most: of the asset, and of L-BTC."""


@dataclass(frozen=True, slots=True)
class WithdrawalPlan:
    """A signed transaction. Its first output is `amount` to the script that was given."""

    signed: tx_builder.Signed
    amount: int
    inputs: tuple[Coin, ...]
    change: tuple[Coin, ...]


def plan_withdrawal(
    coins: Sequence[Coin],
    *,
    asset_id: str,
    amount: int,
    script_pubkey: bytes,
    keys: Keychain,
    change_indexes: Sequence[int],
    rate_sats_per_kvb: int,
    fee_included: bool = False,
) -> WithdrawalPlan:
    """Send `amount` of the asset; the fee is paid in L-BTC on top.

    With `fee_included`, for L-BTC, it is taken out of the amount. `change_indexes` are two fresh
    indexes of the change branch. Only confirmed coins are spent: it never waits on a chain of
    unconfirmed ones. Raises `NotEnoughCoins`, also when one transaction cannot hold them.
    """
    policy_asset = keys.network.policy_asset
    confirmed = [c for c in coins if c.height is not None]
    of_asset = [c for c in confirmed if c.asset_id == asset_id]
    lbtc = [c for c in confirmed if c.asset_id == policy_asset]
    is_lbtc = asset_id == policy_asset
    asset_coins = () if is_lbtc else tuple(_chosen(of_asset, asset_id, amount))
    asset_rest = sum(c.value for c in asset_coins) - (0 if is_lbtc else amount)
    changes = [(change_indexes[0], asset_id, asset_rest)] if asset_rest else []
    on_top, fee = (amount if is_lbtc else 0), 0
    while True:
        # The fee depends on the inputs, and the inputs on the fee: it only ever grows here.
        wanted = on_top if fee_included else on_top + fee
        with_change = select_coins(lbtc, wanted + tx_builder.DUST_SATS)
        inputs = (*asset_coins, *(with_change or _chosen(lbtc, policy_asset, wanted)))
        shape = [tx_builder.Output(script_pubkey, asset_id, 0)]
        count = len(changes) + (with_change is not None)
        shape += [tx_builder.Output(bytes(22), policy_asset, 0)] * count
        vsize = tx_builder.predict_vsize(tx_builder.wallet_spends(inputs, keys), shape)
        if fee_sats(vsize, rate_sats_per_kvb) <= fee:
            break
        fee = fee_sats(vsize, rate_sats_per_kvb)
    # bad-txns-txouttotal-toolarge: all assets of a transaction together count.
    if vsize > MAX_VSIZE or sum(c.value for c in inputs) >= MAX_AMOUNT:
        too_many = ", too many for one transaction: ask for less"
        raise NotEnoughCoins(asset_id, amount, amount, too_many)
    paid = amount - fee if fee_included else amount
    if paid <= 0:
        raise NotEnoughCoins(asset_id, fee, amount, ", less than the fee")
    spent = fee + (paid if is_lbtc else 0)
    rest = sum(c.value for c in inputs if c.asset_id == policy_asset) - spent
    if rest >= tx_builder.DUST_SATS:
        changes.append((change_indexes[1], policy_asset, rest))
    else:
        fee += rest
    signed, change = tx_builder.sign_with_change(
        tx_builder.wallet_spends(inputs, keys),
        [tx_builder.Output(script_pubkey, asset_id, paid)],
        changes,
        keys=keys,
        fee=fee,
    )
    return WithdrawalPlan(signed, paid, inputs, change)


def _chosen(coins: Sequence[Coin], asset_id: str, wanted: int) -> list[Coin]:
    chosen = select_coins(coins, wanted)
    if chosen is None:
        held = sum(c.value for c in coins)
        raise NotEnoughCoins(asset_id, wanted, held, " in confirmed coins")
    return chosen
