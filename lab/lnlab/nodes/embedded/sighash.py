"""The hash that an Elements signature signs (`script/interpreter.cpp`, SignatureHash).

Segwit v0 is BIP143 with Elements' additions: issuances, and proofs of the outputs under
SIGHASH_RANGEPROOF, which is in force because dynamic federations are. Legacy hashes come from
elementstx.
"""

from functools import cached_property
from typing import Any

from elementstx.core import CElementsTransaction

from lnlab.nodes.embedded.txmodel import Tx, compact_size, sha256d

SINGLE = 3
RANGEPROOF = 0x40
ANYONECANPAY = 0x80
_NONE = 2


class Spend:
    """A transaction under verification, with the hashes that all its inputs share."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    @cached_property
    def legacy(self) -> Any:
        """The transaction as elementstx reads it, for the pre-segwit signature hash."""
        return CElementsTransaction.deserialize(self.tx.raw)

    @cached_property
    def prevouts(self) -> bytes:
        """Hash of all outpoints."""
        return sha256d(b"".join(_prevout(self.tx, i) for i in range(len(self.tx.inputs))))

    @cached_property
    def sequences(self) -> bytes:
        """Hash of all sequence numbers."""
        return sha256d(b"".join(txin.sequence.to_bytes(4, "little") for txin in self.tx.inputs))

    @cached_property
    def issuances(self) -> bytes:
        """Hash of all issuances, a zero byte for none."""
        parts = [txin.issuance.raw if txin.issuance else b"\0" for txin in self.tx.inputs]
        return sha256d(b"".join(parts))

    @cached_property
    def outputs(self) -> bytes:
        """Hash of all outputs."""
        return sha256d(b"".join(out.raw for out in self.tx.outputs))

    def signature_hash(self, code: bytes, index: int, hash_type: int, value: bytes) -> bytes:
        """BIP143 as Elements extends it; `value` is the spent amount as serialised."""
        tx, zero = self.tx, bytes(32)
        kind, alone = hash_type & 0x1F, bool(hash_type & ANYONECANPAY)
        outputs, proofs = zero, zero
        # Explicit outputs carry no proofs: each counts as two empty byte strings.
        if kind not in (_NONE, SINGLE):
            outputs, proofs = self.outputs, sha256d(bytes(2 * len(tx.outputs)))
        elif kind == SINGLE and index < len(tx.outputs):
            outputs, proofs = sha256d(tx.outputs[index].raw), sha256d(bytes(2))
        txin = tx.inputs[index]
        return sha256d(
            tx.version.to_bytes(4, "little", signed=True)
            + (zero if alone else self.prevouts)
            + (zero if alone or kind in (_NONE, SINGLE) else self.sequences)
            + (zero if alone else self.issuances)
            + _prevout(tx, index)
            + compact_size(len(code))
            + code
            + value
            + txin.sequence.to_bytes(4, "little")
            + (txin.issuance.raw if txin.issuance else b"")
            + outputs
            + (proofs if hash_type & RANGEPROOF else b"")
            + tx.lock_time.to_bytes(4, "little")
            + hash_type.to_bytes(4, "little")
        )


def _prevout(tx: Tx, index: int) -> bytes:
    txid, vout = tx.inputs[index].outpoint
    return bytes.fromhex(txid)[::-1] + vout.to_bytes(4, "little")
