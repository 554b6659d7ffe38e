"""The rescue journal: what seed, chain and Core Lightning cannot tell of a swap; no secrets.

One JSON object a line, appended and synced before a funding is stored or sent, meant for another
disk than the database. A line for a funding that was never sent does no harm. When most of the file
is about swaps that are final it is written anew.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lnliquid.swap import Swap

FORMAT = 1
SLACK_LINES = 1_000
"""The file is rewritten when it holds more than twice the live lines and this many more."""


class JournalFailure(Exception):
    """The journal could not be written; nothing may be funded until it can."""


def line_of(swap: Swap, funding_txid: str, lock_height: int, vouts: tuple[int, int]) -> str:
    """What the HTLC script and its outputs need beyond the seed, as one line."""
    return json.dumps(
        {
            "v": FORMAT,
            "swap_id": swap.swap_id,
            "request_id": swap.request_id,
            "key_index": swap.key_index,
            "buyer_key_hash": swap.buyer_key_hash.hex(),
            "buyer_claim_address": swap.buyer_claim_address,
            "payment_hash": swap.payment_hash.hex(),
            "asset_id": swap.asset_id,
            "asset_amount": swap.asset_amount,
            "subsidy_sats": swap.subsidy_sats,
            "total_price_msat": swap.total_price_msat,
            "min_funding_confs": swap.min_funding_confs,
            "refund_lock_height": lock_height,
            "funding_txid": funding_txid,
            "asset_vout": vouts[0],
            "subsidy_vout": vouts[1],
        },
        separators=(",", ":"),
    )


class RescueJournal:
    """An append-only file of mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = sum(1 for _ in read_lines(path))

    @property
    def lines(self) -> int:
        """Lines that the file holds."""
        return self._lines

    def append(self, lines: Sequence[str]) -> None:
        """Write and sync. Raises `JournalFailure`; then a part may have been written."""
        try:
            is_new = not self._path.exists()
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A cut of the power may have left half a line: begin on a fresh one.
                text = "\n" * (os.fstat(file).st_size > 0) + "\n".join(lines) + "\n"
                _write_all(file, text.encode())
                os.fsync(file)
            finally:
                os.close(file)
            if is_new:
                _sync_directory(self._path)
        except OSError as error:
            raise JournalFailure(f"rescue journal {self._path}: {error.strerror}") from None
        self._lines += len(lines)

    def wants_rewrite(self, live: int) -> bool:
        """True when most of the file is about swaps that are final."""
        return self._lines > 2 * live + SLACK_LINES

    def rewrite(self, lines: Sequence[str]) -> None:
        """Replace the file by these lines, at once. Raises `JournalFailure`."""
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                _write_all(file, "".join(line + "\n" for line in lines).encode())
                os.fsync(file)
            finally:
                os.close(file)
            fresh.replace(self._path)
            _sync_directory(self._path)
        except OSError as error:
            raise JournalFailure(f"rescue journal {self._path}: {error.strerror}") from None
        self._lines = len(lines)


def read_lines(path: Path) -> Iterable[dict[str, Any]]:
    """Every whole line of a journal; a half-written one is passed over. Empty without a file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and values.get("v") == FORMAT:
            yield values


def lines_of(swaps: Iterable[Swap]) -> list[str]:
    """The lines of funded swaps as they are stored now."""
    return [
        line_of(s, s.funding_txid, s.refund_lock_height, (s.asset_vout, s.subsidy_vout))
        for s in swaps
        if s.funding_txid is not None
        and s.refund_lock_height is not None
        and s.asset_vout is not None
        and s.subsidy_vout is not None
    ]


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
