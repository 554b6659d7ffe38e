"""Signing one transaction of ours again, for more."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from lnliquid.domain import htlc
from lnliquid.domain.swap import Coin, Outpoint, Swap
from lnliquid.domain.terms import fee_sats
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import Keychain
from lnliquid.watchers.families import OwnTx
from lnliquid.watchers.observe import output_script, witness_script
from lnliquid.watchers.outbox import ToStore

INCREMENT_SATS_PER_KVB = 100
"""A replacement pays for its own relay on top of what the older one paid (BIP125 rule 4)."""
MAX_TOP_UPS = 3
"""Coins that may help a transaction whose change is too small to pay."""


class CannotPay(Exception):
    """No replacement can be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Material:
    """A transaction to be replaced, and what is stored of it.

    `coins` of the wallet: those that it spends, as they stand now, those that it makes, and perhaps
    others. `swaps`: those that it funds or whose HTLC outputs it takes back. `top_up`: confirmed
    L-BTC coins that may help it pay. `versions`: the txids of its family. `withdrawn_to`: scripts
    that the operator has it pay.
    """

    own: OwnTx
    coins: Mapping[Outpoint, Coin]
    swaps: Sequence[Swap]
    top_up: Sequence[Coin]
    versions: Collection[str] = ()
    withdrawn_to: Collection[bytes] = ()

    @property
    def change(self) -> list[Coin]:
        """The wallet's coins that it makes, by output index."""
        made = [c for c in self.coins.values() if c.outpoint.txid == self.own.txid]
        return sorted(made, key=lambda c: c.outpoint)


def sign_again(
    material: Material,
    as_it_stands: Callable[[Outpoint], Outpoint],
    keys: Keychain,
    *,
    rate_sats_per_kvb: int,
    evicted_sats: int,
    cap_sats_per_kvb: int,
) -> ToStore:
    """The same outputs at this rate, and never for less than BIP125 asks.

    `evicted_sats` are the fees of all that leaves the mempool for it. The last L-BTC change pays,
    and confirmed coins of `top_up` when that is too small. Raises `CannotPay`.
    """
    own, change = material.own, material.change
    policy_asset = keys.network.policy_asset
    outputs = [
        tx_builder.Output(o.script_pubkey, o.asset_id or "", o.value or 0)
        for o in own.parsed.outputs
        if not o.is_fee
    ]
    _require_ours(outputs, material, keys)
    payer = next((c for c in reversed(change) if c.asset_id == policy_asset), None)
    if payer is None:
        raise CannotPay("it has no change that could pay more")
    outpoints = [as_it_stands(i.outpoint) for i in own.parsed.inputs]
    coins = [material.coins[o] for o in outpoints if o in material.coins]
    refunds = [_refund_spend(o, material, keys) for o in outpoints if o not in material.coins]
    htlc_sats = sum(
        s.subsidy_sats for s in material.swaps for o in outpoints if o == s.subsidy_outpoint
    )
    # A coin that was L-BTC stays so in every version; only its value differs.
    fixed = sum(o.value for o in outputs if o.asset_id == policy_asset) - payer.value
    topped_up: list[Coin] = []
    extra = iter([c for c in material.top_up if c.outpoint not in outpoints])
    while True:
        ours = tx_builder.wallet_spends((*coins, *topped_up), keys)
        by_outpoint = {s.outpoint: s for s in (*ours, *refunds)}
        spends = [by_outpoint[o] for o in (*outpoints, *(c.outpoint for c in topped_up))]
        vsize = tx_builder.predict_vsize(spends, outputs)
        least = evicted_sats + fee_sats(vsize, INCREMENT_SATS_PER_KVB) if evicted_sats else 0
        fee = max(fee_sats(vsize, rate_sats_per_kvb), least)
        if fee > fee_sats(vsize, cap_sats_per_kvb):
            raise CannotPay(f"it would have to pay {fee} sat, above the fee cap")
        lbtc = sum(c.value for c in (*coins, *topped_up) if c.asset_id == policy_asset)
        rest = lbtc + htlc_sats - fixed - fee
        if rest >= tx_builder.DUST_SATS:
            break
        coin = next(extra, None)
        if coin is None or len(topped_up) == MAX_TOP_UPS:
            raise CannotPay("its change is too small to pay more, and no coin can help")
        topped_up.append(coin)
    vout = payer.outpoint.vout
    outputs[vout] = replace(outputs[vout], value=rest)
    signed = tx_builder.sign(
        spends, outputs, policy_asset=policy_asset, fee=fee, lock_time=own.parsed.lock_time
    )
    new_change = tuple(
        replace(
            c,
            outpoint=Outpoint(signed.txid, c.outpoint.vout),
            value=outputs[c.outpoint.vout].value,
        )
        for c in change
    )
    return ToStore(
        signed,
        own.purpose,
        tuple(topped_up),
        new_change,
        outpoints=tuple(s.outpoint for s in spends),
        replaces=own.txid,
    )


def _refund_spend(outpoint: Outpoint, material: Material, keys: Keychain) -> tx_builder.Spend:
    for swap in material.swaps:
        if outpoint in (swap.asset_outpoint, swap.subsidy_outpoint):
            is_asset = outpoint == swap.asset_outpoint
            return tx_builder.refund_spend(
                outpoint,
                swap.asset_amount if is_asset else swap.subsidy_sats,
                keys.refund_key(swap.key_index),
                witness_script(swap),
            )
    raise CannotPay(f"nothing is known of its input {outpoint}")


def _require_ours(outputs: Sequence[tx_builder.Output], material: Material, keys: Keychain) -> None:
    """Every output pays the wallet, the HTLC of a swap, or what the operator said, before signing.

    Wallet and HTLCs by our own keys.
    """
    scripts = {
        c.outpoint.vout: htlc.p2wpkh_script(keys.wallet_key(c.branch, c.index).key_hash)
        for c in material.change
    }
    for swap in material.swaps:
        for outpoint in (swap.asset_outpoint, swap.subsidy_outpoint):
            if outpoint is not None and outpoint.txid == material.own.txid:
                scripts[outpoint.vout] = output_script(swap)
    for vout, output in enumerate(outputs):
        if output.script_pubkey not in (scripts.get(vout), *material.withdrawn_to):
            raise CannotPay(f"its output {vout} is neither the wallet's nor that of a swap")
