"""Payments that one node made: what lightningd's wallet and the listpays command keep of them."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import params
from .bolt11 import CHARSET, CURRENCY, InvoiceError, decode
from .errors import PAY_ALREADY_PAID, PLUGIN_ERROR, RpcError, invalid_params
from .params import Param

PAY_IN_PROGRESS = 200
PAY_RHASH_ALREADY_USED = 201
_ERROR_ONION_BYTES = 292  # BOLT 4: HMAC, two lengths, message and padding
_STATUSES = ("pending", "complete", "failed")

LIST_PARAMS = (
    Param("bolt11", params.invstring),
    Param("payment_hash", params.sha256),
    Param("status", params.any_text),
    Param("index", params.any_text),
    Param("start", params.u64, default=0),
    Param("limit", params.u32),
)
"""Parameters of listpays and of listsendpays."""


@dataclass
class Payment:
    """One attempt to pay an invoice, in one part: the embedded network never splits or retries."""

    created_index: int
    group_id: int
    bolt11: str
    payment_hash: str
    destination: str
    amount_msat: int
    label: str | None
    created_at: float
    status: str = "pending"
    completed_at: int = 0
    updated_index: int = 0
    preimage: str = ""
    error_onion: str = ""
    ended_at: float = 0.0

    def as_pay(self, *, lingers: bool = False) -> dict[str, Any]:
        """An entry of listpays. A failed one that `lingers` is still told as pending."""
        entry: dict[str, Any] = {
            "bolt11": self.bolt11,
            "destination": self.destination,
            "payment_hash": self.payment_hash,
            "status": "pending" if lingers else self.status,
            "created_at": int(self.created_at),
        }
        if self.status == "complete":
            entry["completed_at"] = self.completed_at
        if self.label is not None:
            entry["label"] = self.label
        if self.status == "complete":
            entry["preimage"] = self.preimage
        # Failed parts are not summed up.
        if self.status != "failed":
            entry["amount_msat"] = self.amount_msat
        entry["amount_sent_msat"] = 0 if self.status == "failed" else self.amount_msat
        return entry | self._indexes()

    def as_sendpay(self) -> dict[str, Any]:
        """An entry of listsendpays."""
        entry: dict[str, Any] = {
            "created_index": self.created_index,
            "id": self.created_index,
            "payment_hash": self.payment_hash,
            "groupid": self.group_id,
            **({"updated_index": self.updated_index} if self.updated_index else {}),
            "partid": 1,
            "destination": self.destination,
            "amount_msat": self.amount_msat,
            "amount_sent_msat": self.amount_msat,
            "created_at": int(self.created_at),
        }
        if self.status != "pending":
            entry["completed_at"] = self.completed_at
        entry["status"] = self.status
        if self.status == "complete":
            entry["payment_preimage"] = self.preimage
        if self.label is not None:
            entry["label"] = self.label
        entry["bolt11"] = self.bolt11
        if self.status == "failed":
            entry["erroronion"] = self.error_onion
        return entry

    def _indexes(self) -> dict[str, int]:
        indexes = {"created_index": self.created_index}
        if self.updated_index:
            indexes["updated_index"] = self.updated_index
        return indexes


class PaymentBook:
    """All payments of a node, oldest first."""

    def __init__(self, clock: Callable[[], float], linger_secs: float = 0.0) -> None:
        self._clock = clock
        self._linger_secs = linger_secs
        self._payments: list[Payment] = []
        self._by_hash: dict[str, list[Payment]] = {}
        self._updated = 0

    def begin(
        self,
        *,
        bolt11: str,
        payment_hash: str,
        destination: str,
        amount_msat: int,
        label: str | None,
    ) -> Payment:
        """Record a pending payment."""
        payment = Payment(
            created_index=len(self._payments) + 1,
            group_id=secrets.randbits(62),
            bolt11=bolt11,
            payment_hash=payment_hash,
            destination=destination,
            amount_msat=amount_msat,
            label=label,
            created_at=self._clock(),
        )
        self._payments.append(payment)
        self._by_hash.setdefault(payment_hash, []).append(payment)
        return payment

    def complete(self, payment: Payment, preimage: bytes) -> None:
        """The payee showed the preimage."""
        payment.preimage = preimage.hex()
        self._finish(payment, "complete")

    def fail(self, payment: Payment) -> None:
        """The payment came back, with an error that only its sender could read."""
        payment.error_onion = secrets.token_hex(_ERROR_ONION_BYTES)
        self._finish(payment, "failed")

    def _finish(self, payment: Payment, status: str) -> None:
        self._updated += 1
        payment.status = status
        payment.updated_index = self._updated
        payment.ended_at = self._clock()
        payment.completed_at = int(payment.ended_at)

    def lingers(self, payment: Payment) -> bool:
        """Whether a failed payment is told as pending yet: xpay answers before it tidies up."""
        passed_secs = self._clock() - payment.ended_at
        return payment.status == "failed" and passed_secs < self._linger_secs

    def earlier_success(self, payment_hash: str, amount_msat: int) -> Payment | None:
        """The payment of that hash that succeeded, None when there is none and a new one may start.

        Raises RpcError -3, with the text that xpay makes of lightningd's refusal, when one is still
        under way or succeeded with another amount (check_progress in lightningd/pay.c).
        """
        for payment in self._by_hash.get(payment_hash, ()):
            if payment.status == "complete":
                if payment.amount_msat != amount_msat:
                    raise _refused(
                        PAY_RHASH_ALREADY_USED,
                        f"Already succeeded with amount {payment.amount_msat}msat "
                        f"(not {amount_msat}msat)",
                    )
                return payment
            if payment.status == "pending":
                raise _refused(
                    PAY_IN_PROGRESS,
                    f"Payment with groupid={payment.group_id} still in progress, "
                    "cannot retry before that completes.",
                )
        return None

    def listed(self, given: Any) -> list[Payment]:
        """What listpays and listsendpays show for those parameters. Raises RpcError -32602."""
        asked = params.read_params(given, LIST_PARAMS)
        _check_paging(asked)
        if asked["status"] is not None and asked["status"] not in _STATUSES:
            raise params.bad_param("status", asked["status"], "should be an invoice status")
        if asked["index"] is not None:
            params.index("index", asked["index"])
        payment_hash = _asked_hash(asked)
        if payment_hash is not None:
            # As in lightningd, a hash makes the status not matter.
            return list(self._by_hash.get(payment_hash, ()))
        found = [p for p in self._payments if asked["status"] in (None, p.status)]
        if asked["index"] == "updated":
            found.sort(key=lambda p: p.updated_index)
            found = [p for p in found if p.updated_index >= asked["start"]]
        else:
            found = [p for p in found if p.created_index >= asked["start"]]
        return found[: asked["limit"]]


def _check_paging(asked: dict[str, Any]) -> None:
    if asked["start"] and asked["index"] is None:
        raise invalid_params("Can only specify {start} with {index}")
    if asked["limit"] is not None and asked["index"] is None:
        raise invalid_params("Can only specify {limit} with {index}")


def _asked_hash(asked: dict[str, Any]) -> str | None:
    if asked["payment_hash"] is not None and asked["bolt11"] is not None:
        raise invalid_params("Can only specify one of {bolt11} or {payment_hash}")
    if asked["start"] and (asked["payment_hash"] or asked["bolt11"]):
        raise invalid_params("Cannot use start with bolt11 or payment_hash")
    if asked["bolt11"] is not None:
        try:
            return decode(asked["bolt11"], only_currency=CURRENCY).payment_hash
        except InvoiceError:
            raise invalid_params(f"Invalid invstring: {_not_bolt12(asked['bolt11'])}") from None
    payment_hash: str | None = asked["payment_hash"]
    return payment_hash


def _not_bolt12(text: str) -> str:
    """Why the text is no BOLT 12 invoice, which lightningd tries last and tells about."""
    prefix, one, rest = text.partition("1")
    if not one or any(c not in CHARSET for c in rest):
        return "invalid bech32 string"
    return f"unexpected prefix {prefix}"


def _refused(code: int, message: str) -> RpcError:
    inner = json.dumps({"code": code, "message": message}, separators=(",", ":"))
    return RpcError(PLUGIN_ERROR, f"Unexpected injectpaymentonion error {code}: {inner}")


def already_paid() -> RpcError:
    """What xpay, unlike pay, answers for an invoice that this node has paid."""
    return RpcError(PAY_ALREADY_PAID, "Already paid this invoice successfully")
