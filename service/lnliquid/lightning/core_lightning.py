"""Core Lightning: `CoreLightning` fits `ports.SellerLightning` and `ports.BuyerLightning`.

Fields and error codes: Core Lightning v26.06, `doc/schemas/*.json` and `common/jsonrpc_errors.h`;
recorded answers are in the vectors `cln_rpc.json`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lnliquid.domain.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import Invoice, InvoiceStatus, NodeInfo, Payment, PaymentStatus
from lnliquid.lightning.rpc import DaemonCalls, Fate, NodeRpc, NoThread, Outcome

T = TypeVar("T")

BACKEND = "core-lightning"

LABEL_EXISTS, PREIMAGE_EXISTS = 900, 901
WAIT_TIMED_OUT = 904
INVOICE_NOT_FOUND, INVOICE_STATUS_DIFFERS = 905, 906
NOT_UNDERSTOOD = frozenset({-32600, -32601, -32602})
"""JSON-RPC 2.0: the request was wrong and nothing was done."""
PAY_IN_PROGRESS = 200
PAY_CODES = range(200, 300)
"""`pay` says itself why it gave up; any other code is an accident of unknown extent."""

TAKES_HTLCS = frozenset({"CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE"})
"""States in which a channel takes HTLCs (`channel_state_can_add_htlc` in lightningd/channel.h)."""

MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
"""What reading an answer of the wrong form raises; the texts repeat what was read."""

SYNC_WARNINGS = ("warning_bitcoind_sync", "warning_lightningd_sync")
"""Fields that `getinfo` has while the node, or its chain's, is behind."""

SHORT_CALLS, LONG_CALLS = 8, 16
MARGIN_SECS = 1.0
"""A call has a deadline of its own and ends by it, unless the system does not answer at all."""


class CoreLightning:
    """Client of one node. Errors of every call: the three kinds of `BackendError`.

    `socket_path` is the node's `lightning-rpc`. Each call has `deadline_secs`, those that wait by
    themselves their waiting time besides; they have threads of their own, so that they never keep
    short calls waiting.
    """

    def __init__(self, socket_path: Path, *, deadline_secs: float = 15) -> None:
        self._socket_path = socket_path
        self._deadline_secs = deadline_secs
        self._rpc = NodeRpc(socket_path)
        self._short, self._long = DaemonCalls(SHORT_CALLS), DaemonCalls(LONG_CALLS)
        self._paying_until: dict[bytes, float] = {}  # payment hash → time.monotonic()

    async def close(self) -> None:
        """End calls under way (`BackendTimeout`); later ones get `BackendUnavailable`."""
        self._rpc.shutdown()

    # -- the node -------------------------------------------------------------------------------

    async def info(self) -> NodeInfo:
        """See `ports`. `network` is Core Lightning's name of the chain."""
        result = await self._ask("getinfo", {})
        return _read(
            "getinfo",
            lambda: NodeInfo(
                node_id=str(result["id"]),
                network=str(result["network"]),
                version=str(result["version"]),
                block_height=int(result["blockheight"]),
                sync_problem=" ".join(str(result[w]) for w in SYNC_WARNINGS if w in result),
            ),
        )

    async def receivable_msat(self) -> int:
        """See `ports`. Usable: it takes HTLCs, and its peer is connected."""
        return await self._channel_total("receivable_msat", _their_change_msat)

    async def spendable_msat(self) -> int:
        """What usable channels can send now, in total."""
        return await self._channel_total("spendable_msat", _our_change_msat)

    async def _channel_total(
        self, amount: str, change_msat: Callable[[dict[str, Any], dict[str, Any]], int]
    ) -> int:
        """An HTLC must fit every version of a channel that is being spliced: the least counts."""
        result = await self._ask("listpeerchannels", {})
        return _read(
            "listpeerchannels",
            lambda: sum(
                max(
                    0,
                    int(c[amount]) + min([0, *(change_msat(c, i) for i in c.get("inflight", ()))]),
                )
                for c in result["channels"]
                if c["state"] in TAKES_HTLCS and c["peer_connected"]
            ),
        )

    async def options(self) -> dict[str, bool | int | str]:
        """See `ports`. Empty for a node older than v23.08, whose `listconfigs` has another form."""
        result = await self._ask("listconfigs", {})
        return _read("listconfigs", lambda: dict(_options(result.get("configs", {}))))

    async def decode(self, string: str) -> dict[str, Any]:
        """What the node reads from an invoice (or another string it knows); see CLN `decode`."""
        result = await self._ask("decode", {"string": string})
        if not isinstance(result, dict):
            _malformed("decode")
        return result

    # -- invoices -------------------------------------------------------------------------------

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
        """See `ports`. The one that is returned may be paid or expired already: look at it."""
        payload = {
            "label": label,
            "amount_msat": amount_msat,
            "preimage": preimage.hex(),
            "description": description,
            "expiry": expiry_secs,
            "cltv": cltv_blocks,
            # No address on the chain, however the node is set: paid there, it would be marked
            # paid and the payer would not get the preimage.
            "fallbacks": [],
        }
        exists_code = None
        try:
            result = await self._ask("invoice", payload)
        except BackendRejected as rejected:
            if rejected.code not in (LABEL_EXISTS, PREIMAGE_EXISTS):
                raise
            exists_code = rejected.code
        if exists_code is None:
            told = {"label": label, "status": "unpaid", "amount_msat": amount_msat}
            invoice = _read(
                "invoice", lambda: _invoice(told | result | {"bolt11": result["bolt11"]})
            )
        else:
            invoice = await self.invoice(label)
        payment_hash = hashlib.sha256(preimage).digest()
        if (invoice.payment_hash, invoice.amount_msat) != (payment_hash, amount_msat):
            raise BackendRejected(
                BACKEND,
                f"invoice {label!r} cannot be made: its label or preimage belongs to another one",
                exists_code,
            )
        return invoice

    async def invoice(self, label: str) -> Invoice:
        """See `ports`."""
        result = await self._ask("listinvoices", {"label": label})
        found = _read("listinvoices", lambda: [_invoice(entry) for entry in result["invoices"]])
        if not found:
            return Invoice(label, InvoiceStatus.ABSENT)
        if len(found) > 1 or found[0].label != label:
            _malformed("listinvoices")
        return found[0]

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """See `ports`. `ValueError` for ABSENT."""
        if status is InvoiceStatus.ABSENT:
            raise ValueError("an absent invoice cannot be deleted")
        try:
            await self._ask("delinvoice", {"label": label, "status": status.value})
        except BackendRejected as rejected:
            if rejected.code in (INVOICE_NOT_FOUND, INVOICE_STATUS_DIFFERS):
                return False
            raise
        return True

    async def wait_paid(self, after_pay_index: int, wait_secs: int) -> Invoice | None:
        """See `ports`."""
        payload = {"lastpay_index": after_pay_index, "timeout": wait_secs}
        try:
            result = await self._ask("waitanyinvoice", payload, wait_secs)
        except BackendRejected as rejected:
            if rejected.code == WAIT_TIMED_OUT:
                return None
            raise
        return _read("waitanyinvoice", lambda: _invoice(result))

    # -- payments -------------------------------------------------------------------------------

    async def pay(
        self, bolt11: str, *, max_delay_blocks: int, max_fee_msat: int, wait_secs: int
    ) -> Payment:
        """See `ports`. `wait_secs` is for how long the node tries anew (`retry_for`).

        The node reports a failure even while parts of the payment are in flight, and once in a
        while after it has succeeded. So FAILED is only returned when `listpays` agrees;
        `BackendRejected` means that the node did not start, as the request was wrong.
        """
        payment_hash = await self._payment_hash(bolt11)
        limits = {"maxdelay": max_delay_blocks, "maxfee": max_fee_msat, "retry_for": wait_secs}
        # Also when nobody waits for the answer any more, the node goes on trying until then.
        self._paying_until[payment_hash] = time.monotonic() + wait_secs + self._deadline_secs
        try:
            result = await self._pay(bolt11, limits, wait_secs)
        except BackendUnavailable:
            self._paying_until.pop(payment_hash, None)
            raise
        except BackendRejected as rejected:
            self._paying_until.pop(payment_hash, None)
            if rejected.code in NOT_UNDERSTOOD:
                raise
            return await self._after_refusal(payment_hash, rejected)
        self._paying_until.pop(payment_hash, None)
        with suppress(*MALFORMED):
            complete = {"status": PaymentStatus.COMPLETE.value}  # `xpay` says it by its answer
            paid = complete | dict(result, preimage=result["payment_preimage"])
            return _payment([paid], payment_hash)
        raise BackendTimeout(BACKEND, "the answer to pay cannot be read")

    async def _pay(self, bolt11: str, limits: dict[str, int], wait_secs: int) -> Any:
        """`xpay`; `pay` where the node has none, or one that knows no `maxdelay` (before v25.02).

        Nothing was done then. After any other answer, or none, nothing is tried again.
        """
        try:
            return await self._ask("xpay", {"invstring": bolt11, **limits}, wait_secs)
        except BackendRejected as rejected:
            if rejected.code not in NOT_UNDERSTOOD:
                raise
        return await self._ask("pay", {"bolt11": bolt11, **limits}, wait_secs)

    async def _payment_hash(self, bolt11: str) -> bytes:
        decoded = await self.decode(bolt11)
        if decoded.get("type") != "bolt11 invoice" or decoded.get("valid") is not True:
            raise BackendRejected(BACKEND, "not a valid BOLT11 invoice")
        return _read("decode", lambda: bytes.fromhex(decoded["payment_hash"]))

    async def _after_refusal(self, payment_hash: bytes, refusal: BackendRejected) -> Payment:
        """What a payment has come to, when `pay` says that it gave up."""
        try:
            seen = await self.payment(payment_hash)
        except BackendError as error:
            raise BackendTimeout(
                BACKEND, f"pay failed ({refusal.message}), and listpays as well ({error.message})"
            ) from None
        if seen.status in (PaymentStatus.COMPLETE, PaymentStatus.PENDING):
            return seen
        if refusal.code == PAY_IN_PROGRESS:
            return Payment(PaymentStatus.PENDING)
        if refusal.code in PAY_CODES:
            return Payment(PaymentStatus.FAILED, failure=refusal.message)
        raise BackendTimeout(BACKEND, f"pay failed with code {refusal.code}: {refusal.message}")

    async def payment(self, payment_hash: bytes) -> Payment:
        """See `ports`. While a `pay` that was started here may still try, nothing is FAILED.

        After a restart of this process that is not known any more: FAILED and ABSENT are only final
        once the `wait_secs` of the last `pay` are over.
        """
        result = await self._ask("listpays", {"payment_hash": payment_hash.hex()})
        payment = _read("listpays", lambda: _payment(result["pays"], payment_hash))
        if payment.status in (PaymentStatus.FAILED, PaymentStatus.ABSENT):
            if time.monotonic() < self._paying_until.get(payment_hash, 0):
                return Payment(PaymentStatus.PENDING)
            self._paying_until.pop(payment_hash, None)
        return payment

    # -- calls ----------------------------------------------------------------------------------

    async def _ask(self, method: str, payload: dict[str, Any], wait_secs: float = 0) -> Any:
        calls = self._long if wait_secs else self._short
        timeout_secs = self._deadline_secs + wait_secs
        call = partial(self._rpc.call, method, payload, timeout_secs=timeout_secs)
        try:
            outcome: Outcome = await calls.run(
                call, self._deadline_secs, timeout_secs + MARGIN_SECS
            )
        except NoThread:
            raise BackendUnavailable(BACKEND, f"{method}: too many calls under way") from None
        except TimeoutError:
            raise BackendTimeout(BACKEND, f"{method}: the system hangs") from None
        match outcome.fate:
            case Fate.ANSWERED:
                return outcome.result
            case Fate.REFUSED:
                # Core Lightning repeats a parameter that it does not like.
                secret = payload.get("preimage")
                reason = outcome.reason.replace(secret, "…") if secret else outcome.reason
                raise BackendRejected(BACKEND, f"{method}: {reason}", outcome.code)
            case Fate.NOT_SENT:
                where = self._socket_path
                raise BackendUnavailable(BACKEND, f"{method}: {where}: {outcome.reason}")
            case Fate.UNKNOWN:
                raise BackendTimeout(BACKEND, f"{method}: {outcome.reason}")


def _malformed(method: str) -> NoReturn:
    raise BackendRejected(BACKEND, f"malformed answer to {method}")


def _read(method: str, read: Callable[[], T]) -> T:
    """Read an answer's fields; `BackendRejected` when they are not what they must be."""
    with suppress(*MALFORMED):
        return read()
    _malformed(method)  # not from the except: its text, which may hold a preimage, stays behind


def _our_change_msat(_channel: dict[str, Any], splice: dict[str, Any]) -> int:
    return 1000 * int(splice.get("splice_amount", 0))


def _their_change_msat(channel: dict[str, Any], splice: dict[str, Any]) -> int:
    total_change_msat = int(splice["total_funding_msat"]) - int(channel["total_msat"])
    return total_change_msat - _our_change_msat(channel, splice)


def _options(configs: dict[str, dict[str, Any]]) -> Iterator[tuple[str, bool | int | str]]:
    """A flag has `set`, an option `value_` and its type; one that may be repeated is left out."""
    for name, entry in configs.items():
        for key, value in entry.items():
            if (key == "set" or key.startswith("value_")) and value is not False:
                yield name, value


def _invoice(entry: dict[str, Any]) -> Invoice:
    amount_msat, pay_index = entry.get("amount_msat"), entry.get("pay_index")
    bolt11 = entry.get("bolt11")  # an invoice of an offer has `bolt12` in its place
    return Invoice(
        label=str(entry["label"]),
        status=InvoiceStatus(entry["status"]),
        bolt11=None if bolt11 is None else str(bolt11),
        payment_hash=bytes.fromhex(entry["payment_hash"]),
        amount_msat=None if amount_msat is None else int(amount_msat),
        expires_at=int(entry["expires_at"]),
        pay_index=None if pay_index is None else int(pay_index),
    )


def _payment(attempts: list[dict[str, Any]], payment_hash: bytes) -> Payment:
    """One answer from all attempts. `ValueError` when a preimage is not that of the hash."""
    statuses = {PaymentStatus(attempt["status"]) for attempt in attempts}
    if PaymentStatus.COMPLETE in statuses:
        done = next(a for a in attempts if a["status"] == PaymentStatus.COMPLETE.value)
        preimage = bytes.fromhex(done["preimage"])
        if hashlib.sha256(preimage).digest() != payment_hash:
            raise ValueError
        sent_msat = done.get("amount_sent_msat")
        sent_msat = None if sent_msat is None else int(sent_msat)
        return Payment(PaymentStatus.COMPLETE, preimage, sent_msat)
    if PaymentStatus.PENDING in statuses:
        return Payment(PaymentStatus.PENDING)
    if statuses:
        return Payment(PaymentStatus.FAILED, failure="every attempt failed")
    return Payment(PaymentStatus.ABSENT)
