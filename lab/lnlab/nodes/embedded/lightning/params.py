"""Parameters of the node's commands, by name or by position, checked as lightningd checks them.

Source: common/json_param.c of Core Lightning. The nodes it was compared with ran with
`--developer`, so messages show the offending token.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import RpcError, invalid_params

U32_MAX, U64_MAX = 2**32 - 1, 2**64 - 1
_AMOUNT = re.compile(r"(\d+)(?:\.(\d+))?(msat|sat|btc)?", re.ASCII)
_INTEGER = re.compile(r"(?:0[xX][0-9a-fA-F]+|\d+)", re.ASCII)
_INDEX_NAMES = ("created", "updated", "deleted")

Parser = Callable[[str, Any], Any]
"""(parameter name, JSON value) → value for the command; raises RpcError."""


@dataclass(frozen=True)
class Param:
    """One parameter of a command; a `default` is what the command sees when it is not given."""

    name: str
    parse: Parser
    required: bool = False
    default: Any = None


def read_params(given: Any, spec: Sequence[Param]) -> dict[str, Any]:
    """Values by parameter name, defaults filled in.

    Parameters are read in the order in which they were given, so that is the order in which their
    faults are found; what is missing comes last. Raises RpcError -32602.
    """
    values = {param.name: param.default for param in spec}
    seen: set[str] = set()
    for param, value in _paired(given, spec):
        values[param.name] = param.parse(param.name, value)
        seen.add(param.name)
    for param in spec:
        if param.required and param.name not in seen:
            raise invalid_params(f"missing required parameter: {param.name}")
    return values


def _paired(given: Any, spec: Sequence[Param]) -> Iterator[tuple[Param, Any]]:
    if isinstance(given, list):
        for i, value in enumerate(given):
            if i == len(spec):
                raise invalid_params(f"too many parameters: got {len(given)}, expected {i}")
            if value is not None:
                yield spec[i], value
    elif isinstance(given, dict):
        known = {param.name: param for param in spec}
        for name, value in given.items():
            if name not in known:
                raise invalid_params(
                    f"unknown parameter: {name}, this may be caused by a failure to autodetect "
                    "key=value-style parameters. Please try using the -k flag and explicit "
                    "key=value pairs of parameters."
                )
            yield known[name], value
    else:
        raise invalid_params("Expected array or object for params")


def usage(spec: Sequence[Param]) -> str:
    """The parameters as `help` prints them: optional ones in brackets."""
    return " ".join(p.name if p.required else f"[{p.name}]" for p in spec)


def token(value: Any) -> str:
    """The JSON text of a value, strings with their quotes."""
    return json.dumps(value, ensure_ascii=False)


def text_of(value: Any) -> str:
    """The JSON text of a value, strings without their quotes."""
    return value if isinstance(value, str) else token(value)


def bad_param(name: str, value: Any, why: str) -> RpcError:
    """Error -32602: `name: why: invalid token 'value'`."""
    return invalid_params(f"{name}: {why}: invalid token '{token(value)}'")


def escaped(text: str) -> str:
    """Text with JSON's escapes, the form in which lightningd keeps and measures labels."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def parse_amount_msat(text: str) -> int | None:
    """msat from `5`, `5msat`, `5sat` or `0.00000005btc`; None if it is none of these."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit = match[1], match[2], match[3]
    if fraction is not None and (unit != "btc" or len(fraction) > 11):
        return None
    decimals = {None: 0, "msat": 0, "sat": 3, "btc": 11}[unit]
    amount_msat = int(whole + (fraction or "").ljust(decimals, "0"))
    return amount_msat if amount_msat <= U64_MAX else None


def any_text(name: str, value: Any) -> str:
    """Anything, as text."""
    return text_of(value)


def string(name: str, value: Any) -> str:
    """A JSON string."""
    if not isinstance(value, str):
        raise bad_param(name, value, "should be a string (without \\u)")
    return value


def label(name: str, value: Any) -> str:
    """A JSON string or a number without sign or fraction."""
    if isinstance(value, str):
        return value
    if type(value) is int and value >= 0:
        return str(value)
    raise bad_param(name, value, "should be a string or number")


def invstring(name: str, value: Any) -> str:
    """A payment request: lower case, without a `lightning:` in front."""
    text = text_of(value)
    if text.startswith(("lightning:", "LIGHTNING:")):
        text = text[len("lightning:") :]
    return text.lower()


def boolean(name: str, value: Any) -> bool:
    """JSON true or false."""
    if not isinstance(value, bool):
        raise bad_param(name, value, "should be 'true' or 'false'")
    return value


def _unsigned(limit: int, why: str) -> Parser:
    def parse(name: str, value: Any) -> int:
        text = text_of(value) or "0"  # an empty string is a zero to strtoull
        if _INTEGER.fullmatch(text):
            number = int(text, 16 if text[:2] in ("0x", "0X") else 10)
            if number <= limit:
                return number
        raise bad_param(name, value, why)

    return parse


def wrapped_u64(name: str, value: Any) -> int:
    """A number of 64 bits that lightningd hands to SQLite, where its upper half is negative."""
    text = text_of(value)
    if text[:1] == "-":
        return -int(u64(name, text[1:]))  # strtoull takes the sign
    read = int(u64(name, value))
    return read if read < 1 << 63 else read - (1 << 64)


u32 = _unsigned(U32_MAX, "should be an unsigned 32 bit integer")
u64 = _unsigned(U64_MAX, "should be an unsigned 64 bit integer")
number = _unsigned(U32_MAX, "should be an integer")


def hex32(why: str) -> Parser:
    """A parser of 32 bytes in hex (either case), to lower-case text."""

    def parse(name: str, value: Any) -> str:
        text = text_of(value)
        if not re.fullmatch("[0-9a-fA-F]{64}", text):
            raise bad_param(name, value, why)
        return text.lower()

    return parse


preimage = hex32("should be 64 hex digits")
sha256 = hex32("should be a 32 byte hex value")
channel_id = hex32("should be a channel id")


def msat(name: str, value: Any) -> int:
    """An amount in msat, zero included."""
    amount_msat = parse_amount_msat(text_of(value))
    if amount_msat is None:
        raise bad_param(name, value, "should be a millisatoshi amount")
    return amount_msat


def positive_msat_or_any(name: str, value: Any) -> int | None:
    """An amount in msat above zero, None for `any`."""
    if value == "any":
        return None
    amount_msat = parse_amount_msat(text_of(value))
    if not amount_msat:
        raise bad_param(name, value, "should be positive msat or 'any'")
    return amount_msat


def array(name: str, value: Any) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise bad_param(name, value, "should be an array")
    return value


def index(name: str, value: Any) -> str:
    """Name of a list index: created, updated or deleted."""
    if value not in _INDEX_NAMES:
        raise bad_param(name, value, "unknown index")
    return str(value)


def node_id(name: str, value: Any) -> str:
    """A compressed public key in hex."""
    text = text_of(value)
    if not re.fullmatch("0[23][0-9a-fA-F]{64}", text):
        raise bad_param(name, value, "should be a node id")
    return text.lower()


def short_channel_id(name: str, value: Any) -> str:
    """`block x transaction x output`."""
    text = text_of(value)
    if not re.fullmatch(r"\d+x\d+x\d+", text, re.ASCII):
        raise bad_param(name, value, "should be a short_channel_id of form NxNxN")
    return text


def anything(name: str, value: Any) -> Any:
    """The JSON value as it came."""
    return value
