"""The commands `pay` and `xpay`.

In v26.06 `pay` is carried out by the xpay plugin, with an answer in the old form; so both are one
here. Order of the checks and all texts: plugins/xpay/xpay.c and plugins/askrene of Core Lightning.
"""

import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import params
from .bolt11 import CURRENCY, Invoice, InvoiceError, decode
from .errors import (
    LIGHTNINGD,
    METHOD_NOT_FOUND,
    PAY_INVOICE_EXPIRED,
    RpcError,
    invalid_params,
)
from .params import Param
from .payments import Payment, already_paid
from .routes import MAX_DELAY_BLOCKS

if TYPE_CHECKING:
    from .node import LightningNode

XPAY_PARAMS = (
    Param("invstring", params.invstring, required=True),
    Param("amount_msat", params.msat),
    Param("maxfee", params.msat),
    Param("layers", params.array),
    Param("retry_for", params.number, default=60),
    Param("partial_msat", params.msat),
    Param("maxdelay", params.u32, default=MAX_DELAY_BLOCKS),
    Param("payer_note", params.any_text),
    Param("label", params.label),
    Param("localinvreqid", params.sha256),
    Param("dev_use_shadow", params.boolean, default=True),
)


def _millionths(name: str, value: Any) -> str:
    if not re.fullmatch(r"\d+\.?\d*|\.\d+", params.text_of(value), re.ASCII):
        raise params.bad_param(name, value, "should be a non-negative floating-point number")
    return params.text_of(value)


PAY_PARAMS = (
    Param("bolt11", params.invstring, required=True),
    Param("amount_msat", params.msat),
    Param("label", params.any_text),
    Param("riskfactor", _millionths),
    Param("maxfeepercent", _millionths),
    Param("retry_for", params.number, default=60),
    Param("maxdelay", params.number, default=MAX_DELAY_BLOCKS),
    Param("exemptfee", params.msat),
    Param("localinvreqid", params.sha256),
    Param("exclude", params.array),
    Param("maxfee", params.msat),
    Param("description", params.string),
    Param("partial_msat", params.msat),
    Param("dev_use_shadow", params.boolean, default=True),
)
# What xpay takes over from a `pay`; it passes by any other name without a word.
_TAKEN_OVER = (
    "amount_msat",
    "retry_for",
    "maxfee",
    "partial_msat",
    "maxdelay",
    "label",
    "localinvreqid",
)


@dataclass(frozen=True)
class _Order:
    """What a checked `pay` or `xpay` asks for."""

    invstring: str
    invoice: Invoice
    amount_msat: int
    max_delay_blocks: int
    label: str | None
    old_form: bool


def xpay(node: "LightningNode", given: Any) -> Coroutine[Any, Any, dict[str, Any]]:
    """Pay an invoice. Raises RpcError, at once or when awaited."""
    order = _check(node, params.read_params(given, XPAY_PARAMS), old_form=False)
    return _carry_out(node, order)


def pay(node: "LightningNode", given: Any) -> Coroutine[Any, Any, dict[str, Any]]:
    """Pay an invoice, with the parameters and the answer of the old command."""
    order = _check(node, params.read_params(_as_xpay(given), XPAY_PARAMS), old_form=True)
    return _carry_out(node, order)


def _as_xpay(given: Any) -> dict[str, Any]:
    """The xpay call that stands in for a `pay` (handle_rpc_command in xpay.c)."""
    if isinstance(given, list) and 1 <= len(given) <= 2 and given[0] is not None:
        named = dict(zip(("bolt11", "amount_msat"), given, strict=False))
        named = {name: value for name, value in named.items() if value is not None}
    elif isinstance(given, dict) and "bolt11" in given and not _odd_fee_limits(given):
        named = given
    else:
        # xpay leaves it to the old plugin, which checks the parameters and then refuses.
        _check_as_old_pay(given)
        raise RpcError(METHOD_NOT_FOUND, 'Command "pay" is deprecated')
    call = {"invstring": named["bolt11"]}
    for name in _TAKEN_OVER:
        if name in named:
            call[name] = params.text_of(named[name]) if name == "maxfee" else named[name]
    return call


def _odd_fee_limits(given: dict[str, Any]) -> bool:
    """Whether xpay cannot turn maxfeepercent and exemptfee into one maximum fee."""
    if "maxfeepercent" not in given and "exemptfee" not in given:
        return False
    if "maxfee" in given:
        return True
    try:
        _millionths("maxfeepercent", given.get("maxfeepercent", "0.5"))
        params.msat("exemptfee", given.get("exemptfee", 5000))
        if "amount_msat" in given:
            params.msat("amount_msat", given["amount_msat"])
            return False
        return decode(params.text_of(given["bolt11"])).amount_msat is None
    except (RpcError, InvoiceError):
        return True


def _check_as_old_pay(given: Any) -> None:
    spec = PAY_PARAMS
    if isinstance(given, dict) and "invstring" in given:
        spec = (Param("invstring", params.invstring, required=True), *PAY_PARAMS[1:])
    params.read_params(given, spec)


def _check(node: "LightningNode", asked: dict[str, Any], *, old_form: bool) -> _Order:
    try:
        invoice = decode(asked["invstring"], only_currency=CURRENCY)
    except InvoiceError as error:
        raise invalid_params(f"Invalid bolt11 invoice: {error}") from None
    if asked["localinvreqid"] is not None:
        raise invalid_params("Cannot use localinvreqid with BOLT11 payment")
    if invoice.amount_msat is None and asked["amount_msat"] is None:
        raise invalid_params("amount_msat required")
    if invoice.amount_msat is not None and asked["amount_msat"] is not None:
        raise invalid_params("amount_msat unnecessary")
    amount_msat = invoice.amount_msat if invoice.amount_msat is not None else asked["amount_msat"]
    partial_msat = asked["partial_msat"]
    if partial_msat is not None:
        if partial_msat > amount_msat:
            raise invalid_params(
                f"partial_msat must be less or equal to total amount {amount_msat}msat"
            )
        if partial_msat == 0:
            raise invalid_params("partial_msat must be non-zero")
        if partial_msat < amount_msat:
            raise RpcError(LIGHTNINGD, "the embedded network has no payments by several payers")
    if amount_msat == 0:
        raise invalid_params("Cannot pay bolt11 invoice with zero amount")
    late_secs = int(node.clock()) - invoice.expires_at
    if late_secs > 0:
        raise RpcError(PAY_INVOICE_EXPIRED, f"Invoice expired {late_secs} seconds ago")
    return _Order(
        invstring=asked["invstring"],
        invoice=invoice,
        amount_msat=amount_msat,
        max_delay_blocks=asked["maxdelay"],
        label=asked["label"],
        old_form=old_form,
    )


async def _carry_out(node: "LightningNode", order: _Order) -> dict[str, Any]:
    """Find a way, then pay. An invoice paid before is found out only after a way was found."""
    started_at = node.clock()
    invoice = order.invoice
    channel = node.network.route(
        node,
        invoice.payee,
        order.amount_msat,
        final_cltv_blocks=invoice.min_final_cltv_blocks,
        max_delay_blocks=order.max_delay_blocks,
    )
    earlier = node.payments.earlier_success(invoice.payment_hash, order.amount_msat)
    if earlier is not None:
        if not order.old_form:
            raise already_paid()
        return _answer_again(earlier)
    payment = node.payments.begin(
        bolt11=order.invstring,
        payment_hash=invoice.payment_hash,
        destination=invoice.payee,
        amount_msat=order.amount_msat,
        label=order.label,
    )
    await node.network.send(node, payment, invoice, channel)
    answer: dict[str, Any] = {
        "payment_preimage": payment.preimage,
        "amount_msat": order.amount_msat,
        "amount_sent_msat": order.amount_msat,
    }
    if not order.old_form:
        return answer | {"failed_parts": 0, "successful_parts": 1}
    return answer | {
        "parts": 1,
        "destination": invoice.payee,
        "payment_hash": invoice.payment_hash,
        "status": "complete",
        "created_at": float(started_at),
    }


def _answer_again(payment: Payment) -> dict[str, Any]:
    return {
        "payment_preimage": payment.preimage,
        "status": "complete",
        "amount_msat": payment.amount_msat,
        "amount_sent_msat": payment.amount_msat,
        "destination": payment.destination,
        "payment_hash": payment.payment_hash,
        "created_at": int(payment.created_at),
        "parts": 1,
    }
