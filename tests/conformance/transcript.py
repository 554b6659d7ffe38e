"""Transcripts that can be compared: what a node has of its own is replaced by names.

Hashes, keys, transactions, invoices and short channel ids become `id-1`, `id-2`, … in the order in
which a case meets them, so that two transcripts are equal when the same things are equal in them.
Heights are told from the case's start. Times, and what else no two nodes share, become their type.
"""

import re
from decimal import Decimal
from typing import Any

from lnlab.nodes.record import POLICY_ASSET

from .world import Height

HEIGHTS = frozenset({"height", "block_height", "blockheight"})

OWN_VALUES = frozenset(
    (
        *("color", "alias", "lightning-dir", "version", "binding", "signature", "direction"),
        *("expires_at", "created_at", "paid_at", "completed_at", "timestamp"),
        *("psbt", "close_to", "close_to_addr", "scratch_txid"),
        *("time", "mediantime", "blocktime", "netaddr", "feerate", "last_tx_fee_msat"),
    )
)
"""Fields that are compared by their type only."""

LEFT_OUT = frozenset(
    (
        # Of a script in `gettxout`.
        *("asm", "desc", "address"),
        # Of a block: embedded ones are signed in the form before dynamic federations.
        *("dynamic_parameters", "signblock_challenge", "signblock_witness_hex", "versionHex"),
        *("size", "strippedsize", "weight"),
        # Of a channel: told once a connection has held for a minute.
        "last_stable_connection",
    )
)
"""Fields that embedded nodes leave out, or have in another form. Nothing of ours reads them."""

LIQUIDITY = frozenset({"spendable_msat", "receivable_msat"})
"""Less what the commitment transaction may cost at the channel's fee rate, which is a node's own:
compared to LIQUIDITY_STEP_MSAT."""

LIQUIDITY_STEP_MSAT = 10_000_000

_OWN = re.compile(
    r"lnert[0-9a-z]{30,}|(?<![0-9a-z])[0-9a-f]{40,}(?![0-9a-z])|(?<!\w)\d+x\d+x\d+(?!\w)",
    re.IGNORECASE,
)
_HEIGHT = re.compile(r"(?<=block #)\d+")


class Names:
    """The names of one transcript."""

    def __init__(self, start_height: int) -> None:
        self._start = start_height
        self._names: dict[str, str] = {POLICY_ASSET: "L-BTC", "0" * 64: "0" * 64}

    def named(self, value: Any, field: str = "") -> Any:
        """The value with names instead of what is a node's own."""
        if field in OWN_VALUES and value is not None:
            return f"<{type(value).__name__}>"
        if isinstance(value, dict):
            wanted = sorted(name for name in value if name not in LEFT_OUT)
            return {
                name: self.named(value[name], name) for name in wanted if not _is_kind(field, name)
            }
        if isinstance(value, list | tuple):
            return [self.named(inner) for inner in value]
        if isinstance(value, str):
            text = _HEIGHT.sub(lambda match: self._height(int(match.group())), value)
            return _OWN.sub(lambda match: self._name(match.group()), text)
        if isinstance(value, Decimal):
            return float(value)
        is_height = field in HEIGHTS and isinstance(value, int) and value > 0
        if is_height or isinstance(value, Height):
            return self._height(value)
        if field in LIQUIDITY:
            return round(value / LIQUIDITY_STEP_MSAT) * LIQUIDITY_STEP_MSAT
        return value

    def _height(self, height: int) -> str:
        return f"start{height - self._start:+d}"

    def _name(self, text: str) -> str:
        name = self._names.setdefault(text.lower(), f"id-{len(self._names) - 1}")
        return name.upper() if text.isupper() else name


def _is_kind(field: str, name: str) -> bool:
    """Of a script, the kind: left out; elsewhere `type` matters."""
    return field == "scriptPubKey" and name == "type"


def named_calls(calls: list[dict[str, Any]], start_height: int) -> list[dict[str, Any]]:
    """The lines of a transcript, comparable."""
    names = Names(start_height)
    lines = []
    for call in calls:
        params = call["params"]
        if isinstance(params, dict):
            # Named one by one: a field that is a node's own in answers was chosen here.
            params = {name: names.named(value) for name, value in params.items()}
        else:
            params = names.named(params)
        # An answer's ids are met in an order of their own choosing only inside lists.
        lines.append({**call, "params": params} | _answer(call, names))
    return lines


def _answer(call: dict[str, Any], names: Names) -> dict[str, Any]:
    return {key: names.named(call[key]) for key in ("result", "error") if key in call}
