"""Payment requests of BOLT 11 as Core Lightning writes and reads them on liquid-regtest: `lnert…`.

Own code because pyln-proto cannot write the fields `s`, `9` and `c`, and takes milliseconds to
read. Its reader does take what this writes, and the tests check that.
"""

import base64
import hashlib
from dataclasses import dataclass

from coincurve import PrivateKey, PublicKey

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CURRENCY = "ert"
NETWORK = "liquid-regtest"
FEATURES = bytes.fromhex("02024100")  # var_onion, payment_secret, basic_mpp, route_blinding
DESCRIPTION_LIMIT_BYTES = 639
DEFAULT_EXPIRY_SECS = 3600
DEFAULT_MIN_FINAL_CLTV_BLOCKS = 18

_CURRENCIES = frozenset({"bc", "tb", "tbs", "bcrt", "sb", "ltc", "tltc", "ex", "ert"})
_KNOWN_EVEN_FEATURES = frozenset({8, 14, 16, 24, 48})
_SIGNATURE_LENGTH = 104  # 65 bytes in groups of 5 bits
_MSAT_PER_COIN = 100_000_000_000
# Multiplier letter and what one unit of it is worth, in tenths of a msat.
_MULTIPLIERS = (("", 10 * _MSAT_PER_COIN), ("m", 10**9), ("u", 10**6), ("n", 10**3), ("p", 1))

_TO_U5 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", bytes(range(32)))
_TO_TEXT = bytes.maketrans(bytes(range(32)), CHARSET.encode())
_FROM_TEXT = bytes.maketrans(CHARSET.encode(), bytes(range(32)))
_TO_DIGITS = bytes.maketrans(bytes(range(32)), b"0123456789abcdefghijklmnopqrstuv")


class InvoiceError(ValueError):
    """Not a payment request that a node would pay; the text is Core Lightning's own."""


@dataclass(frozen=True)
class Invoice:
    """A payment request as read; hashes, secret and key are lower-case hex."""

    currency: str
    created_at: int
    expiry_secs: int
    payee: str
    amount_msat: int | None
    description: str | None
    description_hash: str | None
    min_final_cltv_blocks: int
    payment_secret: str
    payment_hash: str
    features: str
    signature_der: str

    @property
    def expires_at(self) -> int:
        """Unix time after which payers refuse it."""
        return self.created_at + self.expiry_secs


def _checksum_step_table() -> tuple[int, ...]:
    generator = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
    table = []
    for top in range(32):
        mixed = 0
        for bit in range(5):
            mixed ^= generator[bit] if top >> bit & 1 else 0
        table.append(mixed)
    return tuple(table)


_STEP = _checksum_step_table()


def _polymod(values: bytes) -> int:
    state = 1
    for value in values:
        state = (state & 0x1FFFFFF) << 5 ^ value ^ _STEP[state >> 25]
    return state


def _expand(hrp: str) -> bytes:
    return bytes([ord(c) >> 5 for c in hrp]) + b"\0" + bytes([ord(c) & 31 for c in hrp])


def bech32_encode(hrp: str, data: bytes) -> str:
    """BIP 173 text of 5-bit groups (one in each byte of `data`)."""
    state = _polymod(_expand(hrp) + data + bytes(6)) ^ 1
    check = bytes(state >> 5 * (5 - i) & 31 for i in range(6))
    return hrp + "1" + (data + check).translate(_TO_TEXT).decode()


def bech32_decode(text: str) -> tuple[str, bytes] | None:
    """Prefix and 5-bit groups of BIP 173 text of any length, None if it is not."""
    lowered = text.lower()
    hrp, one, rest = lowered.rpartition("1")
    if not one or not hrp or len(rest) < 6 or text not in (lowered, text.upper()):
        return None
    if not lowered.isascii() or any(c not in CHARSET for c in rest) or not hrp.isprintable():
        return None
    data = rest.encode().translate(_FROM_TEXT)
    if _polymod(_expand(hrp) + data) != 1:
        return None
    return hrp, data[:-6]


def to_groups(data: bytes) -> bytes:
    """Bytes as 5-bit groups, the last one filled up with zero bits."""
    return base64.b32encode(data).rstrip(b"=").translate(_TO_U5)


def _to_int(groups: bytes) -> int:
    return int(groups.translate(_TO_DIGITS), 32) if groups else 0


def _to_bytes(groups: bytes, *, pad: bool) -> bytes:
    """Groups as bytes; the odd bits at the end are dropped, or filled up to a byte if `pad`."""
    bits = len(groups) * 5
    value = _to_int(groups)
    if pad:
        size = (bits + 7) // 8
        return (value << size * 8 - bits).to_bytes(size, "big")
    return (value >> bits % 8).to_bytes(bits // 8, "big")


def _number(value: int) -> bytes:
    groups = [value & 31]
    while value := value >> 5:
        groups.append(value & 31)
    return bytes(reversed(groups))


def _field(tag: str, groups: bytes) -> bytes:
    return bytes([CHARSET.index(tag), len(groups) >> 5, len(groups) & 31]) + groups


def _feature_groups(features: bytes) -> bytes:
    return _number(int.from_bytes(features, "big"))


def _amount_text(amount_msat: int) -> str:
    for letter, worth in _MULTIPLIERS:
        units, rest = divmod(amount_msat * 10, worth)
        if not rest:
            return f"{units}{letter}"
    raise AssertionError("the smallest multiplier divides every msat amount")


def encode(
    key: PrivateKey,
    *,
    amount_msat: int | None,
    created_at: int,
    payment_hash: bytes,
    payment_secret: bytes,
    description: str,
    hash_description: bool,
    expiry_secs: int,
    min_final_cltv_blocks: int,
) -> str:
    """The signed payment request for liquid-regtest, byte for byte as lightningd would order it."""
    hrp = f"ln{CURRENCY}" + ("" if amount_msat is None else _amount_text(amount_msat))
    said = description.encode()
    fields = [
        _number(created_at).rjust(7, b"\0"),
        _field("s", to_groups(payment_secret)),
        _field("p", to_groups(payment_hash)),
        _field("h", to_groups(hashlib.sha256(said).digest()))
        if hash_description
        else _field("d", to_groups(said)),
    ]
    if expiry_secs != DEFAULT_EXPIRY_SECS:
        fields.append(_field("x", _number(expiry_secs)))
    fields.append(_field("c", _number(min_final_cltv_blocks)))
    fields.append(_field("9", _feature_groups(FEATURES)))
    data = b"".join(fields)
    signature = key.sign_recoverable(_signed_hash(hrp, data), hasher=None)
    return bech32_encode(hrp, data + to_groups(signature))


def _signed_hash(hrp: str, data: bytes) -> bytes:
    return hashlib.sha256(hrp.encode() + _to_bytes(data, pad=True)).digest()


def _read_amount(text: str) -> int | None:
    if not text:
        return None
    letter = text[-1] if text[-1] in "munp" else ""
    digits = text[: len(text) - len(letter)]
    if not digits.isdigit():
        raise InvoiceError(f"Invalid amount postfix '{digits.lstrip('0123456789')}'")
    if int(digits) >= 2**64:
        raise InvoiceError(f"Invalid amount '{digits}'")
    tenths = int(digits) * dict(_MULTIPLIERS)[letter]
    if tenths % 10:
        raise InvoiceError(f"Invalid sub-millisatoshi amount '{digits}p'")
    return tenths // 10


def _minimal_number(tag: str, groups: bytes) -> int:
    if len(groups) > 12:
        raise InvoiceError(f"{tag}: integer too large")
    if len(groups) > 1 and groups[0] == 0:
        raise InvoiceError(f"{tag}: not a minimal value")
    return _to_int(groups)


def _read_fields(data: bytes) -> dict[str, bytes]:
    """Tag → groups of the first field of each kind that has its right length."""
    fixed = {"p": 52, "h": 52, "s": 52, "n": 53}
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        head = data[at : at + 3]
        if len(head) < 3:
            raise InvoiceError("Can't get length: truncated")
        tag, length = CHARSET[head[0]], head[1] << 5 | head[2]
        groups = data[at + 3 : at + 3 + length]
        if len(groups) < length:
            raise InvoiceError(f"{tag}: truncated")
        if fixed.get(tag, length) == length:
            fields.setdefault(tag, groups)
        at += 3 + length
    return fields


def _read_features(groups: bytes) -> str:
    if groups[:1] == b"\0":
        raise InvoiceError("9: non-minimal length (begins with 0)")
    bits = _to_int(groups)
    for bit in range(0, bits.bit_length(), 2):
        if bits >> bit & 1 and bit not in _KNOWN_EVEN_FEATURES:
            raise InvoiceError(f"9: unknown feature bit {bit}")
    return bits.to_bytes((len(groups) * 5 + 7) // 8, "big").hex()


def _der(signature: bytes) -> str:
    """DER form of a 64-byte signature R || S."""
    parts = b""
    for half in (signature[:32], signature[32:64]):
        number = half.lstrip(b"\0") or b"\0"
        number = b"\0" + number if number[0] & 0x80 else number
        parts += bytes([2, len(number)]) + number
    return (bytes([0x30, len(parts)]) + parts).hex()


def decode(text: str, *, only_currency: str | None = None) -> Invoice:
    """Read and verify a payment request in lower or upper case.

    Raises InvoiceError with lightningd's wording; with `only_currency` also for another network.
    """
    read = bech32_decode(text)
    if read is None:
        raise InvoiceError("Bad bech32 string")
    hrp, groups = read
    amount_at = next((i for i, c in enumerate(hrp) if c.isdigit()), len(hrp))
    prefix, amount = hrp[:amount_at], hrp[amount_at:]
    if not prefix.startswith("ln"):
        raise InvoiceError(f"Prefix '{prefix}' does not start with ln")
    currency = prefix[2:]
    if only_currency is not None and currency != only_currency:
        raise InvoiceError(f"Prefix {currency} is not for {NETWORK}")
    if currency not in _CURRENCIES:
        raise InvoiceError(f"Unknown chain {currency}")
    amount_msat = _read_amount(amount)
    if len(groups) < 7 + _SIGNATURE_LENGTH:
        raise InvoiceError("Can't get 35-bit timestamp: truncated")
    data, signed = groups[:-_SIGNATURE_LENGTH], groups[-_SIGNATURE_LENGTH:]
    fields = _read_fields(data[7:])
    if "p" not in fields:
        raise InvoiceError("No valid 'p' field found")
    if "s" not in fields:
        raise InvoiceError("Missing required payment secret (s field)")
    if "d" not in fields and "h" not in fields:
        raise InvoiceError("must have either 'd' or 'h' field")
    try:
        description = _to_bytes(fields["d"], pad=False).decode() if "d" in fields else None
    except UnicodeDecodeError:
        raise InvoiceError("d: invalid utf8") from None
    signature = _to_bytes(signed, pad=False)
    return Invoice(
        currency=currency,
        created_at=_to_int(data[:7]),
        expiry_secs=_minimal_number("x", fields["x"]) if "x" in fields else DEFAULT_EXPIRY_SECS,
        payee=_signer(hrp, data, signature, fields.get("n")),
        amount_msat=amount_msat,
        description=description,
        description_hash=_to_bytes(fields["h"], pad=False).hex() if "h" in fields else None,
        min_final_cltv_blocks=_minimal_number("c", fields["c"])
        if "c" in fields
        else DEFAULT_MIN_FINAL_CLTV_BLOCKS,
        payment_secret=_to_bytes(fields["s"], pad=False).hex(),
        payment_hash=_to_bytes(fields["p"], pad=False).hex(),
        features=_read_features(fields["9"]) if "9" in fields else "",
        signature_der=_der(signature),
    )


def _signer(hrp: str, data: bytes, signature: bytes, stated: bytes | None) -> str:
    if signature[64] > 3:
        raise InvoiceError(f"invalid recovery ID: {signature[64]}")
    digest = _signed_hash(hrp, data)
    if stated is not None:
        try:
            key = PublicKey(_to_bytes(stated, pad=False))
        except ValueError:
            raise InvoiceError("invalid public key") from None
        if not key.verify(bytes.fromhex(_der(signature)), digest, hasher=None):
            raise InvoiceError("invalid signature")
        return key.format().hex()
    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception here
        raise InvoiceError("signature recovery failed") from None
    return key.format().hex()
