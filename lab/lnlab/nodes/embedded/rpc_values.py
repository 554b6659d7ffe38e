"""Arguments, amounts, headers and errors as elementsd's RPC reads and prints them.

Sources: Elements ``rpc/util.cpp``, ``rpc/rawtransaction.cpp``, ``primitives/block.h``.
"""

import math
import re
import struct
from typing import Any

from embit.liquid.addresses import addr_decode
from embit.script import address_to_scriptpubkey

from lnlab.nodes.rpc import RpcCode

MAX_FEE_RATE = 0.10
"""Default ``maxfeerate`` in whole L-BTC a kvB."""

TYPE_ERROR = -3

DECODE_FAILED = "TX decode failed. Make sure the tx has at least one input."


class CallError(Exception):
    """The call is refused: elementsd's error code and text."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def hash_argument(value: object, name: str) -> str:
    """Check a 256-bit hash in hex as elementsd's ParseHashV does and return it in lower case."""
    if not isinstance(value, str):
        raise CallError(RpcCode.MISC, "JSON value is not a string as expected")
    if len(value) != 64:
        raise CallError(
            RpcCode.INVALID_PARAMETER,
            f"{name} must be of length 64 (not {len(value)}, for '{value}')",
        )
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise CallError(
            RpcCode.INVALID_PARAMETER, f"{name} must be hexadecimal string (not '{value}')"
        )
    return value.lower()


def whole_argument(value: object) -> int:
    """Check an integer argument."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallError(RpcCode.MISC, "JSON value is not an integer as expected")
    return value


def descriptor_script(descriptor: object) -> bytes:
    """Return the script of a ``raw(hex)`` or ``addr(address)`` descriptor, checksum optional."""
    match = re.fullmatch(r"(raw|addr)\(([^)]*)\)(#\w{8})?", str(descriptor))
    if match is None:
        raise CallError(
            RpcCode.INVALID_ADDRESS_OR_KEY,
            f"'{descriptor}' is not a descriptor of this node: use raw(hex) or addr(address)",
        )
    if match[1] == "addr":
        return address_script(match[2])
    try:
        return bytes.fromhex(match[2])
    except ValueError:
        raise CallError(RpcCode.INVALID_ADDRESS_OR_KEY, "Raw script is not hex") from None


def address_script(address: object) -> bytes:
    """Return the script of a regtest address (prefix ``ert``, blinded ``el``)."""
    text = str(address)
    try:
        if text.startswith("el1"):
            return bytes(addr_decode(text)[0].data)
        if text.startswith("ert1"):
            return bytes(address_to_scriptpubkey(text).data)
    except Exception:  # embit raises whatever its decoders meet
        pass
    raise CallError(RpcCode.INVALID_ADDRESS_OR_KEY, "Error: Invalid address")


def whole_units(sats: int) -> float:
    """Return satoshi as the JSON number that elementsd prints."""
    return sats / 100_000_000


def rejection(reason: str) -> tuple[int, str]:
    """Return sendrawtransaction's error code and text for the chain's reject reason."""
    if reason.startswith("Transaction already in block chain"):
        return RpcCode.ALREADY_IN_CHAIN, "Transaction already in block chain"
    if reason.startswith(("missing-inputs", "bad-txns-inputs-missingorspent")):
        return RpcCode.TRANSACTION_ERROR, "bad-txns-inputs-missingorspent"
    return RpcCode.TRANSACTION_REJECTED, reason


def parse_header(raw: bytes) -> dict[str, Any]:
    """Return the fields of an Elements block header before dynamic federations (``block.h``)."""
    version, _previous, merkle_root, time, _height = struct.unpack_from("<i32s32sII", raw)
    challenge, after = _script_at(raw, 76)
    solution, _ = _script_at(raw, after)
    return {
        "version": version,
        "versionHex": f"{version & 0xFFFFFFFF:08x}",
        "merkleroot": merkle_root[::-1].hex(),
        "time": time,
        "signblock_witness_hex": solution.hex(),
        "signblock_challenge": challenge.hex(),
    }


def _script_at(raw: bytes, offset: int) -> tuple[bytes, int]:
    """Return the length-prefixed script at ``offset`` (under 253 bytes) and the offset after it."""
    end = offset + 1 + raw[offset]
    return raw[offset + 1 : end], end


def raw_argument(value: object, failed: str = DECODE_FAILED) -> bytes:
    """Check a serialised transaction in hex; `failed` is the reason given for what is no hex."""
    if not isinstance(value, str):
        raise CallError(RpcCode.MISC, "JSON value is not a string as expected")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise CallError(RpcCode.DESERIALIZATION, failed) from None


def rate_argument(value: object) -> float:
    """Check a fee rate in whole L-BTC a kvB, number or string."""
    try:
        rate = float(str(value))
    except ValueError:
        raise CallError(TYPE_ERROR, "Invalid amount") from None
    if not 0 <= rate < math.inf:
        raise CallError(TYPE_ERROR, "Amount out of range")
    return rate


def exceeds_rate(fee_sats: int, vsize: int, max_rate: float) -> bool:
    """Tell whether a fee is over ``max_rate`` whole units a kvB; 0 stands for no limit."""
    return max_rate > 0 and fee_sats > int(round(max_rate * 100_000_000) * vsize / 1000)
