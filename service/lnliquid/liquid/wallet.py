"""The wallet's pure half: reading coins out of transactions, choosing coins, planning a funding.

No I/O: what is read from the chain and kept in the store is the seller's business.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lnliquid.liquid import htlc, tx
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.swap import Coin, Outpoint, Swap
from lnliquid.terms import MAX_AMOUNT, fee_sats


class NotEnoughCoins(Exception):
    """The coins at hand do not cover the plan; `asset_id` says of which asset."""

    def __init__(self, asset_id: str, wanted: int, had: int) -> None:
        super().__init__(f"{wanted} of {asset_id} are needed and the coins hold {had}")
        self.asset_id = asset_id


def select_coins(coins: Iterable[Coin], asset_id: str, wanted: int) -> list[Coin]:
    """Coins of an asset worth at least `wanted`: confirmed before unconfirmed.

    The smallest single coin that suffices, else the largest first: few inputs, and large coins stay
    whole for large needs.
    """
    candidates = [c for c in coins if c.asset_id == asset_id]
    enough = [c for c in candidates if c.value >= wanted]
    if enough:
        return [min(enough, key=lambda c: (c.height is None, c.value, c.outpoint))]
    chosen: list[Coin] = []
    total = 0
    for coin in sorted(candidates, key=lambda c: (c.height is None, -c.value, c.outpoint)):
        if total >= wanted:
            break
        chosen.append(coin)
        total += coin.value
    if total < wanted:
        raise NotEnoughCoins(asset_id, wanted, total)
    return chosen


class TooLarge(Exception):
    """The transaction would break a rule of the mempool: fewer swaps must share it."""


MAX_VSIZE = 100_000
"""vbytes of the largest standard transaction, 400,000 weight (Elements `policy.h`)."""


@dataclass(frozen=True, slots=True)
class FundingPlan:
    """A signed funding transaction and what it does to the wallet and to the swaps.

    `vouts` maps a swap id to (asset vout, subsidy vout); `change` are the wallet's new coins.
    """

    signed: tx.Signed
    inputs: tuple[Coin, ...]
    change: tuple[Coin, ...]
    vouts: dict[str, tuple[int, int]]


def htlc_script(swap: Swap, refund_lock_height: int) -> bytes:
    """Witness script of a swap at this lock height."""
    return htlc.witness_script(
        swap.payment_hash, swap.buyer_key_hash, swap.seller_key_hash, refund_lock_height
    )


def plan_funding(
    swaps: Sequence[Swap],
    coins: Sequence[Coin],
    *,
    keys: Keychain,
    refund_lock_height: int,
    change_indexes: Sequence[int],
    policy_asset: str,
    rate_sats_per_kvb: int,
) -> FundingPlan:
    """One funding transaction for all `swaps`, which sell one asset. Raises `NotEnoughCoins`.

    Outputs: the pair (asset, subsidy) of each swap in order, asset change, L-BTC change, fee.
    `change_indexes` are two fresh indexes of the change branch.
    """
    (asset_id,) = {s.asset_id for s in swaps}
    wanted = sum(s.asset_amount for s in swaps)
    subsidies = sum(s.subsidy_sats for s in swaps)
    pairs: list[tx.Output] = []
    vouts: dict[str, tuple[int, int]] = {}
    for swap in swaps:
        script = htlc.output_script(htlc_script(swap, refund_lock_height))
        vouts[swap.swap_id] = (len(pairs), len(pairs) + 1)
        pairs.append(tx.Output(script, asset_id, swap.asset_amount))
        pairs.append(tx.Output(script, policy_asset, swap.subsidy_sats))
    asset_coins = select_coins(coins, asset_id, wanted)
    fee = 0
    while True:
        # The fee depends on the inputs, and the inputs on the fee: it only ever grows here.
        lbtc_coins = select_coins(coins, policy_asset, subsidies + fee)
        inputs = (*asset_coins, *lbtc_coins)
        spends = [
            tx.wallet_spend(c.outpoint, c.value, keys.wallet_key(c.branch, c.index)) for c in inputs
        ]
        outputs = list(pairs)
        changes: list[tuple[int, str, int]] = []
        rest = sum(c.value for c in asset_coins) - wanted
        if rest:
            changes.append((change_indexes[0], asset_id, rest))
        lbtc_rest = sum(c.value for c in lbtc_coins) - subsidies - fee
        if lbtc_rest >= tx.DUST_SATS:
            changes.append((change_indexes[1], policy_asset, lbtc_rest))
        outputs += [
            tx.Output(htlc.p2wpkh_script(keys.wallet_key(CHANGE, i).key_hash), asset, value)
            for i, asset, value in changes
        ]
        vsize = tx.predict_vsize(spends, outputs, policy_asset)
        if vsize > MAX_VSIZE:
            raise TooLarge(f"{len(swaps)} swaps from {len(inputs)} coins make {vsize} vbytes")
        if sum(c.value for c in inputs) >= MAX_AMOUNT:
            # bad-txns-txouttotal-toolarge: all assets of a transaction together count.
            raise TooLarge(f"the {len(inputs)} coins hold more than one transaction may")
        needed = fee_sats(vsize, rate_sats_per_kvb)
        if needed <= fee:
            break
        fee = needed
    paid_fee = fee if lbtc_rest >= tx.DUST_SATS else fee + lbtc_rest
    signed = tx.sign(spends, outputs, policy_asset=policy_asset, fee=paid_fee)
    change = tuple(
        Coin(Outpoint(signed.txid, len(pairs) + n), asset, value, CHANGE, index, None)
        for n, (index, asset, value) in enumerate(changes)
    )
    return FundingPlan(signed, inputs, change, vouts)


@dataclass(frozen=True, slots=True)
class RefundInput:
    """An HTLC output to take back: `key_index` of its refund key, its witness script."""

    outpoint: Outpoint
    asset_id: str
    value: int
    key_index: int
    script: bytes


@dataclass(frozen=True, slots=True)
class RefundPlan:
    """A signed refund, the coins it pays to the wallet, and the wallet coins that helped out."""

    signed: tx.Signed
    payouts: tuple[Coin, ...]
    topped_up: tuple[Coin, ...]


def plan_refund(
    inputs: Sequence[RefundInput],
    *,
    keys: Keychain,
    lock_height: int,
    change_indexes: Sequence[int],
    policy_asset: str,
    rate_sats_per_kvb: int,
    top_up: Sequence[Coin] = (),
) -> RefundPlan:
    """One refund of all `inputs` to fresh addresses of ours, one output an asset, fee in L-BTC.

    `lock_height` is the highest of theirs. `top_up` are wallet coins of L-BTC that may help with
    the fee when the inputs hold too little. Raises `NotEnoughCoins`.
    """
    totals: dict[str, int] = {}
    for item in inputs:
        totals[item.asset_id] = totals.get(item.asset_id, 0) + item.value
    spends = [
        tx.refund_spend(i.outpoint, i.value, keys.refund_key(i.key_index), i.script) for i in inputs
    ]
    lbtc = totals.pop(policy_asset, 0)
    payouts = [(change_indexes[n], asset, value) for n, (asset, value) in enumerate(totals.items())]
    lbtc_index = change_indexes[len(payouts)]

    def outputs(lbtc_value: int) -> list[tx.Output]:
        pays = [*payouts, *([(lbtc_index, policy_asset, lbtc_value)] if lbtc_value else [])]
        return [
            tx.Output(htlc.p2wpkh_script(keys.wallet_key(CHANGE, i).key_hash), asset, value)
            for i, asset, value in pays
        ]

    extra = iter(top_up)
    topped_up: list[Coin] = []
    while True:
        fee = fee_sats(tx.predict_vsize(spends, outputs(1), policy_asset), rate_sats_per_kvb)
        if lbtc - fee >= tx.DUST_SATS or (payouts and lbtc == fee):
            break
        coin = next(extra, None)
        if coin is None:
            raise NotEnoughCoins(policy_asset, fee + tx.DUST_SATS, lbtc)
        spends.append(
            tx.wallet_spend(coin.outpoint, coin.value, keys.wallet_key(coin.branch, coin.index))
        )
        topped_up.append(coin)
        lbtc += coin.value
    rest = lbtc - fee
    signed = tx.sign(
        spends, outputs(rest), policy_asset=policy_asset, fee=fee, lock_time=lock_height
    )
    pays = [*payouts, *([(lbtc_index, policy_asset, rest)] if rest else [])]
    coins = tuple(
        Coin(Outpoint(signed.txid, n), asset, value, CHANGE, index, None)
        for n, (index, asset, value) in enumerate(pays)
    )
    return RefundPlan(signed, coins, tuple(topped_up))
