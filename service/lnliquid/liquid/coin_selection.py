"""The wallet's pure half: reading coins out of transactions, choosing coins, planning a funding.

No I/O: what is read from the chain and kept in the store is the seller's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lnliquid.domain import htlc
from lnliquid.domain.swap import Coin, Outpoint, Swap
from lnliquid.domain.terms import MAX_AMOUNT, fee_sats
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import Keychain
from lnliquid.liquid.mempool_limits import Chains


class NotEnoughCoins(Exception):
    """The coins at hand do not cover the plan; `asset_id` says of which asset."""

    def __init__(self, asset_id: str, wanted: int, had: int, but: str = "") -> None:
        super().__init__(f"{wanted} of {asset_id} are needed and the coins hold {had}{but}")
        self.asset_id = asset_id


class MustWait(Exception):
    """The coins are there, but a rule of the mempool wants a block first."""


MAX_VSIZE = 100_000
"""vbytes of the largest standard transaction, 400,000 weight (Elements `policy.h`)."""


def select_coins(coins: Sequence[Coin], wanted: int) -> list[Coin] | None:
    """Coins worth at least `wanted`, unconfirmed ones only where needed; None when they are not.

    The smallest single coin that suffices, else the largest first: few inputs, and large coins stay
    whole for large needs.
    """
    for usable in ([c for c in coins if c.height is not None], coins):
        enough = [c for c in usable if c.value >= wanted]
        if enough:
            return [min(enough, key=lambda c: (c.value, c.outpoint))]
        chosen: list[Coin] = []
        total = 0
        for coin in sorted(usable, key=lambda c: (c.height is None, -c.value, c.outpoint)):
            chosen.append(coin)
            total += coin.value
            if total >= wanted:
                return chosen
    return None


@dataclass(frozen=True, slots=True)
class FundingPlan:
    """A signed funding transaction and what it does to the wallet and to the swaps.

    `swaps` are those it funds, a prefix of those asked for. `vouts` maps a swap id to (asset vout,
    subsidy vout); `change` are the wallet's new coins.
    """

    signed: tx_builder.Signed
    swaps: tuple[Swap, ...]
    inputs: tuple[Coin, ...]
    change: tuple[Coin, ...]
    vouts: dict[str, tuple[int, int]]


def htlc_script(swap: Swap, refund_lock_height: int) -> bytes:
    """Witness script of a swap at this lock height."""
    return htlc.witness_script(
        swap.payment_hash, swap.buyer_key_hash, swap.seller_key_hash, refund_lock_height
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """Inputs and change of a funding that fits all rules, not yet signed."""

    inputs: tuple[Coin, ...]
    changes: tuple[tx_builder.Change, ...]
    fee: int


class FundingPlanner:
    """Plans one funding transaction from the coins and the unconfirmed chains of this moment.

    Outputs: the pair (asset, subsidy) of each swap in order, asset change, L-BTC change, fee.
    `change_indexes` are two fresh indexes of the change branch; `later` are coins that may not be
    spent yet, and are worth waiting for.
    """

    def __init__(
        self,
        coins: Sequence[Coin],
        chains: Chains,
        *,
        keys: Keychain,
        refund_lock_height: int,
        change_indexes: Sequence[int],
        rate_sats_per_kvb: int,
        later: Sequence[Coin] = (),
    ) -> None:
        self._coins = coins
        self._in_time = [*coins, *later]
        self._chains = chains
        self._keys = keys
        self._policy_asset = keys.network.policy_asset
        self._refund_lock_height = refund_lock_height
        self._change_indexes = change_indexes
        self._rate = rate_sats_per_kvb

    def plan(self, swaps: Sequence[Swap]) -> FundingPlan:
        """Fund as many of `swaps`, which sell one asset, as one transaction may, oldest first.

        Raises `MustWait` when a block is needed first, `NotEnoughCoins` when not even the first
        swap can be paid for, and no block would change that.
        """
        if any(s.asset_id == self._policy_asset for s in swaps):
            raise ValueError("L-BTC pays for the funding and cannot be what it sells")
        fitting, above = 0, len(swaps) + 1
        best: _Choice | None = None
        trial = len(swaps)
        while fitting + 1 < above:
            choice = self._choose(swaps[:trial])
            if choice is None:
                above = trial
            else:
                fitting, best = trial, choice
            trial = (fitting + above) // 2
        if best is None:
            raise self._why_not(swaps[0])
        return self._sign(swaps[:fitting], best)

    def _why_not(self, swap: Swap) -> Exception:
        for asset, wanted in ((swap.asset_id, swap.asset_amount), (self._policy_asset, 0)):
            held = sum(c.value for c in self._in_time if c.asset_id == asset)
            least = wanted or swap.subsidy_sats + fee_sats(_LEAST_FUNDING_VSIZE, self._rate)
            if held < least:
                return NotEnoughCoins(asset, least, held)
        if not self._could_fund(swap):
            held = sum(c.value for c in self._in_time if c.asset_id == swap.asset_id)
            return NotEnoughCoins(
                swap.asset_id,
                swap.asset_amount,
                held,
                ", but no single transaction can pay for the swap from them and the L-BTC",
            )
        if self._in_time != self._coins:
            return MustWait("coins are not buried yet, or in transactions that no node has taken")
        return MustWait("the coins are in chains of unconfirmed transactions that are full")

    def _could_fund(self, swap: Swap) -> bool:
        """Would these coins do if all of them were confirmed?

        Not when they are too many for one transaction, or one of them is too large, or the L-BTC is
        short by a few sat. To wait for blocks would be to wait for ever then.
        """
        planner = FundingPlanner(
            [replace(c, height=c.height or 0) for c in self._in_time],
            Chains(),
            keys=self._keys,
            refund_lock_height=self._refund_lock_height,
            change_indexes=self._change_indexes,
            rate_sats_per_kvb=self._rate,
        )
        return planner._choose([swap]) is not None

    def _pairs(self, swaps: Sequence[Swap]) -> list[tx_builder.Output]:
        pairs = []
        for swap in swaps:
            script = htlc.output_script(htlc_script(swap, self._refund_lock_height))
            pairs.append(tx_builder.Output(script, swap.asset_id, swap.asset_amount))
            pairs.append(tx_builder.Output(script, self._policy_asset, swap.subsidy_sats))
        return pairs

    def _choose(self, swaps: Sequence[Swap]) -> _Choice | None:
        """Coins of the first pool that suffices: confirmed ones, then those of one chain.

        Chains are joined only for a swap that no single one can pay: whatever spends from two
        is held by the limits of both.
        """
        pools: list[Sequence[Coin]] = [[c for c in self._coins if c.height is not None]]
        for group in self._chains.groups():
            pools.append([c for c in self._coins if c.outpoint.txid in group])
        for group in self._chains.groups():
            pools.append(
                [c for c in self._coins if c.height is not None or c.outpoint.txid in group]
            )
        if len(swaps) == 1:
            pools.append(self._coins)
        for pool in pools:
            choice = self._choose_from(pool, swaps)
            if choice is not None:
                return choice
        return None

    def _choose_from(self, coins: Sequence[Coin], swaps: Sequence[Swap]) -> _Choice | None:
        (asset_id,) = {s.asset_id for s in swaps}
        wanted = sum(s.asset_amount for s in swaps)
        subsidies = sum(s.subsidy_sats for s in swaps)
        # All pairs are of one size, and the change is counted whether it comes or not.
        outputs = [tx_builder.Output(bytes(34), asset_id, 0)] * (2 * len(swaps))
        outputs += [tx_builder.Output(bytes(22), asset_id, 0)] * 2
        vsize = tx_builder.predict_vsize([], outputs) + 2 * _INPUT_VSIZE
        usable = [c for c in coins if self._chains.fits([c.outpoint.txid], vsize)]
        asset_coins = select_coins([c for c in usable if c.asset_id == asset_id], wanted)
        if asset_coins is None:
            return None
        fee = fee_sats(vsize, self._rate)
        while True:
            # The fee depends on the inputs, and the inputs on the fee: it only ever grows here.
            lbtc = [c for c in usable if c.asset_id == self._policy_asset]
            # With change, if that can be had: it is what pays when the fee must be raised.
            lbtc_coins = select_coins(lbtc, subsidies + fee + tx_builder.DUST_SATS) or select_coins(
                lbtc, subsidies + fee
            )
            if lbtc_coins is None:
                return None
            inputs = (*asset_coins, *lbtc_coins)
            vsize = tx_builder.predict_vsize(tx_builder.wallet_spends(inputs, self._keys), outputs)
            if fee_sats(vsize, self._rate) <= fee:
                break
            fee = fee_sats(vsize, self._rate)
        if (
            vsize > MAX_VSIZE
            # bad-txns-txouttotal-toolarge: all assets of a transaction together count.
            or sum(c.value for c in inputs) >= MAX_AMOUNT
            or not self._chains.fits({c.outpoint.txid for c in inputs}, vsize)
        ):
            return None
        changes = []
        rest = sum(c.value for c in asset_coins) - wanted
        if rest:
            changes.append((self._change_indexes[0], asset_id, rest))
        rest = sum(c.value for c in lbtc_coins) - subsidies - fee
        if rest >= tx_builder.DUST_SATS:
            changes.append((self._change_indexes[1], self._policy_asset, rest))
        else:
            fee += rest
        fee = self._exact_fee(swaps, inputs, changes, fee)  # it may raise the change
        return _Choice(inputs, tuple(changes), fee)

    def _exact_fee(
        self,
        swaps: Sequence[Swap],
        inputs: Sequence[Coin],
        changes: list[tx_builder.Change],
        fee: int,
    ) -> int:
        """Give what was counted for a change that did not come back to the other, or keep it."""
        if len(changes) == 2 or not changes or changes[-1][1] != self._policy_asset:
            return fee
        outputs = [tx_builder.Output(bytes(34), "", 0)] * (2 * len(swaps)) + [
            tx_builder.Output(bytes(22), "", 0)
        ]
        vsize = tx_builder.predict_vsize(tx_builder.wallet_spends(inputs, self._keys), outputs)
        least = fee_sats(vsize, self._rate)
        index, asset, value = changes[-1]
        changes[-1] = (index, asset, value + fee - least)
        return least

    def _sign(self, swaps: Sequence[Swap], choice: _Choice) -> FundingPlan:
        spends = tx_builder.wallet_spends(choice.inputs, self._keys)
        signed, change = tx_builder.sign_with_change(
            spends, self._pairs(swaps), choice.changes, keys=self._keys, fee=choice.fee
        )
        vouts = {s.swap_id: (2 * n, 2 * n + 1) for n, s in enumerate(swaps)}
        return FundingPlan(signed, tuple(swaps), choice.inputs, change, vouts)


_INPUT_VSIZE = 69
"""vbytes of a P2WPKH input with its witness, rounded up."""
_LEAST_FUNDING_VSIZE = 350
"""vbytes of a funding of one swap without change."""


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

    signed: tx_builder.Signed
    payouts: tuple[Coin, ...]
    topped_up: tuple[Coin, ...]
    indexes: tuple[int, int]
    """First of the change indexes that are spoken for, and how many."""


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
        tx_builder.refund_spend(i.outpoint, i.value, keys.refund_key(i.key_index), i.script)
        for i in inputs
    ]
    lbtc = totals.pop(policy_asset, 0)
    payouts = [(change_indexes[n], asset, value) for n, (asset, value) in enumerate(totals.items())]
    shape = [tx_builder.Output(bytes(22), asset, 1) for asset in (*totals, policy_asset)]
    extra = iter(top_up)
    total = sum(i.value for i in inputs)
    topped_up: list[Coin] = []
    while True:
        fee = fee_sats(tx_builder.predict_vsize(spends, shape), rate_sats_per_kvb)
        if lbtc - fee >= tx_builder.DUST_SATS or (payouts and lbtc == fee):
            break
        coin = next((c for c in extra if total + c.value < MAX_AMOUNT), None)
        if coin is None:
            raise NotEnoughCoins(policy_asset, fee + tx_builder.DUST_SATS, lbtc)
        total += coin.value
        spends += tx_builder.wallet_spends([coin], keys)
        topped_up.append(coin)
        lbtc += coin.value
    if lbtc > fee:
        payouts.append((change_indexes[len(payouts)], policy_asset, lbtc - fee))
    signed, coins = tx_builder.sign_with_change(
        spends, [], payouts, keys=keys, fee=fee, lock_time=lock_height
    )
    return RefundPlan(signed, coins, tuple(topped_up), (change_indexes[0], len(change_indexes)))
