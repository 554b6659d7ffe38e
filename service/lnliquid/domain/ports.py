"""What the domain needs of the world, as Protocols. The consumer owns these; adapters fit them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from lnliquid.domain.swap import Tip


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One transaction that touches a script. `height` is None while it is unconfirmed."""

    txid: str
    height: int | None


class ExpectedHistories(dict[bytes, tuple[HistoryItem, ...]]):
    """Scripts, each with the confirmed history that it should have; empty when that is not known.

    A status is a hash over the whole history, so a script whose status fits need not be read.
    """


class Chain(Protocol):
    """The Liquid chain as a backend shows it. Any call may raise the three `BackendError` kinds."""

    async def tip(self) -> Tip:
        """The best block, as last announced on the live connection."""
        ...

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """Follow these output scripts: from now on `take_changed` names those with news.

        A script that is new to the watch list counts as changed, and so does every one of them
        whose status differs after a reconnect. Of `ExpectedHistories` one whose status shows that
        its history is the expected one need not count as changed.
        """
        ...

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """Stop following these scripts."""
        ...

    def take_changed(self) -> set[bytes]:
        """Scripts whose history may differ since it was last taken; empties the set."""
        ...

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """Put scripts back whose news could not be worked off."""
        ...

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """Full history of each script, confirmed first, then mempool."""
        ...

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """Raw transactions, each checked to hash to its txid.

        Left out are those that the backend does not know, and those that it does not give as it
        should: one of them must not hide the others. Who concludes anything from absence wants it
        `strict`: then the latter raise `BackendRejected`.
        """
        ...

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """The `Tip.block_id` of the block at each height. `BackendRejected` when one is missing."""
        ...

    async def broadcast(self, raw: bytes) -> None:
        """Send a signed transaction. Returns when the node has it (also when it had it before).

        `BackendRejected` carries the node's reason; `BackendTimeout` means unknown.
        """
        ...

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """The backend's estimate, None when it has none."""
        ...


class InvoiceStatus(Enum):
    """An invoice as Core Lightning tells it. ABSENT: never made, or deleted."""

    ABSENT = "absent"
    UNPAID = "unpaid"
    PAID = "paid"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of our own node. `bolt11` and the rest are None when ABSENT.

    One that is not the daemon's may have no `bolt11`: it belongs to an offer (BOLT12).
    """

    label: str
    status: InvoiceStatus
    bolt11: str | None = None
    payment_hash: bytes | None = None
    amount_msat: int | None = None
    expires_at: int | None = None
    pay_index: int | None = None


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Identity of a Lightning node (`getinfo`). `sync_problem`: what it says itself is missing."""

    node_id: str
    network: str
    version: str
    block_height: int
    sync_problem: str = ""


class PaymentStatus(Enum):
    """An outgoing payment as the payer's node tells it. ABSENT: never tried."""

    ABSENT = "absent"
    PENDING = "pending"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Payment:
    """Outcome of `pay` or `listpays`. The preimage is there when COMPLETE, and is a secret."""

    status: PaymentStatus
    preimage: bytes | None = None
    amount_sent_msat: int | None = None
    failure: str | None = None

    def __repr__(self) -> str:
        return f"Payment({self.status.value}, sent={self.amount_sent_msat}, {self.failure})"


class SellerLightning(Protocol):
    """What the seller asks of Core Lightning. Same three `BackendError` kinds."""

    async def info(self) -> NodeInfo:
        """Identity and height of the node."""
        ...

    async def receivable_msat(self) -> int:
        """What usable channels can receive now, in total."""
        ...

    async def options(self) -> dict[str, bool | int | str]:
        """The node's options that have a value, by Core Lightning's names; True for a flag."""
        ...

    async def create_invoice(
        self,
        *,
        label: str,
        amount_msat: int,
        preimage: bytes,
        description: str,
        expiry_secs: int,
        cltv_blocks: int,
    ) -> Invoice:
        """Make the invoice, or return the one that exists under this label or preimage.

        An existing one is returned only when its label and payment hash are ours;
        otherwise `BackendRejected`.
        """
        ...

    async def invoice(self, label: str) -> Invoice:
        """The invoice as it is now; status ABSENT when there is none."""
        ...

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """Delete it if it has this status. False when it has another one or is gone: read again."""
        ...

    async def wait_paid(self, after_pay_index: int, wait_secs: int) -> Invoice | None:
        """The first invoice paid after this index, or None when nothing came in `wait_secs`."""
        ...


class BuyerLightning(Protocol):
    """What the buyer asks of its own Core Lightning."""

    async def info(self) -> NodeInfo:
        """Identity and height of the node."""
        ...

    async def pay(
        self, bolt11: str, *, max_delay_blocks: int, max_fee_msat: int, wait_secs: int
    ) -> Payment:
        """Pay once. `BackendTimeout` means unknown: look with `payment`, do not pay again."""
        ...

    async def payment(self, payment_hash: bytes) -> Payment:
        """What became of a payment, over all its attempts."""
        ...


class Clock(Protocol):
    """Time from one place, so that tests decide it."""

    def now(self) -> int:
        """Unix seconds, UTC."""
        ...
