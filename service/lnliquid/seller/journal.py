"""The rescue journal: what seed, chain and Core Lightning cannot tell of a swap; no secrets.

One JSON object a line, synced, meant for another disk than the database. Kinds of line:

    swap     before a funding is stored or sent: what the script, its outputs and the request need
    tx       the signed funding itself, so that one which no node knows any more can be sent again
    mark     before an invoice is asked for (ASKED), before it is deleted (CLOSED), before a refund
             is signed (REFUNDING): without these nobody could tell an invoice that we deleted from
             one that was paid and then removed (ADR 4); and after CLOSED or REFUNDING, when the
             invoice was paid all the same (PAID) or was gone by somebody else's doing (LOST)
    indexes  derivation indexes in use, kept when lines are dropped

Lines of format 1 are swaps without the request's price cap, and of those no marks were written. A
line for a funding that was never sent does no harm. The lines of swaps that are final move to a
second file, `NAME.done`, when most of the first is about such.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lnliquid.store.paths import refusal
from lnliquid.swap import InvoiceMark, Swap

FORMAT = 2
READABLE = (1, FORMAT)
SLACK_LINES = 1_000
"""The file is rewritten when it holds more than twice the live lines and this many more."""


class JournalFailure(Exception):
    """The journal could not be written; nothing may be funded until it can."""


def _line(kind: str, **values: object) -> str:
    return json.dumps({"v": FORMAT, "kind": kind, **values}, separators=(",", ":"))


def line_of(swap: Swap, funding_txid: str, lock_height: int, vouts: tuple[int, int]) -> str:
    """What the HTLC script, its outputs and the request need beyond the seed, as one line."""
    return _line(
        "swap",
        swap_id=swap.swap_id,
        request_id=swap.request_id,
        key_index=swap.key_index,
        buyer_key_hash=swap.buyer_key_hash.hex(),
        buyer_claim_address=swap.buyer_claim_address,
        payment_hash=swap.payment_hash.hex(),
        asset_id=swap.asset_id,
        asset_amount=swap.asset_amount,
        subsidy_sats=swap.subsidy_sats,
        total_price_msat=swap.total_price_msat,
        min_funding_confs=swap.min_funding_confs,
        refund_lock_height=lock_height,
        funding_txid=funding_txid,
        asset_vout=vouts[0],
        subsidy_vout=vouts[1],
        max_total_price_msat=swap.max_total_price_msat,
        max_ln_cltv_blocks=swap.max_ln_cltv_blocks,
        created_at=swap.created_at,
        fee_share_sats=swap.fee_share_sats,
    )


def tx_line(txid: str, raw: bytes, *, next_change_index: int, replaces: str | None = None) -> str:
    """A signed funding, what it replaces, and the first change index that it leaves unused."""
    return _line(
        "tx", txid=txid, raw=raw.hex(), next_change_index=next_change_index, replaces=replaces
    )


def mark_line(swap_id: str, mark: InvoiceMark) -> str:
    """What is about to be done about a swap's invoice."""
    return _line("mark", swap_id=swap_id, mark=mark.name)


def indexes_line(next_swap_index: int, next_change_index: int) -> str:
    """The next free indexes, for when the lines that show them are dropped."""
    return _line("indexes", next_swap_index=next_swap_index, next_change_index=next_change_index)


class RescueJournal:
    """An append-only file of mode 0600. Its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.RLock()
        """Held while the file is written: a rewriting must lose no line that comes meanwhile."""
        self.failed = False
        """True after an append that failed, as on a full disk, until one succeeds."""
        self._lines = 0
        self._kept = 0
        self._marks: dict[str, str] = {}
        self._fundings = self.fundings()
        self.earlier_requests: dict[str, str] = {}
        """Request id to swap id, as the file named them when it was opened."""
        for line in records(path):
            self._lines += 1
            if is_swap(line):
                self.earlier_requests[str(line.get("request_id"))] = str(line.get("swap_id"))
            if line.get("kind") == "mark":
                self._marks[str(line.get("swap_id"))] = str(line.get("mark"))

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def lines(self) -> int:
        """Lines that the file holds."""
        return self._lines

    def earlier_fundings(self, swap_id: str) -> set[str]:
        """Txids of the fundings that the file named for a swap when it was opened."""
        return self._fundings.get(swap_id, set())

    def fundings(self) -> dict[str, set[str]]:
        """Swaps that the file names now, each with the txids of its fundings."""
        found: dict[str, set[str]] = {}
        for line in read_lines(self._path):
            found.setdefault(str(line.get("swap_id")), set()).add(str(line.get("funding_txid")))
        return found

    def append(self, lines: Sequence[str]) -> None:
        """Write and sync. Raises `JournalFailure`; then a part may have been written."""
        with self._writing:
            try:
                self._append(self._path, lines)
            except JournalFailure:
                self.failed = True
                raise
            self.failed = False  # not before: a slow disk that syncs has not failed
            self._lines += len(lines)

    def probe(self) -> None:
        """Try whether a line could be written, after a failure with an empty one: see `failed`."""
        with self._writing:
            if not self.failed:
                self.failed = refusal(self._path) is not None
                return
            with suppress(JournalFailure):
                self._append(self._path, ())
                self.failed = False

    def note_marks(self, marks: Mapping[str, InvoiceMark]) -> None:
        """Append those marks that are not their swap's last one already. `JournalFailure`."""
        with self._writing:
            news = {i: m for i, m in marks.items() if self._marks.get(i) != m.name}
            if news:
                self.append([mark_line(swap_id, mark) for swap_id, mark in news.items()])
                self._marks.update({swap_id: mark.name for swap_id, mark in news.items()})

    def needs_correction(self, swap_id: str, mark: InvoiceMark) -> bool:
        """True when the last mark in the file would allow a refund that this one forbids."""
        allowed = self._marks.get(swap_id) in (InvoiceMark.CLOSED.name, InvoiceMark.REFUNDING.name)
        return allowed and mark in (InvoiceMark.PAID, InvoiceMark.LOST)

    def wants_rewrite(self) -> bool:
        """True when most of the file may be about swaps that are final: worth a look."""
        return self._is_long(self._kept)

    def _is_long(self, live: int) -> bool:
        return self._lines > 2 * live + SLACK_LINES

    def trim(
        self, final: Mapping[str, str | None], superseded: frozenset[str], indexes: str
    ) -> bool:
        """Move the lines of final swaps to the other file, when that is worth it; see `divide`.

        They are there before they leave this one. False, and nothing changed, when too little
        would go. Raises `JournalFailure`.
        """
        with self._writing:
            return self._trim(final, superseded, indexes)

    def _trim(
        self, final: Mapping[str, str | None], superseded: frozenset[str], indexes: str
    ) -> bool:
        kept, done = divide(texts(self._path), final, superseded, indexes)
        self._kept = len(kept)
        if not self._is_long(len(kept)):
            return False
        if done:
            self._append(archive_of(self._path), done)
        fresh = fresh_of(self._path)
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                _write_all(file, "".join(line + "\n" for line in kept).encode())
                os.fsync(file)
            finally:
                os.close(file)
            fresh.replace(self._path)
            _sync_directory(self._path)
        except OSError as error:
            raise JournalFailure(f"rescue journal {self._path}: {error.strerror}") from None
        self._lines = len(kept)
        marked = {line.get("swap_id") for line in records(self._path) if line.get("kind") == "mark"}
        self._marks = {i: m for i, m in self._marks.items() if i in marked}
        return True

    @staticmethod
    def _append(path: Path, lines: Sequence[str]) -> None:
        try:
            is_new = not path.exists()
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A cut of the power may have left half a line: begin on a fresh one.
                text = "\n" * (os.fstat(file).st_size > 0) + "\n".join(lines) + "\n"
                _write_all(file, text.encode())
                os.fsync(file)
            finally:
                os.close(file)
            if is_new:
                _sync_directory(path)
        except OSError as error:
            raise JournalFailure(f"rescue journal {path}: {error.strerror}") from None


def archive_of(path: Path) -> Path:
    """The file beside a journal that the lines of final swaps go to."""
    return path.with_name(path.name + ".done")


def fresh_of(path: Path) -> Path:
    """The file beside a journal that takes its place when it is rewritten."""
    return path.with_name(path.name + ".new")


def texts(path: Path) -> list[str]:
    """Every line that is not empty, as it stands, whole or not. Empty without a file."""
    try:
        return [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def record_of(text: str) -> dict[str, Any] | None:
    """A line's values, None when it is half-written, damaged or of a newer format."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) and values.get("v") in READABLE else None


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a journal, of any kind; a half-written one is passed over."""
    for text in texts(path):
        values = record_of(text)
        if values is not None:
            yield values


def is_swap(record: Mapping[str, Any]) -> bool:
    """True for a line that describes a swap's funding."""
    return record.get("v") == 1 or record.get("kind") == "swap"


def read_lines(path: Path) -> Iterable[dict[str, Any]]:
    """Every whole line of a journal that describes a swap's funding."""
    return (values for values in records(path) if is_swap(values))


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


def divide(
    lines: Sequence[str],
    final: Mapping[str, str | None],
    superseded: frozenset[str],
    indexes: str,
) -> tuple[list[str], list[str]]:
    """Which lines stay and which are done with, for `RescueJournal.trim`.

    `final` maps each swap that the store proves final to the txid of its funding (None when it had
    none); `superseded` are fundings that the store knows as given up or replaced. Whatever is not
    proved over stays: swaps that the store does not know, fundings that it does not know, lines
    that cannot be read. `indexes` takes the place of older lines of that kind.
    """
    parsed = [(text, record_of(text)) for text in lines]
    keeps: list[bool] = []
    done: list[str] = []
    for text, record in parsed:
        stays = True
        if record is not None and is_swap(record) and record.get("swap_id") in final:
            txid = record.get("funding_txid")
            if txid == final[record["swap_id"]]:
                stays = False
                done.append(text)
            else:
                stays = txid not in superseded
        keeps.append(stays)
    live = {
        name: {
            str(record.get(name))
            for (_, record), stays in zip(parsed, keeps, strict=True)
            if stays and record is not None and is_swap(record)
        }
        for name in ("swap_id", "funding_txid")
    }
    wanted = _with_replaced(live["funding_txid"], [r for _, r in parsed if r is not None])
    kept = [indexes]
    for (text, record), stays in zip(parsed, keeps, strict=True):
        match record.get("kind") if record is not None else None:
            case "tx" if record is not None:
                stays = record.get("txid") in wanted
            case "mark" if record is not None:
                stays = record.get("swap_id") in live["swap_id"]
            case "indexes":
                stays = False
        if stays:
            kept.append(text)
    return kept, done


def _with_replaced(txids: set[str], parsed: Sequence[Mapping[str, Any]]) -> set[str]:
    """These fundings and all that they replaced, which may confirm in their place."""
    older = {r["txid"]: r.get("replaces") for r in parsed if r.get("kind") == "tx"}
    wanted = set(txids)
    queue = list(txids)
    while queue:
        txid = older.get(queue.pop())
        if txid is not None and txid not in wanted:
            wanted.add(txid)
            queue.append(txid)
    return wanted


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
