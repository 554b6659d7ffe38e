"""Invoices of one node: what lightningd's wallet and lightningd/invoice.c do with them."""

import asyncio
import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import (
    INVOICE_LABEL_ALREADY_EXISTS,
    INVOICE_NO_DESCRIPTION,
    INVOICE_NOT_FOUND,
    INVOICE_PREIMAGE_ALREADY_EXISTS,
    INVOICE_STATUS_UNEXPECTED,
    RpcError,
)
from .params import escaped


class PaymentRefusedError(Exception):
    """The payee knows no invoice that this payment may settle (BOLT 4, PERM|15)."""


@dataclass
class InvoiceRecord:
    """An invoice that this node made. Times are Unix seconds; hash and secrets are bytes."""

    created_index: int
    label: str
    bolt11: str
    preimage: bytes
    payment_hash: bytes
    amount_msat: int | None
    description: str | None
    expires_at: int
    status: str = "unpaid"
    updated_index: int = 0
    pay_index: int = 0
    received_msat: int = 0
    paid_at: int = 0

    def as_json(self) -> dict[str, Any]:
        """The fields that listinvoices, delinvoice and the waits answer, in lightningd's order."""
        fields: dict[str, Any] = {
            "label": self.label,
            "bolt11": self.bolt11,
            "payment_hash": self.payment_hash.hex(),
        }
        if self.amount_msat is not None:
            fields["amount_msat"] = self.amount_msat
        fields["status"] = self.status
        if self.status == "paid":
            fields["pay_index"] = self.pay_index
            fields["amount_received_msat"] = self.received_msat
            fields["paid_at"] = self.paid_at
            fields["payment_preimage"] = self.preimage.hex()
        if self.description is not None:
            fields["description"] = self.description
        fields["expires_at"] = self.expires_at
        fields["created_index"] = self.created_index
        if self.updated_index:
            fields["updated_index"] = self.updated_index
        return fields


def payment_secret(preimage: bytes) -> bytes:
    """The invoice's secret, as lightningd derives it: hash of the preimage with one bit flipped."""
    return hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).digest()


class InvoiceBook:
    """All invoices of a node. `clock` gives Unix seconds; expiry is noticed at the next look."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_label: dict[str, InvoiceRecord] = {}
        self._by_hash: dict[bytes, InvoiceRecord] = {}
        self._by_pay_index: dict[int, InvoiceRecord] = {}
        self._expiries: list[tuple[int, int, str]] = []
        self._created = self._updated = self._paid = 0
        self._any_waiters: list[asyncio.Future[InvoiceRecord]] = []
        self._waiters: dict[str, list[asyncio.Future[InvoiceRecord | None]]] = {}

    def expire(self) -> None:
        """Mark what is past its time, and tell who waits for it."""
        now = int(self._clock())
        while self._expiries and self._expiries[0][0] <= now:
            _, created_index, label = heapq.heappop(self._expiries)
            record = self._by_label.get(label)
            if record is None or record.created_index != created_index:
                continue  # deleted meanwhile, perhaps made anew
            if record.status == "unpaid":
                record.status = "expired"
                record.updated_index = self._next_update()
                self._tell(record, record)

    def _next_update(self) -> int:
        self._updated += 1
        return self._updated

    def create(
        self,
        *,
        label: str,
        bolt11: str,
        preimage: bytes,
        amount_msat: int | None,
        description: str,
        expiry_secs: int,
    ) -> InvoiceRecord:
        """Add an unpaid invoice. Raises RpcError 901 (preimage, looked at first) or 900 (label)."""
        self.expire()
        payment_hash = hashlib.sha256(preimage).digest()
        if payment_hash in self._by_hash:
            raise RpcError(INVOICE_PREIMAGE_ALREADY_EXISTS, "preimage already used")
        if label in self._by_label:
            raise RpcError(INVOICE_LABEL_ALREADY_EXISTS, f"Duplicate label '{escaped(label)}'")
        self._created += 1
        record = InvoiceRecord(
            created_index=self._created,
            label=label,
            bolt11=bolt11,
            preimage=preimage,
            payment_hash=payment_hash,
            amount_msat=amount_msat,
            description=description,
            expires_at=int(self._clock()) + expiry_secs,
        )
        self._by_label[label] = self._by_hash[payment_hash] = record
        heapq.heappush(self._expiries, (record.expires_at, record.created_index, label))
        return record

    def with_label(self, label: str) -> InvoiceRecord | None:
        """The invoice of that label, if there is one."""
        self.expire()
        return self._by_label.get(label)

    def with_hash(self, payment_hash: bytes) -> InvoiceRecord | None:
        """The invoice of that payment hash, if there is one."""
        self.expire()
        return self._by_hash.get(payment_hash)

    def listed(self, order: str | None, start: int, limit: int | None) -> list[InvoiceRecord]:
        """All, from index `start` on, by creation or (`order` "updated") by last change."""
        self.expire()
        records = list(self._by_label.values())
        if order == "updated":
            records = [r for r in records if r.updated_index >= start]
            records.sort(key=lambda r: r.updated_index)
        else:
            records = [r for r in records if r.created_index >= start]
        return records[:limit]

    def delete(self, label: str, status: str, *, description_only: bool) -> dict[str, Any]:
        """Delete an invoice that has the stated status, and answer its fields.

        With `description_only` it stays and loses its description. Raises RpcError 905, 906, 908.
        """
        record = self.with_label(label)
        if record is None:
            raise RpcError(INVOICE_NOT_FOUND, "Unknown invoice")
        if record.status != status:
            raise RpcError(
                INVOICE_STATUS_UNEXPECTED,
                f"Invoice status is {record.status} not {status}",
                {"current_status": record.status, "expected_status": status},
            )
        if description_only:
            if record.description is None:
                raise RpcError(INVOICE_NO_DESCRIPTION, "Invoice description already removed")
            record.description = None
            answer = record.as_json()  # lightningd answers from what it read before the change
            record.updated_index = self._next_update()
            return answer
        del self._by_label[label], self._by_hash[record.payment_hash]
        self._by_pay_index.pop(record.pay_index, None)
        self._tell(record, None)
        return record.as_json()

    def check_payment(self, payment_hash: bytes, secret: bytes, amount_msat: int) -> InvoiceRecord:
        """The unpaid invoice that such a payment settles. Raises PaymentRefusedError."""
        record = self.with_hash(payment_hash)
        if record is None or record.status != "unpaid":
            raise PaymentRefusedError
        if secret != payment_secret(record.preimage):
            raise PaymentRefusedError
        wanted_msat = record.amount_msat
        if wanted_msat is not None and not wanted_msat <= amount_msat <= 2 * wanted_msat:
            raise PaymentRefusedError
        return record

    def settle(self, payment_hash: bytes, secret: bytes, amount_msat: int) -> bytes:
        """Mark the invoice paid and give its preimage. Raises PaymentRefusedError."""
        record = self.check_payment(payment_hash, secret, amount_msat)
        self._paid += 1
        record.status = "paid"
        record.pay_index = self._paid
        record.received_msat = amount_msat
        record.paid_at = int(self._clock())
        record.updated_index = self._next_update()
        self._by_pay_index[record.pay_index] = record
        waiters, self._any_waiters = self._any_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(record)
        self._tell(record, record)
        return record.preimage

    def next_paid(self, last_pay_index: int) -> InvoiceRecord | None:
        """The paid invoice with the lowest pay index above the given one."""
        self.expire()
        if last_pay_index >= self._paid:
            return None
        following = (
            i for i in range(max(0, last_pay_index) + 1, self._paid + 1) if i in self._by_pay_index
        )
        found = next(following, None)
        return None if found is None else self._by_pay_index[found]

    def when_any_paid(self) -> asyncio.Future[InvoiceRecord]:
        """Done when the next invoice is paid."""
        waiter: asyncio.Future[InvoiceRecord] = asyncio.get_running_loop().create_future()
        self._any_waiters.append(waiter)
        waiter.add_done_callback(self._forget_any)
        return waiter

    def _forget_any(self, waiter: asyncio.Future[InvoiceRecord]) -> None:
        if waiter in self._any_waiters:
            self._any_waiters.remove(waiter)

    def when_resolved(self, label: str) -> asyncio.Future[InvoiceRecord | None]:
        """Done when that invoice is paid or expired (the record), or deleted (None)."""
        waiter: asyncio.Future[InvoiceRecord | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(label, []).append(waiter)
        return waiter

    def _tell(self, record: InvoiceRecord, outcome: InvoiceRecord | None) -> None:
        for waiter in self._waiters.pop(record.label, ()):
            if not waiter.done():
                waiter.set_result(outcome)
