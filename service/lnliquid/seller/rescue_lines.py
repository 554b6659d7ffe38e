"""What a rescue journal says, read into types and checked against the mnemonic and the network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lnliquid.liquid.address import AddressError, p2wpkh_key_hash
from lnliquid.liquid.keys import Keychain
from lnliquid.seller import journal
from lnliquid.settings import Settings
from lnliquid.swap import InvoiceMark, State, Swap

T = TypeVar("T")


class JournalMismatch(Exception):
    """The journal is not of this mnemonic and network, or is damaged beyond a half-written line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One funding that was signed for a swap. `swap` is in CREATED, with that funding.

    `is_marked`: marks of the invoice were written too, and the request is whole (format 2).
    """

    swap: Swap
    is_marked: bool


@dataclass(frozen=True, slots=True)
class StoredTx:
    """A funding's bytes, and the txid of the one that it replaces."""

    raw: bytes
    replaces: str | None


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """A whole journal. `lines` by swap id, in the order in which they were written.

    `unreadable` counts lines that are half-written, damaged, or of a newer program.
    """

    lines: Mapping[str, tuple[Line, ...]]
    txs: Mapping[str, StoredTx]
    marks: Mapping[str, InvoiceMark]
    next_swap_index: int
    next_change_index: int
    unreadable: int


def read_journal(path: Path, keys: Keychain, settings: Settings, now: int) -> JournalFacts:
    """Read a journal and the file of final swaps beside it.

    `now` stands for the unknown time at which swaps of format 1 were made. Raises
    `JournalMismatch`: every line must follow from the keys, or none is believed.
    """
    lines: dict[str, list[Line]] = {}
    txs: dict[str, StoredTx] = {}
    marks: dict[str, InvoiceMark] = {}
    swap_index = change_index = unreadable = 0
    for text in [*journal.texts(journal.archive_of(path)), *journal.texts(path)]:
        record = journal.record_of(text)
        if record is None:
            unreadable += 1
            continue
        if journal.is_swap(record):
            line = _read(record, lambda r=record: _line(r, keys, settings, now))  # type: ignore[misc]
            _check(line.swap, keys)
            known = lines.setdefault(line.swap.swap_id, [])
            if line not in known:  # a rewriting that was cut short leaves it in both files
                known.append(line)
            swap_index = max(swap_index, line.swap.key_index + 1)
            continue
        match record.get("kind"):
            case "tx":
                txs[str(record.get("txid"))] = _read(record, lambda r=record: _stored(r))  # type: ignore[misc]
                change_index = max(change_index, _number(record, "next_change_index"))
            case "mark":
                mark = _read(record, lambda r=record: InvoiceMark[r["mark"]])  # type: ignore[misc]
                marks[str(record.get("swap_id"))] = mark
            case "indexes":
                swap_index = max(swap_index, _number(record, "next_swap_index"))
                change_index = max(change_index, _number(record, "next_change_index"))
            case _:
                unreadable += 1
    return JournalFacts(
        {swap_id: tuple(found) for swap_id, found in lines.items()},
        txs,
        marks,
        swap_index,
        change_index,
        unreadable,
    )


def _read(record: Mapping[str, Any], read: Callable[[], T]) -> T:
    try:
        return read()
    except (KeyError, TypeError, ValueError):
        name = record.get("swap_id") or record.get("txid")
        raise JournalMismatch(f"a line of {name} lacks a value or holds a wrong one") from None


def _number(record: Mapping[str, Any], name: str) -> int:
    return _read(record, lambda: int(record[name]))


def _stored(record: Mapping[str, Any]) -> StoredTx:
    replaces = record["replaces"]
    return StoredTx(bytes.fromhex(record["raw"]), None if replaces is None else str(replaces))


def _line(record: Mapping[str, Any], keys: Keychain, settings: Settings, now: int) -> Line:
    is_marked = record["v"] > 1
    index = int(record["key_index"])
    price = int(record["total_price_msat"])
    swap = Swap(
        swap_id=str(record["swap_id"]),
        request_id=str(record["request_id"]),
        key_index=index,
        state=State.CREATED,
        asset_id=str(record["asset_id"]),
        asset_amount=int(record["asset_amount"]),
        subsidy_sats=int(record["subsidy_sats"]),
        total_price_msat=price,
        max_total_price_msat=int(record["max_total_price_msat"]) if is_marked else price,
        min_funding_confs=int(record["min_funding_confs"]),
        max_ln_cltv_blocks=(
            int(record["max_ln_cltv_blocks"]) if is_marked else settings.max_ln_cltv_blocks
        ),
        buyer_claim_address=str(record["buyer_claim_address"]),
        buyer_key_hash=bytes.fromhex(record["buyer_key_hash"]),
        seller_key_hash=keys.refund_key(index).key_hash,
        payment_hash=bytes.fromhex(record["payment_hash"]),
        created_at=int(record["created_at"]) if is_marked else now,
        fee_share_sats=int(record["fee_share_sats"]) if is_marked else 0,
        refund_lock_height=int(record["refund_lock_height"]),
        funding_txid=str(record["funding_txid"]),
        asset_vout=int(record["asset_vout"]),
        subsidy_vout=int(record["subsidy_vout"]),
    )
    return Line(swap, is_marked)


def _check(swap: Swap, keys: Keychain) -> None:
    """Raise `JournalMismatch` unless hash and address follow from the keys and the network."""
    try:
        key_hash = p2wpkh_key_hash(swap.buyer_claim_address, keys.network)
    except AddressError as error:
        raise JournalMismatch(
            f"swap {swap.swap_id} is not of the network {keys.network.name}: {error}"
        ) from None
    if key_hash != swap.buyer_key_hash:
        raise JournalMismatch(
            f"swap {swap.swap_id} is damaged: its address and its key hash do not belong together"
        )
    if keys.payment_hash(swap.key_index, swap.swap_id) != swap.payment_hash:
        raise JournalMismatch(
            f"swap {swap.swap_id} was made with another mnemonic: index {swap.key_index} gives "
            "another payment hash"
        )
