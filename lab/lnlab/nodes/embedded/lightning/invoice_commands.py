"""The commands on invoices: invoice, listinvoices, delinvoice, waitinvoice and waitanyinvoice.

Parameters, checks, texts and their order: lightningd/invoice.c of Core Lightning v26.06.
"""

import asyncio
import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from . import bolt11, params
from .errors import (
    INVOICE_EXPIRED_DURING_WAIT,
    INVOICE_HINTS_GAVE_NO_ROUTES,
    INVOICE_WAIT_TIMED_OUT,
    LIGHTNINGD,
    RpcError,
    invalid_params,
)
from .invoices import InvoiceRecord, payment_secret
from .params import Param, read_params
from .routes import CLTV_FINAL_BLOCKS

if TYPE_CHECKING:
    from .node import LightningNode

DEFAULT_EXPIRY_SECS = 7 * 24 * 3600
LABEL_LIMIT_BYTES = 128
_EXPIRY_LIMIT_SECS = 2**60 - 1  # more does not fit into the invoice's `x` field
# How often a wait looks whether its invoice has expired by the node's clock.
_LOOK_SECS = 0.05

INVOICE_PARAMS = (
    Param("amount_msat", params.positive_msat_or_any, required=True),
    Param("label", params.label, required=True),
    Param("description", params.string, required=True),
    Param("expiry", params.u64, default=DEFAULT_EXPIRY_SECS),
    Param("fallbacks", params.array),
    Param("preimage", params.preimage),
    Param("exposeprivatechannels", params.anything),
    Param("cltv", params.number, default=CLTV_FINAL_BLOCKS),
    Param("deschashonly", params.boolean, default=False),
    Param("dev-routes", params.array),
)
LISTINVOICES_PARAMS = (
    Param("label", params.label),
    Param("invstring", params.invstring),
    Param("payment_hash", params.sha256),
    Param("offer_id", params.sha256),
    Param("index", params.index),
    Param("start", params.u64, default=0),
    Param("limit", params.u32),
)
DELINVOICE_PARAMS = (
    Param("label", params.label, required=True),
    Param("status", params.any_text, required=True),
    Param("desconly", params.boolean, default=False),
)
WAITINVOICE_PARAMS = (Param("label", params.label, required=True),)
WAITANYINVOICE_PARAMS = (
    Param("lastpay_index", params.wrapped_u64, default=0),
    Param("timeout", params.u64),
)


def invoice(node: "LightningNode", given: Any) -> dict[str, Any]:
    """Make an invoice, with the given preimage or a random one."""
    asked = read_params(given, INVOICE_PARAMS)
    label, description = params.escaped(asked["label"]), asked["description"]
    if len(label.encode()) > LABEL_LIMIT_BYTES:
        raise invalid_params(f"Label '{label}' over {LABEL_LIMIT_BYTES} bytes")
    length = len(description.encode())
    if length > bolt11.DESCRIPTION_LIMIT_BYTES and not asked["deschashonly"]:
        raise invalid_params(
            f"Description greater than {bolt11.DESCRIPTION_LIMIT_BYTES} bytes invalid "
            f"(description length {length})"
        )
    if asked["expiry"] > _EXPIRY_LIMIT_SECS:
        raise params.bad_param("expiry", asked["expiry"], "should be an unsigned 64 bit integer")
    _refuse_hints(node, asked)
    preimage = bytes.fromhex(asked["preimage"]) if asked["preimage"] else secrets.token_bytes(32)
    secret = payment_secret(preimage)
    record = node.invoices.create(
        label=asked["label"],
        bolt11=node.signed_invoice(
            amount_msat=asked["amount_msat"],
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=secret,
            description=description,
            hash_description=asked["deschashonly"],
            expiry_secs=asked["expiry"],
            min_final_cltv_blocks=asked["cltv"],
        ),
        preimage=preimage,
        amount_msat=asked["amount_msat"],
        description=description,
        expiry_secs=asked["expiry"],
    )
    return {
        "payment_hash": record.payment_hash.hex(),
        "expires_at": record.expires_at,
        "bolt11": record.bolt11,
        "payment_secret": secret.hex(),
        "created_index": record.created_index,
        **_warnings(node, asked["amount_msat"] or 1),
    }


def _refuse_hints(node: "LightningNode", asked: dict[str, Any]) -> None:
    """Invoices here carry no fallback address and no route hint: none is taken, nor ignored."""
    if asked["fallbacks"]:
        raise RpcError(LIGHTNINGD, "Fallback address not valid")
    hints = asked["exposeprivatechannels"]
    if hints is None or isinstance(hints, bool):
        return
    wanted = [params.short_channel_id("exposeprivatechannels", h) for h in _listed(hints)]
    if not any(channel.short_channel_id in wanted for channel in node.channels()):
        raise RpcError(
            INVOICE_HINTS_GAVE_NO_ROUTES, "None of those hints were suitable local channels"
        )
    raise RpcError(LIGHTNINGD, "the embedded node makes no route hints")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _warnings(node: "LightningNode", needed_msat: int) -> dict[str, str]:
    """What is said when the node cannot receive the amount (add_routehints).

    A channel whose peer has no other channel is a dead end: only the peer could pay through it.
    """
    available_msat = offline_msat = dead_end_msat = 0
    for channel in node.channels():
        peer_id = channel.other(node.node_id)
        receivable_msat = channel.spendable_msat(peer_id)
        others = [c for c in node.network.channels if peer_id in c.sides and c is not channel]
        if not others:
            dead_end_msat += receivable_msat
        elif node.network.connected(channel):
            available_msat += receivable_msat
        else:
            offline_msat += receivable_msat
    warnings = {}
    if needed_msat >= available_msat + offline_msat + dead_end_msat:
        warnings["warning_capacity"] = "Insufficient incoming channel capacity to pay invoice"
    if needed_msat <= available_msat:
        return warnings
    if needed_msat <= available_msat + offline_msat:
        warnings["warning_offline"] = (
            "Insufficient incoming capacity, once offline peers were excluded"
        )
    elif needed_msat <= available_msat + offline_msat + dead_end_msat:
        warnings["warning_deadends"] = (
            "Insufficient incoming capacity, once dead-end peers were excluded"
        )
    return warnings


def listinvoices(node: "LightningNode", given: Any) -> dict[str, Any]:
    """One invoice by label, payment hash or its text, or all of them."""
    asked = read_params(given, LISTINVOICES_PARAMS)
    label, text, payment_hash = asked["label"], asked["invstring"], asked["payment_hash"]
    if sum(value is not None for value in (label, text, payment_hash, asked["offer_id"])) > 1:
        raise invalid_params(
            "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}"
        )
    if asked["start"] and asked["index"] is None:
        raise invalid_params("Can only specify {start} with {index}")
    if asked["limit"] is not None and asked["index"] is None:
        raise invalid_params("Can only specify {limit} with {index}")
    if text is not None:
        try:
            payment_hash = bolt11.decode(text).payment_hash
        except bolt11.InvoiceError:
            raise invalid_params("Invalid invstring") from None
    book = node.invoices
    if label is not None:
        found = [book.with_label(label)]
    elif payment_hash is not None:
        found = [book.with_hash(bytes.fromhex(payment_hash))]
    elif asked["offer_id"] is not None:
        found = []  # the node makes no offers
    else:
        found = [*book.listed(asked["index"], asked["start"], asked["limit"])]
    return {"invoices": [record.as_json() for record in found if record is not None]}


def delinvoice(node: "LightningNode", given: Any) -> dict[str, Any]:
    """Delete an invoice that has the stated status, or only its description."""
    asked = read_params(given, DELINVOICE_PARAMS)
    return node.invoices.delete(asked["label"], asked["status"], description_only=asked["desconly"])


async def waitinvoice(node: "LightningNode", given: Any) -> dict[str, Any]:
    """Answer when the invoice is paid; RpcError 903 when it expires first, -1 if it is deleted."""
    label = read_params(given, WAITINVOICE_PARAMS)["label"]
    record = node.invoices.with_label(label)
    if record is None:
        raise RpcError(LIGHTNINGD, "Label not found")
    if record.status == "unpaid":
        resolved = node.invoices.when_resolved(label)
        while not (await asyncio.wait({resolved}, timeout=_LOOK_SECS))[0]:
            node.invoices.expire()
        outcome = resolved.result()
        if outcome is None:
            raise RpcError(LIGHTNINGD, "Invoice deleted during wait")
        record = outcome
    if record.status == "expired":
        raise RpcError(INVOICE_EXPIRED_DURING_WAIT, "invoice expired during wait", record.as_json())
    return record.as_json()


async def waitanyinvoice(node: "LightningNode", given: Any) -> dict[str, Any]:
    """Answer with the next invoice paid after the given index; RpcError 904 at the time-out."""
    asked = read_params(given, WAITANYINVOICE_PARAMS)
    record: InvoiceRecord | None = node.invoices.next_paid(asked["lastpay_index"])
    if record is None:
        waiter = node.invoices.when_any_paid()
        try:
            record = await asyncio.wait_for(waiter, asked["timeout"])
        except TimeoutError:
            raise RpcError(
                INVOICE_WAIT_TIMED_OUT, "Timed out while waiting for invoice to be paid"
            ) from None
    return record.as_json()
