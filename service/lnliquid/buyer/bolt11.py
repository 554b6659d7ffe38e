"""Reading a BOLT 11 invoice without a node, more strictly than the node that will pay it.

The signature and the fields are read with pyln-proto. Two readers may disagree about an invoice
that holds a field twice (one takes the first, the other the last), and a seller could use that to
show the buyer one payment hash and have its node pay another; such invoices are refused here.
"""

import re
from collections import Counter
from dataclasses import dataclass

from pyln.proto.bech32 import CHARSET, bech32_decode
from pyln.proto.invoice import Invoice

DEFAULT_EXPIRY_SECS = 3600
DEFAULT_MIN_FINAL_CLTV_BLOCKS = 18

_HRP = re.compile(r"ln([a-z]+)(?:([1-9][0-9]{0,19})([munp]?))?")
_TENTHS_OF_MSAT = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_TIMESTAMP_GROUPS, _SIGNATURE_GROUPS = 7, 104  # of 5 bits
_MAY_REPEAT = frozenset("rf")


class InvoiceError(ValueError):
    """The text is not an invoice that every reader understands in the same way."""


@dataclass(frozen=True, slots=True)
class DecodedInvoice:
    """The fields of an invoice. `payee` is the key that signed it, 66 hex digits.

    `amount_msat` is None when the payer may choose. Times are unix seconds.
    """

    currency: str
    amount_msat: int | None
    payment_hash: bytes
    payee: str
    created_at: int
    expiry_secs: int
    min_final_cltv_blocks: int
    problem: str = ""
    """Of `NO_INVOICE`: why it cannot be read."""

    @property
    def expires_at(self) -> int:
        """From this time on nodes refuse to pay it."""
        return self.created_at + self.expiry_secs


NO_INVOICE = DecodedInvoice("", None, b"", "", 0, 0, 0)
"""Stands for an invoice that is missing or cannot be read; it passes no check."""


def decode(bolt11: str) -> DecodedInvoice:
    """Read an invoice and check its signature. Raises `InvoiceError` with what is wrong."""
    try:
        hrp, groups = bech32_decode(bolt11)
    except ValueError:  # its text repeats the whole invoice
        raise InvoiceError("it is not bech32: a letter is wrong or missing") from None
    prefix = _HRP.fullmatch(hrp)
    if prefix is None:
        raise InvoiceError(f"{hrp!r} is not a prefix of an invoice")
    currency, digits, unit = prefix.groups()
    _refuse_repeated_fields(bytes(groups))
    try:
        invoice = Invoice.decode(bolt11)
    except Exception as error:  # pyln-proto raises many kinds for damaged input
        raise InvoiceError(f"it cannot be read: {error or type(error).__name__}") from None
    if invoice.currency != currency:
        raise InvoiceError("the currency cannot be told")
    if invoice.paymenthash is None:
        raise InvoiceError("it has no payment hash")
    expiry = dict(invoice.tags).get("x", DEFAULT_EXPIRY_SECS)
    cltv = invoice.min_final_cltv_expiry
    return DecodedInvoice(
        currency=currency,
        amount_msat=_amount_msat(digits, unit),
        payment_hash=bytes(invoice.paymenthash),
        payee=str(invoice.hexpubkey),
        created_at=int(invoice.date),
        expiry_secs=int(expiry),
        min_final_cltv_blocks=DEFAULT_MIN_FINAL_CLTV_BLOCKS if cltv is None else int(cltv),
    )


def _amount_msat(digits: str | None, unit: str | None) -> int | None:
    if digits is None:
        return None
    tenths = int(digits) * _TENTHS_OF_MSAT[unit or ""]
    if tenths % 10:
        raise InvoiceError("the amount is not a whole number of msat")
    return tenths // 10


def _refuse_repeated_fields(groups: bytes) -> None:
    fields = groups[_TIMESTAMP_GROUPS:-_SIGNATURE_GROUPS]
    seen: Counter[str] = Counter()
    at = 0
    while at + 3 <= len(fields):
        seen[CHARSET[fields[at]]] += 1
        at += 3 + (fields[at + 1] << 5 | fields[at + 2])
    if at != len(fields):
        raise InvoiceError("its fields do not add up to its length")
    repeated = sorted(tag for tag, count in seen.items() if count > 1 and tag not in _MAY_REPEAT)
    if repeated:
        raise InvoiceError(f"the fields {', '.join(repeated)} stand in it more than once")
