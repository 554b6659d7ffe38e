"""Reading what an Electrum server answers: refusals, histories, headers, transactions. No I/O.

Answers are checked here, once, because a server is not trusted to be right. Protocol 1.4:
`blockchain.*` methods of the ElectrumX documentation; error texts of electrs and elementsd.
"""

import hashlib
import re
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from aiorpcx import RPCError

from lnliquid.domain.errors import BackendRejected, BackendUnavailable
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.swap import Tip
from lnliquid.domain.transaction import txid_of
from lnliquid.liquid.electrum_session import BUSY_CODES, NO_CODE

BACKEND = "electrum"

ALREADY_THERE = (
    "already in block chain",
    "already in utxo set",
    "already in mempool",
    "already known",
    "txn-already-known",
    "txn-already-in-mempool",
)
"""Refusals of a broadcast that mean success (Elements `validation.cpp`, `util/error.cpp`)."""

NOT_FOUND = ("missing transaction", "no such mempool", "transaction not found", "tx not found")
"""Refusals of `transaction.get` that mean that the server does not know it (electrs, elementsd)."""

_HEADER_TIME, _HEADER_TIME_AT = struct.Struct("<I"), 4 + 32 + 32
"""Version, previous block and Merkle root come first (Elements `primitives/block.h`)."""
_LONG_HEX = re.compile(r"[0-9a-fA-F]{65,}")
_MAX_REASON_CHARS = 500


def clean_reason(text: str) -> str:
    """A server's text for logs and errors. Some servers repeat the transaction in it, and a claim
    has the preimage in its witness, so long hex is cut out (money rule 9)."""
    return _LONG_HEX.sub("…", text)[:_MAX_REASON_CHARS]


def is_refusal(answer: Any, texts: tuple[str, ...]) -> bool:
    """True when the answer is a refusal whose text contains one of these (lower case)."""
    if not isinstance(answer, RPCError):
        return False
    reason = answer.message.lower()
    return any(text in reason for text in texts)


def raise_refusal(what: str, answer: Any) -> None:
    """Raise `BackendRejected` (or `BackendUnavailable`, server busy) when it is a refusal.

    `what` was asked for; it stands before the server's reason."""
    if not isinstance(answer, RPCError):
        return
    reason = clean_reason(answer.message)
    if answer.code in BUSY_CODES:
        raise BackendUnavailable(BACKEND, f"{what}: {reason}")
    code = None if answer.code == NO_CODE else answer.code
    raise BackendRejected(BACKEND, f"{what}: {reason}", code)


def malformed(method: str) -> BackendRejected:
    """The error for an answer that has not the form the protocol gives it."""
    return BackendRejected(BACKEND, f"malformed answer to {method}")


def read_tip(header: Any) -> Tip:
    """The answer to `headers.subscribe`. `block_id` is the SHA256 of the header's bytes, hex."""
    try:
        raw = bytes.fromhex(header["hex"])
        [time] = _HEADER_TIME.unpack_from(raw, _HEADER_TIME_AT)
        return Tip(int(header["height"]), hashlib.sha256(raw).hexdigest(), time)
    except (KeyError, TypeError, ValueError, struct.error):
        raise malformed("blockchain.headers.subscribe") from None


def status_of(items: Sequence[HistoryItem]) -> str | None:
    """The status of a script with this history, whose unconfirmed items have no such parents."""
    return _status((item.txid, item.height or 0) for item in items)


def _status(entries: Iterable[tuple[str, int]]) -> str | None:
    text = "".join(f"{txid}:{height}:" for txid, height in entries)
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def read_history(answer: Any) -> tuple[tuple[HistoryItem, ...], str | None]:
    """The answer to `get_history`: its items, confirmed first, and the status that belongs to it.

    The status (SHA256 over `txid:height:` in the server's order, None when empty) is what the
    server reports for this script while its history is the one that was read.
    """
    try:
        entries = [(str(entry["tx_hash"]), int(entry["height"])) for entry in answer]
    except (KeyError, TypeError, ValueError):
        raise malformed("blockchain.scripthash.get_history") from None
    status = _status(entries)
    entries.sort(key=lambda entry: entry[1] <= 0)
    items = tuple(HistoryItem(txid, height if height > 0 else None) for txid, height in entries)
    return items, status


def read_transaction(txid: str, answer: Any) -> bytes:
    """The answer to `transaction.get`, checked to be that transaction."""
    method = "blockchain.transaction.get"
    try:
        raw = bytes.fromhex(answer)
        actual = txid_of(raw)
    except (TypeError, ValueError):
        raise malformed(method) from None
    if actual != txid:
        raise BackendRejected(BACKEND, f"{method} of {txid} gave {actual}")
    return raw


class TransactionCache:
    """The raw transactions used last, up to `limit_bytes`. They never change."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._raws: OrderedDict[str, bytes] = OrderedDict()

    def get(self, txid: str) -> bytes | None:
        """The transaction, None when it is not kept."""
        raw = self._raws.get(txid)
        if raw is not None:
            self._raws.move_to_end(txid)
        return raw

    def put(self, txid: str, raw: bytes) -> None:
        """Keep it, dropping those that were not used for longest."""
        if txid not in self._raws:
            self._raws[txid] = raw
            self._size_bytes += len(raw)
        while self._size_bytes > self._limit_bytes:
            _, dropped = self._raws.popitem(last=False)
            self._size_bytes -= len(dropped)
