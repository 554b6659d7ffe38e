"""Elements transactions, read from bytes with no help from the library that signs them.

Format: `primitives/transaction.h` and `primitives/confidential.h` of Elements. Hashes are
lower-case hex in display order (reversed), amounts are satoshi. A confidential field (a Pedersen
commitment in place of a plain number or asset id) is read as None: the embedded chain refuses such
transactions in its policy, not here.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import elementstx.core as elements

ISSUANCE_FLAG = 1 << 31
PEGIN_FLAG = 1 << 30
NULL_INDEX = 0xFFFFFFFF
NULL_HASH = "00" * 32
SEQUENCE_FINAL = 0xFFFFFFFF

Outpoint = tuple[str, int]
"""txid (display order) and output index."""


class Rejected(Exception):
    """A transaction was refused.

    `code` is elementsd's reject reason as `testmempoolaccept` prints it; `reason` adds the detail
    after a comma, as `sendrawtransaction` prints it.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.reason = f"{code}, {detail}" if detail else code
        super().__init__(self.reason)


class Issuance(NamedTuple):
    """Asset issuance attached to an input. None amounts are absent, not zero."""

    blinding_nonce: bytes
    entropy: bytes
    amount_sats: int | None
    token_sats: int | None
    is_confidential: bool
    raw: bytes

    @property
    def is_reissuance(self) -> bool:
        """A non-zero blinding nonce marks the spend of a (blinded) reissuance token."""
        return any(self.blinding_nonce)


class TxIn(NamedTuple):
    """One input; `outpoint` has the issuance and peg-in flag bits already taken off."""

    outpoint: Outpoint
    script_sig: bytes
    sequence: int
    issuance: Issuance | None
    is_pegin: bool
    witness: tuple[bytes, ...] = ()
    pegin_witness: tuple[bytes, ...] = ()
    has_issuance_proof: bool = False


class TxOut(NamedTuple):
    """One output. `asset` or `value` is None when it is confidential. Empty script = fee."""

    asset: str | None
    value: int | None
    script: bytes
    raw: bytes

    @property
    def is_fee(self) -> bool:
        """Elements' explicit fee output."""
        return not self.script and self.asset is not None and self.value is not None


@dataclass(frozen=True)
class Coin:
    """An explicit output as others may spend it; `height` None means unconfirmed."""

    txid: str
    vout: int
    asset: str
    value: int
    script_pubkey: bytes
    height: int | None
    coinbase: bool = False


@dataclass(frozen=True)
class Tx:
    """A decoded transaction. `raw` is its one valid encoding, so equal raw means equal wtxid."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    lock_time: int
    output_proofs: tuple[tuple[bytes, bytes], ...]
    raw: bytes
    base: bytes

    @cached_property
    def txid(self) -> str:
        """Hash of the encoding without witness."""
        return sha256d(self.base)[::-1].hex()

    @property
    def has_witness(self) -> bool:
        """Whether the encoding carries a witness section."""
        return self.raw[4] == 1

    @property
    def weight(self) -> int:
        """BIP141 weight units."""
        return 3 * len(self.base) + len(self.raw)

    @property
    def is_coinbase(self) -> bool:
        """One input that spends nothing."""
        return len(self.inputs) == 1 and self.inputs[0].outpoint == (NULL_HASH, NULL_INDEX)

    @property
    def signals_replacement(self) -> bool:
        """BIP125 explicit signal."""
        return any(txin.sequence < SEQUENCE_FINAL - 1 for txin in self.inputs)

    def fee_sats(self, asset: str) -> int:
        """Sum of the fee outputs in one asset."""
        return sum(out.value or 0 for out in self.outputs if out.is_fee and out.asset == asset)

    def coin(self, vout: int, height: int | None) -> Coin | None:
        """One output as a coin, whether or not anyone could spend it; None if there is none."""
        if vout >= len(self.outputs):
            return None
        out = self.outputs[vout]
        if out.asset is None or out.value is None:
            return None
        return Coin(self.txid, vout, out.asset, out.value, out.script, height, self.is_coinbase)

    def coins(self, height: int | None) -> list[Coin]:
        """The spendable outputs as coins (fee and OP_RETURN outputs are not)."""
        coins = (
            self.coin(vout, height)
            for vout, out in enumerate(self.outputs)
            if not is_unspendable(out.script)
        )
        return [coin for coin in coins if coin is not None]


def sha256d(data: bytes) -> bytes:
    """Double SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


@lru_cache(maxsize=1 << 16)
def electrum_scripthash(script: bytes) -> str:
    """The Electrum protocol's name of a script: hex of its reversed SHA-256."""
    return hashlib.sha256(script).digest()[::-1].hex()


def is_unspendable(script: bytes) -> bool:
    """CScript::IsUnspendable in Elements mode: OP_RETURN, oversized, or empty (a fee)."""
    return not script or script[0] == 0x6A or len(script) > 10_000


def issued_assets(outpoint: Outpoint, issuance: Issuance) -> tuple[str, str]:
    """Asset id and reissuance token id that an issuance creates (Elements `issuance.cpp`)."""
    if issuance.is_reissuance:
        entropy = issuance.entropy
    else:
        txid, vout = outpoint
        prevout = elements.CElementsOutPoint(bytes.fromhex(txid)[::-1], vout)
        entropy = elements.generate_asset_entropy(prevout, issuance.entropy).data
    token = elements.calculate_reissuance_token(entropy, issuance.is_confidential)
    return elements.calculate_asset(entropy).to_hex(), token.to_hex()


def compact_size(number: int) -> bytes:
    """Bitcoin's variable length integer."""
    if number < 0xFD:
        return number.to_bytes(1, "little")
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    return b"\xfe" + number.to_bytes(4, "little")


def parse_tx(raw: bytes) -> Tx:
    """Decode one transaction; ValueError("TX decode failed") for anything elementsd cannot read."""
    try:
        return _read_tx(raw)
    except _DecodeError:
        raise ValueError("TX decode failed") from None


class _DecodeError(Exception):
    pass


class _Reader:
    """Cursor over the bytes of one transaction."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        start = self.at
        self.at = start + size
        if self.at > len(self.data):
            raise _DecodeError
        return self.data[start : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def size(self) -> int:
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        width = 1 << (first - 0xFC)
        value = self.number(width)
        # A number that fits a shorter form, or over 32 MiB, is refused by elementsd's reader.
        if value < (0xFD, 1 << 16, 1 << 32)[first - 0xFD] or value > 0x02000000:
            raise _DecodeError
        return value

    def blob(self) -> bytes:
        return self.take(self.size())

    def stack(self) -> tuple[bytes, ...]:
        return tuple(self.blob() for _ in range(self.size()))

    def commitment(self, explicit_size: int, prefixes: tuple[int, int]) -> bytes | None:
        """Payload of an explicit field, b"" for null, None for a confidential one."""
        prefix = self.take(1)[0]
        if prefix == 0:
            return b""
        if prefix == 1:
            return self.take(explicit_size)
        if prefix not in prefixes:
            raise _DecodeError
        self.take(32)
        return None


def _read_tx(raw: bytes) -> Tx:
    reader = _Reader(raw)
    version = int.from_bytes(reader.take(4), "little", signed=True)
    flags = reader.number(1)
    if flags > 1:
        raise _DecodeError
    inputs: Sequence[TxIn] = [_read_input(reader) for _ in range(reader.size())]
    outputs = tuple(_read_output(reader) for _ in range(reader.size()))
    lock_time = reader.number(4)
    base = raw[:4] + b"\x00" + raw[5 : reader.at]
    proofs: tuple[tuple[bytes, bytes], ...] = ()
    if flags:
        start = reader.at
        inputs = [_read_input_witness(reader, txin) for txin in inputs]
        proofs = tuple((reader.blob(), reader.blob()) for _ in outputs)
        if not any(raw[start : reader.at]):  # a witness section with nothing in it
            raise _DecodeError
    if reader.at != len(raw):
        raise _DecodeError
    return Tx(version, tuple(inputs), outputs, lock_time, proofs, raw, base)


def _read_input(reader: _Reader) -> TxIn:
    txid = reader.take(32)[::-1].hex()
    index = reader.number(4)
    script_sig = reader.blob()
    sequence = reader.number(4)
    if index == NULL_INDEX:
        return TxIn((txid, index), script_sig, sequence, None, False)
    issuance = _read_issuance(reader) if index & ISSUANCE_FLAG else None
    outpoint = (txid, index & ~(ISSUANCE_FLAG | PEGIN_FLAG))
    return TxIn(outpoint, script_sig, sequence, issuance, bool(index & PEGIN_FLAG))


def _read_issuance(reader: _Reader) -> Issuance:
    start = reader.at
    nonce, entropy = reader.take(32), reader.take(32)
    amounts = [reader.commitment(8, (8, 9)) for _ in range(2)]
    if amounts == [b"", b""]:  # an issuance of neither asset nor token
        raise _DecodeError
    amount, token = (int.from_bytes(x, "big", signed=True) if x else None for x in amounts)
    raw = reader.data[start : reader.at]
    return Issuance(nonce, entropy, amount, token, None in amounts, raw)


def _read_input_witness(reader: _Reader, txin: TxIn) -> TxIn:
    proofs = reader.blob() + reader.blob()
    witness = reader.stack()
    return txin._replace(
        witness=witness, pegin_witness=reader.stack(), has_issuance_proof=bool(proofs)
    )


def _read_output(reader: _Reader) -> TxOut:
    start = reader.at
    asset = reader.commitment(32, (10, 11))
    value = reader.commitment(8, (8, 9))
    if asset == b"" or value == b"":
        raise _DecodeError
    reader.commitment(32, (2, 3))
    script = reader.blob()
    return TxOut(
        None if asset is None else asset[::-1].hex(),
        None if value is None else int.from_bytes(value, "big", signed=True),
        script,
        reader.data[start : reader.at],
    )


CoinLookup = Callable[[Outpoint], Coin | None]
"""Finds a coin that may be spent, or None."""
