"""The seller's Core Lightning: the lab's invoice commands without a socket, and their client.

A hung node answers nothing; when it wakes, calls that reached it may still take effect.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lnlab.nodes.embedded.lightning.errors import RpcError
from lnlab.nodes.embedded.lightning.invoice_commands import delinvoice, invoice, listinvoices
from lnlab.nodes.embedded.lightning.invoices import (
    InvoiceRecord,
    PaymentRefusedError,
    payment_secret,
)
from lnlab.nodes.embedded.lightning.network import LightningNetwork
from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import Invoice, InvoiceStatus, NodeInfo

from .clockwork import Chance, Life
from .coverage import Coverage

T = TypeVar("T")

BACKEND = "core-lightning"
DEADLINE_SECS = 15.0
"""For a call, and for all that are made together: the real client's."""
EXISTS = (900, 901)
NOT_AS_STATED = (905, 906)
PLENTY_MSAT = 10**15


@dataclass
class Node:
    """The seller's node and its faults; it lives on when the daemon dies."""

    height: Callable[[], int]
    clock: Callable[[], int]
    pass_time: Callable[[float], None]
    up: bool = True
    hung: bool = False
    trouble: float = 0.0
    slow_secs: float = 0.0
    """How long a call takes."""
    paid: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an invoice was paid, unless that news is lost."""

    def __post_init__(self) -> None:
        network = LightningNetwork(block_height=self.height, clock=self.clock)
        self._node = network.add_node("seller", Path("no-socket"))
        self.book = self._node.invoices
        self.node_id = self._node.node_id
        self._waiting: list[Callable[[], object]] = []

    @property
    def working(self) -> bool:
        """True when calls are answered and payments settle."""
        return self.up and not self.hung

    def invoice(self, payload: dict[str, Any]) -> None:
        """The command `invoice`. Raises `RpcError`."""
        invoice(self._node, payload)

    def look(self, label: str) -> dict[str, Any] | None:
        """The command `listinvoices` for one label."""
        found = listinvoices(self._node, {"label": label})["invoices"]
        return found[0] if found else None

    def delete(self, label: str, status: str) -> None:
        """The command `delinvoice`. Raises `RpcError`."""
        delinvoice(self._node, {"label": label, "status": status})

    def remember(self, effect: Callable[[], object]) -> None:
        """A call reached the hung node; it is carried out when the node wakes."""
        self._waiting.append(effect)

    def wake(self) -> None:
        """Answer again. What waited is done first, the newest before the older."""
        self.up, self.hung, self.slow_secs = True, False, 0.0
        waiting, self._waiting = self._waiting, []
        for effect in reversed(waiting):
            try:
                effect()
            except RpcError:
                continue

    def restart(self) -> None:
        """Stop and start: what waited is gone."""
        self._waiting.clear()
        self.wake()

    # ---- payments, as they come in

    def accepts(self, payment_hash: bytes) -> InvoiceRecord | None:
        """The invoice that a payment of its amount could settle now."""
        record = self.book.with_hash(payment_hash)
        if record is None:
            return None
        try:
            return self.book.check_payment(payment_hash, *_onion(record))
        except PaymentRefusedError:
            return None

    def settle(self, payment_hash: bytes) -> bytes | None:
        """Take a payment: the preimage, or None when it is refused."""
        record = self.accepts(payment_hash)
        return self.book.settle(payment_hash, *_onion(record)) if record else None


def _onion(record: InvoiceRecord) -> tuple[bytes, int]:
    return payment_secret(record.preimage), record.amount_msat or 0


class SimLightning:
    """A client of the node for one life of the daemon; fits `ports.SellerLightning`.

    `meddle` may let a payment come in before a call is answered; `making` looks at every invoice
    that is asked for. Both get the label.
    """

    def __init__(
        self,
        node: Node,
        chance: Chance,
        life: Life,
        meddle: Callable[[str], None],
        making: Callable[[str], None],
        name_of: Callable[[str], object],
        coverage: Coverage,
    ) -> None:
        self._node = node
        self._chance = chance
        self._life = life
        self._meddle = meddle
        self._making = making
        self._name_of = name_of
        self._coverage = coverage

    async def _call(self, method: str, label: str, effect: Callable[[], T]) -> T:
        """Do `effect` as the node would, or fail as it might."""
        name = self._name_of(label)
        await self._life.pause("lightning", method, name)
        self._meddle(label)
        node = self._node
        if not node.up:
            raise BackendUnavailable(BACKEND, f"{method}: connection refused")
        if node.hung:
            if self._chance.happens(0.6, "reaches", method, name):
                node.remember(effect)
            self._coverage.swap(f"{method} timed out", label)
            raise BackendTimeout(BACKEND, f"{method}: no answer")
        node.pass_time(node.slow_secs)
        if self._chance.happens(node.trouble, "trouble", method, name):
            luck = self._chance.number("kind", method, name)
            if luck < 0.4:
                raise BackendUnavailable(BACKEND, f"{method}: connection refused")
            if luck < 0.8:
                with contextlib.suppress(RpcError):
                    effect()
            self._coverage.swap(f"{method} timed out", label)
            raise BackendTimeout(BACKEND, f"{method}: no answer")
        try:
            answer = effect()
        except RpcError as error:
            raise BackendRejected(BACKEND, error.message, error.code) from None
        await self._life.pause("lightning", method, "answered", name)
        return answer

    async def info(self) -> NodeInfo:
        """See `ports`."""
        node = self._node
        height = node.height()
        return await self._call(
            "getinfo", "", lambda: NodeInfo(node.node_id, "liquid-regtest", "sim", height)
        )

    async def receivable_msat(self) -> int:
        """See `ports`."""
        return await self._call("listpeerchannels", "", lambda: PLENTY_MSAT)

    async def options(self) -> dict[str, bool | int | str]:
        """See `ports`."""
        return await self._call("listconfigs", "", dict)

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
        """See `ports`."""
        self._life.require()
        self._making(label)
        payload = {
            "label": label,
            "amount_msat": amount_msat,
            "preimage": preimage.hex(),
            "description": description,
            "expiry": expiry_secs,
            "cltv": cltv_blocks,
        }
        try:
            await self._call("invoice", label, lambda: self._node.invoice(payload))
        except BackendRejected as refusal:
            if refusal.code not in EXISTS:
                raise
        made = await self.invoice(label)
        if (made.payment_hash, made.amount_msat) != (
            hashlib.sha256(preimage).digest(),
            amount_msat,
        ):
            raise BackendRejected(BACKEND, f"invoice {label!r} belongs to another one", 900)
        return made

    async def invoice(self, label: str) -> Invoice:
        """See `ports`."""
        found = await self._call("listinvoices", label, lambda: self._node.look(label))
        return Invoice(label, InvoiceStatus.ABSENT) if found is None else _read(found)

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """See `ports`."""
        try:
            await self._call("delinvoice", label, lambda: self._node.delete(label, status.value))
        except BackendRejected as refusal:
            if refusal.code in NOT_AS_STATED:
                return False
            raise
        self._coverage.swap("invoice deleted", label)
        return True

    async def wait_paid(self, after_pay_index: int, wait_secs: int) -> Invoice | None:
        """See `ports`. `Node.paid` ends the wait; when it ends for nothing, the time is up."""
        self._life.require()
        record = self._node.book.next_paid(after_pay_index)
        if record is None and wait_secs:
            self._node.paid.clear()
            await self._node.paid.wait()
            self._life.require()
            record = self._node.book.next_paid(after_pay_index)
        if not self._node.working:
            raise BackendUnavailable(BACKEND, "waitanyinvoice: connection lost")
        return None if record is None else _read(record.as_json())


def _read(entry: dict[str, Any]) -> Invoice:
    return Invoice(
        label=entry["label"],
        status=InvoiceStatus(entry["status"]),
        bolt11=entry["bolt11"],
        payment_hash=bytes.fromhex(entry["payment_hash"]),
        amount_msat=entry["amount_msat"],
        expires_at=entry["expires_at"],
        pay_index=entry.get("pay_index"),
    )
