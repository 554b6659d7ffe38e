"""Reading invoices offline: what other writers write, and what two readers could disagree on."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyln.proto.invoice import Invoice as PylnInvoice

from lnlab.nodes.embedded.lightning import bolt11 as lab
from lnliquid.buyer.bolt11 import InvoiceError, decode

from ..buyer_seller import NODE_ID, NODE_KEY, START_TIME, invoice

HASH = bytes(range(32))
RECORDED = (
    "lnert1500n1p4sxpdlsp5vly2f0xzwzz3ld4v0ldy0876ph0axndfz0x00sqrjk0k8u92zwdqpp5r97d3jx4encqcue9vm"
    "v6vse44u8q95vknlregrt924nj9pa3c2dsdq8wdmkzuqxqzjccqpj9qxpqysgqegpu4pceje3uy5zm6gh8ggvpqcs9u2vk"
    "spm8c58wy8kpnwyvh7f3fc7j0fnk74fkqyar6za0lj7xvl0u4z8mgra547ahhtj2eur0e8gpzc9lh5"
)
"""From a real Core Lightning v26.06 (`cln_rpc.json`)."""


def test_an_invoice_of_core_lightning_is_read_as_the_node_reads_it() -> None:
    """Hash, amount and payee are those that the node itself gave for it."""
    read = decode(RECORDED)
    assert read.payment_hash.hex() == (
        "197cd8c8d5ccf00c732566d9a64335af0e02d1969fc7940d6555672287b1c29b"
    )
    assert (read.currency, read.amount_msat) == ("ert", 150_000)
    assert read.payee == "03e40743adea0b3812f8de55946ce51092553ea90bab35f6142d5fdaf930796e41"
    assert read.expires_at == read.created_at + read.expiry_secs


@given(
    amount_msat=st.integers(1, 2_100_000_000_000_000_000),
    expiry_secs=st.integers(1, 604_800),
    cltv_blocks=st.integers(1, 2_016),
    payment_hash=st.binary(min_size=32, max_size=32),
)
@settings(deadline=None, max_examples=60)
def test_what_the_lab_writes_is_read_back(
    amount_msat: int, expiry_secs: int, cltv_blocks: int, payment_hash: bytes
) -> None:
    """Every field survives, for any amount down to one msat."""
    text = lab.encode(
        NODE_KEY,
        amount_msat=amount_msat,
        created_at=START_TIME,
        payment_hash=payment_hash,
        payment_secret=bytes(32),
        description="",
        hash_description=False,
        expiry_secs=expiry_secs,
        min_final_cltv_blocks=cltv_blocks,
    )
    read = decode(text)
    assert (read.amount_msat, read.expiry_secs) == (amount_msat, expiry_secs)
    assert (read.min_final_cltv_blocks, read.payment_hash) == (cltv_blocks, payment_hash)
    assert (read.payee, read.created_at) == (NODE_ID, START_TIME)


def test_defaults_hold_where_fields_are_missing() -> None:
    """Without x and c an invoice lasts an hour and asks for 18 blocks (BOLT 11)."""
    text = PylnInvoice(
        paymenthash=HASH, amount=Decimal("0.001"), currency="bc", tags=[("d", "")], date=START_TIME
    ).encode("07" * 32)
    read = decode(text)
    assert (read.expiry_secs, read.min_final_cltv_blocks) == (3_600, 18)
    assert (read.currency, read.amount_msat) == ("bc", 100_000_000)


@given(
    at=st.integers(0, len(RECORDED) - 1),
    letter=st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1"),
)
@settings(deadline=None, max_examples=100)
def test_a_changed_letter_is_refused(at: int, letter: str) -> None:
    """The checksum covers every letter."""
    text = RECORDED[:at] + letter + RECORDED[at + 1 :]
    if text != RECORDED:
        with pytest.raises(InvoiceError):
            decode(text)


@given(st.text(max_size=60))
@settings(deadline=None)
def test_other_text_is_refused_with_the_one_kind_of_error(text: str) -> None:
    """Nothing but `InvoiceError` comes out, whatever goes in."""
    with pytest.raises(InvoiceError):
        decode(text)


def resigned(hrp: str, data: bytes) -> str:
    """An invoice of these 5-bit groups, with a right signature and checksum."""
    size = (len(data) * 5 + 7) // 8
    value = 0
    for group in data:
        value = value << 5 | group
    message = hrp.encode() + (value << size * 8 - len(data) * 5).to_bytes(size, "big")
    return lab.bech32_encode(hrp, data + lab.to_groups(NODE_KEY.sign_recoverable(message)))


def unsigned(text: str) -> tuple[str, bytes]:
    """Prefix and groups of an invoice, without its signature."""
    split = lab.bech32_decode(text)
    assert split is not None
    return split[0], split[1][:-104]


def test_resigning_alone_changes_nothing() -> None:
    """The helper makes invoices that are fine, so what the next tests refuse is the change."""
    assert decode(resigned(*unsigned(invoice(HASH)))) == decode(invoice(HASH))


def test_a_field_that_stands_twice_is_refused() -> None:
    """Readers differ in which of two payment hashes counts, so neither is believed."""
    hrp, data = unsigned(invoice(HASH))
    second_hash = bytes([1, 52 >> 5, 52 & 31]) + lab.to_groups(b"\x33" * 32)
    with pytest.raises(InvoiceError, match="fields p stand in it more than once"):
        decode(resigned(hrp, data + second_hash))


@pytest.mark.parametrize(
    "prefix",
    [
        "lnert1501p",
        "ln20ert1500n",
        "lnert01500n",
        "lnert1500x",
        "lnert" + "9" * 21,
        "lnert" + "9" * 5_000,  # more than Python reads as a number
    ],
)
def test_an_amount_or_prefix_that_cannot_be_is_refused(prefix: str) -> None:
    """Fractions of an msat, leading zeros, unknown units, digits before the currency, too many."""
    _, data = unsigned(invoice(HASH))
    with pytest.raises(InvoiceError):
        decode(resigned(prefix, data))


def test_fields_that_do_not_fill_the_invoice_are_refused() -> None:
    """A field cut short could hide another one."""
    hrp, data = unsigned(invoice(HASH))
    with pytest.raises(InvoiceError, match="do not add up"):
        decode(resigned(hrp, data + bytes([1, 1, 20, 0])))
