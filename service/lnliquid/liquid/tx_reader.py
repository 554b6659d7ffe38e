"""Reading raw Elements transactions: one pass over the bytes, no objects but what is asked for.

A funding of 600 swaps is 0.1 MB and stands in the histories of wallet addresses, so that a start
reads many of them; embit takes some 60 ms for each. Layout: Elements `primitives/transaction.h`.
"""

import hashlib
import struct
from dataclasses import dataclass

ISSUANCE_BIT, PEGIN_BIT = 1 << 31, 1 << 30
"""Flags in an input's output index (`COutPoint::OUTPOINT_ISSUANCE_FLAG`, `_PEGIN_FLAG`)."""
COINBASE_VOUT = 0xFFFFFFFF


@dataclass(slots=True)
class RawInput:
    """An input; `txid` in display order, `vout` without the flags."""

    txid: str
    vout: int
    sequence: int
    witness: list[bytes]


@dataclass(slots=True)
class RawOutput:
    """An output. Asset (display order) and value are None when they are blinded."""

    script_pubkey: bytes
    asset_id: str | None
    value: int | None


@dataclass(slots=True)
class RawTransaction:
    """What the bytes say; `weight` as Elements counts it."""

    txid: str
    inputs: list[RawInput]
    outputs: list[RawOutput]
    lock_time: int
    weight: int


class _Bytes:
    """A position in the bytes. Raises `ValueError` at their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        taken = self.data[self.at : end]
        if len(taken) != count:
            raise ValueError("the bytes end within the transaction")
        self.at = end
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

    def skip_zeros(self, count: int) -> bool:
        """Pass over so many zero bytes; False, and nothing is passed over, if they are others."""
        if self.data[self.at : self.at + count] != bytes(count):
            return False
        self.at += count
        return True

    def confidential(self, explicit_bytes: int) -> bytes | None:
        """An asset (32), value (8) or nonce (32): its bytes when explicit, None otherwise."""
        prefix = self.take(1)[0]
        if prefix == 0:
            return None
        if prefix == 1:
            return self.take(explicit_bytes)
        self.take(32)
        return None


def txid_of(raw: bytes) -> str:
    """The txid. Raises `ValueError` when the bytes are not exactly one transaction."""
    return read(raw).txid


def read(raw: bytes) -> RawTransaction:
    """Read it all. Raises `ValueError` when the bytes are not exactly one transaction."""
    source = _Bytes(raw)
    version = source.take(4)
    flag = source.take(1)[0]
    if flag > 1:
        raise ValueError(f"flag {flag} is not known")
    body_from = source.at
    inputs = [_input(source) for _ in range(source.size())]
    outputs = [_output(source) for _ in range(source.size())]
    lock_time = source.number(4)
    body = raw[body_from : source.at]
    if flag:
        for found in inputs:
            source.blob()  # range proofs of an issuance: amount, inflation keys
            source.blob()
            found.witness = [source.blob() for _ in range(source.size())]
            for _ in range(source.size()):  # of a peg-in
                source.blob()
        if not source.skip_zeros(2 * len(outputs)):  # so many empty proofs: nothing is blinded
            for _ in outputs:
                source.blob()  # surjection proof, range proof
                source.blob()
    if source.at != len(raw):
        raise ValueError("bytes follow the transaction")
    plain = version + b"\x00" + body
    digest = hashlib.sha256(hashlib.sha256(plain).digest()).digest()
    return RawTransaction(digest[::-1].hex(), inputs, outputs, lock_time, 3 * len(plain) + len(raw))


def _input(source: _Bytes) -> RawInput:
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
    return RawInput(txid, vout, sequence, [])


_EXPLICIT = struct.Struct(">B32sBQBB")
"""Asset, value and nonce of an output, each behind its prefix, and the size of its script."""


def _explicit_output(source: _Bytes) -> RawOutput | None:
    """What nearly every output is, in one step. None, and nothing is taken, when it is not so."""
    if len(source.data) - source.at < _EXPLICIT.size:
        return None
    is_asset, asset, is_value, value, nonce, size = _EXPLICIT.unpack_from(source.data, source.at)
    if (is_asset, is_value, nonce) != (1, 1, 0) or size >= 0xFD:
        return None
    source.at += _EXPLICIT.size
    return RawOutput(source.take(size), asset[::-1].hex(), value)


def _output(source: _Bytes) -> RawOutput:
    explicit = _explicit_output(source)
    if explicit is not None:
        return explicit
    asset = source.confidential(32)
    value = source.confidential(8)
    source.confidential(32)  # nonce
    return RawOutput(
        source.blob(),
        asset[::-1].hex() if asset is not None else None,
        int.from_bytes(value, "big") if value is not None else None,
    )
