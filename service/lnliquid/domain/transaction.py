"""Reading raw Elements transactions: one pass over the bytes.

A funding of 600 swaps is 0.1 MB and stands in the histories of wallet addresses, so that a start
reads many of them; embit takes some 60 ms for each. Layout: Elements `primitives/transaction.h`.
"""

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property

from lnliquid.domain.swap import Outpoint

ISSUANCE_BIT, PEGIN_BIT = 1 << 31, 1 << 30
"""Flags in an input's output index (`COutPoint::OUTPOINT_ISSUANCE_FLAG`, `_PEGIN_FLAG`)."""
COINBASE_VOUT = 0xFFFFFFFF


@dataclass(slots=True)
class TxInput:
    """An input as read from raw bytes; its outpoint's index is without the flags."""

    outpoint: Outpoint
    sequence: int
    witness: list[bytes]


@dataclass(frozen=True, slots=True)
class TxOutput:
    """An output as read from raw bytes; asset and value are None when they are blinded."""

    script_pubkey: bytes
    asset_id: str | None
    value: int | None

    @property
    def is_fee(self) -> bool:
        """Elements marks the fee by an empty script."""
        return not self.script_pubkey


@dataclass(frozen=True)
class Transaction:
    """A transaction as read from raw bytes."""

    txid: str
    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    lock_time: int
    vsize: int

    @cached_property
    def input_of(self) -> dict[Outpoint, TxInput]:
        """Its inputs by what they spend."""
        return {spent.outpoint: spent for spent in self.inputs}

    @property
    def fee_sats(self) -> int:
        """Sum of the explicit fee outputs."""
        return sum(o.value or 0 for o in self.outputs if o.is_fee)


class _Bytes:
    """A position in the bytes. Raises `ValueError` at their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError("the bytes end within the transaction")
        self.at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def size(self) -> int:
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        count = {0xFD: 2, 0xFE: 4, 0xFF: 8}[first]
        size = self.number(count)
        if size < {2: 0xFD, 4: 1 << 16, 8: 1 << 32}[count]:
            raise ValueError("a size is not written the shortest way")
        return size

    def blob(self) -> bytes:
        return self.take(self.size())

    def confidential(self, explicit_bytes: int) -> bytes | None:
        """An asset (32), value (8) or nonce (32): its bytes when explicit, None otherwise."""
        prefix = self.take(1)[0]
        if prefix > 1:
            self.take(32)
        return self.take(explicit_bytes) if prefix == 1 else None


def txid_of(raw: bytes) -> str:
    """The txid. Raises `ValueError` when the bytes are not exactly one transaction."""
    return parse_transaction(raw).txid


def parse_transaction(raw: bytes) -> Transaction:
    """Read a transaction. `ValueError` when the bytes are not exactly one."""
    try:
        return _transaction(_Bytes(raw))
    except ValueError as error:
        raise ValueError(f"not an Elements transaction: {error}") from None


def _transaction(source: _Bytes) -> Transaction:
    raw = source.data
    version = source.take(4)
    flag = source.take(1)[0]
    if flag > 1:
        raise ValueError(f"flag {flag} is not known")
    body_from = source.at
    inputs = tuple([_input(source) for _ in range(source.size())])
    outputs = tuple([_output(source) for _ in range(source.size())])
    lock_time = source.number(4)
    plain = version + b"\x00" + raw[body_from : source.at]
    if flag:
        for found in inputs:
            source.blob()  # range proofs of an issuance: amount, inflation keys
            source.blob()
            found.witness = [source.blob() for _ in range(source.size())]
            for _ in range(source.size()):  # of a peg-in
                source.blob()
        proofs = bytes(2 * len(outputs))  # surjection and range proof; empty: nothing is blinded
        if raw[source.at : source.at + len(proofs)] == proofs:
            source.at += len(proofs)
        else:
            for _ in proofs:
                source.blob()
    if source.at != len(raw):
        raise ValueError("bytes follow the transaction")
    txid = hashlib.sha256(hashlib.sha256(plain).digest()).digest()[::-1].hex()
    return Transaction(txid, inputs, outputs, lock_time, (3 * len(plain) + len(raw) + 3) // 4)


def _input(source: _Bytes) -> TxInput:
    txid = source.take(32)[::-1].hex()
    vout = source.number(4)
    source.blob()  # script_sig: empty for segwit
    sequence = source.number(4)
    if vout != COINBASE_VOUT:
        if vout & ISSUANCE_BIT:
            source.take(64)  # blinding nonce, entropy
            source.confidential(8)
            source.confidential(8)
        vout &= ~(ISSUANCE_BIT | PEGIN_BIT)
    return TxInput(Outpoint(txid, vout), sequence, [])


_EXPLICIT = struct.Struct(">B32sBQBB")
"""Asset, value and nonce of an output, each behind its prefix, and the size of its script."""


def _output(source: _Bytes) -> TxOutput:
    if len(source.data) - source.at >= _EXPLICIT.size:  # what nearly every output is, in one step
        asset_prefix, asset, value_prefix, value, nonce, size = _EXPLICIT.unpack_from(
            source.data, source.at
        )
        if (asset_prefix, value_prefix, nonce) == (1, 1, 0) and size < 0xFD:
            source.at += _EXPLICIT.size
            return TxOutput(source.take(size), asset[::-1].hex(), value)
    asset_id = source.confidential(32)
    amount = source.confidential(8)
    source.confidential(32)  # nonce
    return TxOutput(
        source.blob(),
        None if asset_id is None else asset_id[::-1].hex(),
        None if amount is None else int.from_bytes(amount, "big"),
    )
