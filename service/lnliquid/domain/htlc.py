"""The HTLC: witness script, output script, witnesses, and reading a spender's witness.

Form fixed by the design (section 8): IF branch claim by preimage and buyer's signature, ELSE
branch refund after a block height (BIP65) by the seller's signature. P2WSH is BIP141.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum

OP_IF, OP_ELSE, OP_ENDIF = b"\x63", b"\x67", b"\x68"
OP_SIZE, OP_EQUALVERIFY, OP_SHA256 = b"\x82", b"\x88", b"\xa8"
OP_DUP, OP_HASH160, OP_CHECKSIG = b"\x76", b"\xa9", b"\xac"
OP_CLTV, OP_DROP = b"\xb1", b"\x75"

MAX_LOCK_HEIGHT = 499_999_999
"""A lock time from 500,000,000 on is a time, not a height (BIP65)."""


def push_number(value: int) -> bytes:
    """Minimal push of a positive script number (BIP62), as the interpreter demands it."""
    if not 0 < value <= MAX_LOCK_HEIGHT:
        raise ValueError(f"lock height {value} is not between 1 and {MAX_LOCK_HEIGHT}")
    if value <= 16:
        return bytes([0x50 + value])
    data = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return bytes([len(data)]) + data


def _pay_to_key_hash(key_hash: bytes) -> bytes:
    return OP_DUP + OP_HASH160 + b"\x14" + key_hash + OP_EQUALVERIFY + OP_CHECKSIG


def witness_script(
    payment_hash: bytes, buyer_key_hash: bytes, seller_key_hash: bytes, refund_lock_height: int
) -> bytes:
    """The HTLC script. Hashes: 32, 20 and 20 bytes; height 1..499,999,999. `ValueError` if not."""
    if (len(payment_hash), len(buyer_key_hash), len(seller_key_hash)) != (32, 20, 20):
        raise ValueError("a payment hash of 32 bytes and two key hashes of 20 bytes are needed")
    return b"".join(
        (
            OP_IF,
            OP_SIZE + b"\x01\x20" + OP_EQUALVERIFY,
            OP_SHA256 + b"\x20" + payment_hash + OP_EQUALVERIFY,
            _pay_to_key_hash(buyer_key_hash),
            OP_ELSE,
            push_number(refund_lock_height) + OP_CLTV + OP_DROP,
            _pay_to_key_hash(seller_key_hash),
            OP_ENDIF,
        )
    )


def output_script(script: bytes) -> bytes:
    """P2WSH output script (34 bytes) of a witness script."""
    return b"\x00\x20" + hashlib.sha256(script).digest()


def p2wpkh_script(key_hash: bytes) -> bytes:
    """P2WPKH output script (22 bytes) of a 20-byte key hash."""
    return b"\x00\x14" + key_hash


def electrum_scripthash(script_pubkey: bytes) -> str:
    """The key under which Electrum servers index an output script (protocol 1.4)."""
    return hashlib.sha256(script_pubkey).digest()[::-1].hex()


def claim_witness(
    signature: bytes, public_key: bytes, preimage: bytes, script: bytes
) -> list[bytes]:
    """Witness stack of the IF branch. The selector must be exactly `01` (MINIMALIF)."""
    return [signature, public_key, preimage, b"\x01", script]


def refund_witness(signature: bytes, public_key: bytes, script: bytes) -> list[bytes]:
    """Witness stack of the ELSE branch; the selector is empty."""
    return [signature, public_key, b"", script]


class SpendKind(Enum):
    """Which branch of the HTLC an input took."""

    CLAIM = "claim"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class SpendWitness:
    """What an input's witness tells: the branch, and the preimage of a claim."""

    kind: SpendKind
    preimage: bytes | None


def read_spend_witness(
    items: list[bytes], script: bytes, payment_hash: bytes
) -> SpendWitness | None:
    """Tell claim from refund by the witness, never by who sent it or by its txid.

    None when the witness is not one of this HTLC's two forms.
    """
    if not items or items[-1] != script:
        return None
    if len(items) == 5 and hashlib.sha256(items[2]).digest() == payment_hash and items[3]:
        return SpendWitness(SpendKind.CLAIM, items[2])
    if len(items) == 4 and items[2] == b"":
        return SpendWitness(SpendKind.REFUND, None)
    return None
