"""Building, weighing and signing explicit Liquid transactions with embit.

A transaction is first built with witnesses of the right size, so that its weight, and with it the
fee, is exact before anything is signed; `sign` then only swaps the placeholders. Signatures are
sighash ALL: embit's default for Liquid is ALL|RANGEPROOF, and its ANYONECANPAY digest is not
elementsd's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from embit.liquid.transaction import (
    LSIGHASH,
    LTransaction,
    LTransactionInput,
    LTransactionOutput,
    TxInWitness,
)
from embit.script import Script, Witness

from lnliquid.domain import htlc
from lnliquid.domain.swap import Coin, Outpoint
from lnliquid.domain.terms import fee_sats
from lnliquid.liquid.keys import CHANGE, Key, Keychain

SEQUENCE_FINAL = 0xFFFFFFFF
"""Not replaceable (BIP125), and `OP_CHECKLOCKTIMEVERIFY` fails with it."""
SEQUENCE_LOCKTIME = 0xFFFFFFFE
"""Lock time counts, not replaceable."""
SEQUENCE_REPLACEABLE = 0xFFFFFFFD
"""Lock time counts, and a transaction with a higher fee may replace this one (BIP125)."""


@dataclass(frozen=True, slots=True)
class Output:
    """An explicit output. `value` in the smallest unit of the asset; an empty script is the fee."""

    script_pubkey: bytes
    asset_id: str
    value: int


@dataclass(frozen=True, slots=True)
class Spend:
    """An input and how it is signed.

    `script_code` is what BIP143 hashes: the witness script of P2WSH, the P2PKH form of P2WPKH.
    `witness` makes the stack from a signature that ends with its sighash byte.
    """

    outpoint: Outpoint
    value: int
    sequence: int
    key: Key
    script_code: bytes
    witness: Callable[[bytes], list[bytes]]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction and what it costs."""

    raw: bytes
    txid: str
    vsize: int
    fee_sats: int


def wallet_spend(outpoint: Outpoint, value: int, key: Key) -> Spend:
    """Spend of a P2WPKH coin, replaceable."""
    return Spend(
        outpoint,
        value,
        SEQUENCE_REPLACEABLE,
        key,
        b"\x76\xa9\x14" + key.key_hash + b"\x88\xac",
        lambda signature: [signature, key.public_key],
    )


def claim_spend(outpoint: Outpoint, value: int, key: Key, script: bytes, preimage: bytes) -> Spend:
    """Spend of an HTLC output by the buyer.

    Its sequence is final: a claim that signals replacement could be replaced by a refund.
    """
    return Spend(
        outpoint,
        value,
        SEQUENCE_FINAL,
        key,
        script,
        lambda signature: htlc.claim_witness(signature, key.public_key, preimage, script),
    )


def refund_spend(outpoint: Outpoint, value: int, key: Key, script: bytes) -> Spend:
    """Spend of an HTLC output by the seller; the transaction's lock time must be set too."""
    return Spend(
        outpoint,
        value,
        SEQUENCE_REPLACEABLE,
        key,
        script,
        lambda signature: htlc.refund_witness(signature, key.public_key, script),
    )


def _assemble(
    spends: Sequence[Spend], outputs: Sequence[Output], policy_asset: str, fee: int, lock_time: int
) -> LTransaction:
    everything = [*outputs, Output(b"", policy_asset, fee)]
    return LTransaction(
        version=2,
        vin=[
            LTransactionInput(bytes.fromhex(s.outpoint.txid), s.outpoint.vout, sequence=s.sequence)
            for s in spends
        ],
        vout=[
            LTransactionOutput(bytes.fromhex(o.asset_id)[::-1], o.value, Script(o.script_pubkey))
            for o in everything
        ],
        locktime=lock_time,
    )


def _set_witness(transaction: LTransaction, index: int, items: list[bytes]) -> None:
    transaction.vin[index].witness = TxInWitness(script_witness=Witness(items))


def _vsize(transaction: LTransaction) -> int:
    total = len(transaction.serialize())
    witness = 0
    if transaction.has_witness:  # else there is no witness section at all
        parts = (*transaction.vin, *transaction.vout)
        witness = sum(len(part.witness.serialize()) for part in parts)
    return (4 * (total - witness) + witness + 3) // 4


def _compact_size(count: int) -> int:
    """Bytes of a length as Bitcoin writes it."""
    return 1 if count < 0xFD else 3 if count <= 0xFFFF else 5


def predict_vsize(spends: Sequence[Spend], outputs: Sequence[Output]) -> int:
    """vsize that the signed transaction of these parts will have, its fee output included.

    Arithmetic only, because batches are planned by trying. An explicit output is asset 33, value 9,
    nonce 1 and the script; a witness of an input holds four fields, of an output two (Elements
    `primitives/transaction.h`).
    """
    plain = 4 + 1 + _compact_size(len(spends)) + _compact_size(len(outputs) + 1) + 4
    plain += (32 + 4 + 1 + 4) * len(spends)
    plain += 33 + 9 + 1 + 1  # the fee
    for output in outputs:
        size = len(output.script_pubkey)
        plain += 33 + 9 + 1 + _compact_size(size) + size
    witness = 2 * (len(outputs) + 1)
    for spend in spends:
        items = spend.witness(bytes(Key.SIGNATURE_SIZE))
        witness += 3 + _compact_size(len(items))
        witness += sum(_compact_size(len(item)) + len(item) for item in items)
    return (4 * plain + witness + 3) // 4


def sign(
    spends: Sequence[Spend],
    outputs: Sequence[Output],
    *,
    policy_asset: str,
    fee: int,
    lock_time: int = 0,
) -> Signed:
    """Sign all inputs with sighash ALL. `outputs` without the fee output, which is added last.

    The caller has balanced the amounts. Raises `ArithmeticError` when the signed size is not the
    predicted one, which would be a defect here.
    """
    transaction = _assemble(spends, outputs, policy_asset, fee, lock_time)
    sighash = LSIGHASH.ALL
    for index, spend in enumerate(spends):
        digest = transaction.sighash_segwit(index, Script(spend.script_code), spend.value, sighash)
        signature = spend.key.sign(digest) + bytes([sighash])
        _set_witness(transaction, index, spend.witness(signature))
    vsize = _vsize(transaction)
    if vsize != predict_vsize(spends, outputs):
        raise ArithmeticError(f"signed size {vsize} is not the predicted one")
    return Signed(transaction.serialize(), transaction.txid().hex(), vsize, fee)


Change = tuple[int, str, int]
"""An output to the wallet: index on the change branch, asset id, value."""


def wallet_spends(coins: Iterable[Coin], keys: Keychain) -> list[Spend]:
    """Spends of coins of the wallet."""
    return [wallet_spend(c.outpoint, c.value, keys.wallet_key(c.branch, c.index)) for c in coins]


def sign_with_change(
    spends: Sequence[Spend],
    outputs: Sequence[Output],
    changes: Sequence[Change],
    *,
    keys: Keychain,
    fee: int,
    lock_time: int = 0,
) -> tuple[Signed, tuple[Coin, ...]]:
    """Sign what pays `outputs` and, behind them, the wallet; its new coins come with it."""
    own = [
        Output(htlc.p2wpkh_script(keys.wallet_key(CHANGE, index).key_hash), asset, value)
        for index, asset, value in changes
    ]
    policy_asset = keys.network.policy_asset
    signed = sign(spends, [*outputs, *own], policy_asset=policy_asset, fee=fee, lock_time=lock_time)
    return signed, tuple(
        Coin(Outpoint(signed.txid, len(outputs) + n), asset, value, CHANGE, index, None)
        for n, (index, asset, value) in enumerate(changes)
    )


class FeeNotCovered(ValueError):
    """Too little L-BTC to pay for the claim. `missing_sats` more are needed."""

    def __init__(self, missing_sats: int) -> None:
        super().__init__(f"{missing_sats} sat of L-BTC are missing for the fee of the claim")
        self.missing_sats = missing_sats


def claim(
    *,
    spends: Sequence[Spend],
    asset_id: str,
    asset_amount: int,
    subsidy_sats: int,
    script_pubkey: bytes,
    policy_asset: str,
    rate_sats_per_kvb: int,
) -> Signed:
    """The buyer's claim to one script; the fee comes out of the subsidy.

    What the subsidy leaves goes to the buyer, or to the fee when it would be dust. An amount of 0
    makes no output: the asset output is spent already. Raises `FeeNotCovered`.
    """
    outputs = [Output(script_pubkey, asset_id, asset_amount)] if asset_amount else []
    change = Output(script_pubkey, policy_asset, subsidy_sats)
    fee = fee_sats(predict_vsize(spends, [*outputs, change]), rate_sats_per_kvb)
    rest = subsidy_sats - fee
    if rest < 0:
        raise FeeNotCovered(-rest)
    if rest >= DUST_SATS:
        outputs.append(Output(script_pubkey, policy_asset, rest))
    else:
        fee = subsidy_sats
    return sign(spends, outputs, policy_asset=policy_asset, fee=fee)


DUST_SATS = 30
"""Below this an L-BTC change output is left to the fee. elementsd's limit is 14 for P2WPKH."""
