"""The buyer's memory: one JSON file a swap, written before each act it describes.

    DIR/mnemonic               the buyer's own wallet
    DIR/next_index             key index of the next swap
    DIR/swaps/REQUEST_ID.json  everything about one swap
    DIR/swaps/REQUEST_ID.lock  held while a process works on it

A file is replaced whole: temporary file, fsync, rename, fsync of the directory. A reader sees the
old or the new one, after a crash too. The files hold preimages, so only their owner can read them.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from lnliquid.buyer import bolt11
from lnliquid.buyer.answers import from_printed, read_offer, read_swap
from lnliquid.buyer.checks import SwapReply, Verdict
from lnliquid.buyer.errors import BuyerError, SwapBusy, WrongUsage
from lnliquid.domain.swap import Offer
from lnliquid.domain.timelock import Hold, chain_of_invoice

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What request ids and swap ids are, the only form of it that is stored."""

LOCK_SECS, LOCK_POLL_SECS = 5.0, 0.02
"""How long a lock that is held for a moment only is waited for, and how often it is tried."""
MAX_HOLD_BLOCKS = 144
"""Longest CLTV of a payment that a buyer agrees to, unless it says otherwise."""

_FORMAT = 2
"""Format 1 held the seller's swap in the form that the commands print."""


class Step(Enum):
    """How far the buyer has come. Each says what may already have happened to the money."""

    REQUESTED = "requested"
    """CreateSwap may have been called; nothing is paid."""
    CREATED = "created"
    """The seller's reply is stored; nothing is paid and no payment is under way."""
    PAYING = "paying"
    """A payment may be under way or done: look its hash up before anything else."""
    PAID = "paid"
    """The preimage is stored; a claim may be built, none was sent."""
    CLAIMING = "claiming"
    """The claim is stored and may be sent, unconfirmed."""
    DONE = "done"
    """The claim is confirmed."""
    REFUSED = "refused"
    """The checks found something wrong; nothing is paid."""
    DECLINED = "declined"
    """The seller does not sell this, or has given the swap up; nothing is paid."""
    LOST = "lost"
    """Paid, but the seller's refund took the asset: a person must act."""

    @property
    def is_over(self) -> bool:
        """True when there is nothing left for the program to do."""
        return self in (Step.DONE, Step.REFUSED, Step.DECLINED, Step.LOST)

    @property
    def may_be_paid(self) -> bool:
        """True when money may be on its way or gone, and the asset not in the wallet yet."""
        return self in (Step.PAYING, Step.PAID, Step.CLAIMING)


@dataclass(frozen=True, slots=True)
class Order:
    """What the buyer wants. `max_fee_msat` is for Lightning fees, on top of the price.

    `max_hold_blocks`: the longest CLTV of the payment, blocks of the chain with the channels.
    """

    request_id: str
    asset_id: str
    amount: int
    max_price_msat: int
    min_confs: int
    max_fee_msat: int
    max_hold_blocks: int = MAX_HOLD_BLOCKS


@dataclass
class Record:
    """One swap in the journal. Times are unix seconds, byte strings hex, the rest as in `Order`.

    `offer` and `swap`: the seller's newest answers, in the JSON of the schema (`answers`).
    """

    order: Order
    network: str
    seller: str
    key_index: int
    claim_address: str
    created_at: int
    offer: dict[str, Any]
    step: Step = Step.REQUESTED
    dry_run: bool = False
    swap: dict[str, Any] | None = None
    funding_raw: str = ""
    verdict: dict[str, Any] | None = None
    max_delay_blocks: int = 0
    """`maxdelay` of the payment, as the checks allowed it last; 0 before."""
    paying_until: int = 0
    """Until then the node may still be trying to pay; a failed payment is not final."""
    may_be_paid_late: bool = False
    """A payment was started once; that none was found later is the node's word of that moment."""
    paying_node_id: str = ""
    """The Lightning node that may be paying, or has paid; only it can tell what came of that."""
    amount_sent_msat: int | None = None
    preimage: str = ""
    claims: list[dict[str, str]] = field(default_factory=list)
    """Signed claims as `{txid, raw}`; only the last one is sent."""
    least_claim_rate: int = 0
    """sat/kvB; set when a claim was refused for its fee."""
    spend_txid: str = ""
    """What spends the asset output, as last seen."""
    note: str = ""
    """Why it ended as it did, for a person."""

    def __repr__(self) -> str:
        return f"Record({self.order.request_id}, {self.step.value})"

    @property
    def label(self) -> str:
        """How far it is, for a person."""
        if self.step is Step.CLAIMING and self.spend_txid:
            return "claimed, unconfirmed"
        return f"{self.step.value}, dry run" if self.is_dry_run else self.step.value

    @property
    def is_dry_run(self) -> bool:
        """True while it was only looked at: plain `resume` leaves it alone."""
        return self.dry_run and not self.step.is_over

    @property
    def is_open(self) -> bool:
        """Plain `resume` goes on with it: something is left to do, or it may have been paid.

        A payment that was started counts as possible for as long as a seller could settle it:
        until the chain is far above the lock height only Lightning knows.
        """
        if self.step in (Step.REFUSED, Step.DECLINED):
            return self.may_be_paid_late
        return not self.step.is_over and not self.dry_run

    @property
    def price_msat(self) -> int:
        """Amount of the invoice; before there is a reply, the most that was agreed to."""
        return self.reply.total_price_msat if self.reply else self.order.max_price_msat

    @property
    def reply(self) -> SwapReply | None:
        """The swap as the seller last told it; None before its first answer."""
        return None if self.swap is None else read_swap(self.swap)

    @property
    def hold(self) -> Hold | None:
        """For how long the payment can be held; None before the checks allowed one."""
        if self.reply is None or not self.max_delay_blocks:
            return None
        chain = chain_of_invoice(bolt11.decode(self.reply.bolt11).currency)
        return Hold(self.max_delay_blocks, chain)

    @property
    def terms(self) -> Offer:
        """The offer that the order was made on."""
        return read_offer(self.offer)

    @property
    def checks(self) -> Verdict | None:
        """The checks as last run; None before the first time."""
        return None if self.verdict is None else Verdict.from_dict(self.verdict)

    def public_dict(self) -> dict[str, Any]:
        """For output: everything but the preimage and the raw bytes that contain it."""
        values = self.to_dict()
        del values["preimage"], values["funding_raw"]
        return values | {
            "offer": asdict(self.terms),
            "swap": self.reply.to_dict() if self.reply else None,
            "claims": [claim["txid"] for claim in self.claims],
        }

    def to_dict(self) -> dict[str, Any]:
        """For the file, preimage included."""
        return asdict(self) | {"step": self.step.value}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Record":
        """The reverse of `to_dict`."""
        return cls(
            **values | {"order": Order(**values["order"]), "step": Step(values["step"])},
        )


class Journal:
    """The directory of one buyer. Raises `BuyerError` kinds with what to do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._swaps = directory / "swaps"
        try:
            for path in (directory, self._swaps):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WrongUsage(
                f"the directory {directory} cannot be used: {error.strerror}; choose another --dir"
            ) from None

    @property
    def mnemonic_file(self) -> Path:
        """Where the buyer's mnemonic is."""
        return self.directory / "mnemonic"

    @contextmanager
    def lock(self, request_id: str) -> Iterator[None]:
        """Work on one swap alone. `SwapBusy` when another process does; a dead one does not."""
        with self._locked(self._path(request_id).with_suffix(".lock")) as free:
            if not free:
                raise SwapBusy(request_id)
            yield

    def take_index(self) -> int:
        """A key index that was never returned before, whatever crashed in between.

        Raises `BuyerError` when another process does not finish with it.
        """
        counter = self.directory / "next_index"
        with self._locked(self.directory / "next_index.lock", LOCK_SECS) as free:
            if not free:
                raise BuyerError(
                    f"another process has held {self.directory / 'next_index.lock'} for "
                    f"{LOCK_SECS:g} s; nothing was ordered. End it, then run this again"
                )
            index = self.index_count()
            _replace(counter, f"{index + 1}\n")
        return index

    def index_count(self) -> int:
        """How many key indexes were handed out; all of them are below this."""
        counter = self.directory / "next_index"
        stored = int(counter.read_text()) if counter.exists() else 0
        return max([stored, *(record.key_index + 1 for record in self.all())])

    def save(self, record: Record) -> None:
        """Store the record durably; on return it survives a power cut."""
        text = json.dumps({"format": _FORMAT} | record.to_dict(), indent=1)
        _replace(self._path(record.order.request_id), text + "\n")

    def find(self, request_id: str) -> Record | None:
        """The record of a request, None when there is none."""
        path = self._path(request_id)
        return self._read(path) if path.exists() else None

    def load(self, name: str) -> Record:
        """The record of a request id, or else of a swap id. Raises `WrongUsage`.

        Swap ids are the sellers' words: none may stand for another purchase's request id, and one
        that several purchases have names none of them.
        """
        name = name.lower()
        records = self.all()
        found = [record for record in records if record.order.request_id == name]
        found = found or [r for r in records if r.swap and r.swap["swap_id"] == name]
        if not found:
            raise WrongUsage(f"no swap {name} in {self.directory}; `lnliquid history` lists them")
        if len(found) > 1:
            requests = ", ".join(record.order.request_id for record in found)
            raise BuyerError(f"{name} names several purchases: give the request id, {requests}")
        return found[0]

    def all(self) -> list[Record]:
        """Every record that can be read, oldest first. `damaged` lists the others."""
        return self._scan()[0]

    def damaged(self) -> list[str]:
        """What is wrong with each file that cannot be read. One of them stops no other swap."""
        return self._scan()[1]

    def _scan(self) -> tuple[list[Record], list[str]]:
        records, problems = [], []
        for path in sorted(self._swaps.glob("*.json")):
            try:
                records.append(self._read(path))
            except BuyerError as error:
                problems.append(str(error))
        return sorted(records, key=lambda r: (r.created_at, r.key_index)), problems

    def _path(self, request_id: str) -> Path:
        if not UUID.fullmatch(request_id):
            raise BuyerError(f"{request_id!r} is not a request id: a UUID in lower case is needed")
        return self._swaps / f"{request_id}.json"

    def _read(self, path: Path) -> Record:
        try:
            values = json.loads(path.read_text())
            found = values.pop("format")
            unknown = values.keys() - Record.__dataclass_fields__
            if found not in (1, _FORMAT) or unknown:
                what = f"format {found}" + "".join(f", {name}" for name in sorted(unknown))
                raise BuyerError(f"{path} was written by another version ({what})")
            if found == 1 and values["swap"]:
                values["swap"] = from_printed(values["swap"])
            record = Record.from_dict(values)
            _ = record.terms, record.reply  # both can be read
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuyerError(f"{path} is damaged: {type(error).__name__}; keep the file") from None
        return record

    @contextmanager
    def _locked(self, path: Path, wait_secs: float = 0.0) -> Iterator[bool]:
        # The kernel drops the lock when the process ends, however it ends.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + wait_secs
        try:
            while not (is_free := _lock_now(descriptor)) and time.monotonic() < until:
                time.sleep(LOCK_POLL_SECS)
            yield is_free
        finally:
            os.close(descriptor)


def _lock_now(descriptor: int) -> bool:
    """Lock it; False when another process has it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
