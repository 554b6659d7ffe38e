"""How amounts, times and ids are written for a person. Plain text, no I/O."""

import re
from datetime import UTC, datetime

_LONG_HEX = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{26,}([0-9a-f]{6})\b")
Row = tuple[str, str]
"""A label and a value."""


def number(amount: int, precision: int) -> str:
    """An amount of the smallest unit in whole units, without trailing zeros."""
    whole, rest = divmod(amount, 10**precision)
    fraction = f"{rest:0{precision}}".rstrip("0") if rest else ""
    return f"{whole:,}" + (f".{fraction}" if fraction else "")


def sats(msat: int) -> str:
    """An amount of Lightning in sat, with the msat behind the point where there are any."""
    return f"{number(msat, 3)} sat"


def units(amount: int, precision: int | None) -> str:
    """An amount of an asset in units, the smallest unit behind it. Units need the precision."""
    if precision is None or not 0 <= precision <= 8:
        return f"{amount} of the smallest unit"
    whole = number(amount, precision)
    return f"{whole} {'unit' if whole == '1' else 'units'} ({amount} of the smallest)"


def span(secs: int) -> str:
    """A time span in its two largest units: `3h20m`, `1m05s`, `7s`; below 0 is `0s`."""
    secs = max(0, secs)
    for size, name, below, lower in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m")):
        if secs >= size:
            rest = secs % size // below
            return f"{secs // size}{name}" + (f"{rest}{lower}" if rest else "")
    return f"{secs // 60}m{secs % 60:02d}s" if secs >= 60 else f"{secs}s"


def utc(unix_secs: int) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(unix_secs, UTC).strftime("%Y-%m-%d %H:%M:%S")


def short(text: str) -> str:
    """The text with keys, hashes and scripts cut to their two ends."""
    return _LONG_HEX.sub(r"\1…\2", text)
