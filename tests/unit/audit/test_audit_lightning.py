"""The audit's third way: every inconsistency planted in Core Lightning is found and explained."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from lnliquid.audit.evidence import ChainPicture
from lnliquid.audit.explanations import EXPLANATIONS
from lnliquid.audit.report import Report, audit
from lnliquid.audit.snapshot import take_audit
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.swap import InvoiceMark
from lnliquid.liquid.keys import CHANGE, RECEIVE

from ..builders import NOW, POLICY_ASSET, ROOT, SELLER
from ..fakes import FakeLightning
from .test_audit import TIP, Backend, Store, World, wallet_script


class Node:
    """The world's Lightning node: swap 0 can be paid, 1 was paid; fields may be bent."""

    def __init__(self) -> None:
        self.world = World()
        self.invoices: dict[str, Invoice] = {
            s.swap_id: Invoice(s.swap_id, InvoiceStatus.ABSENT) for s in self.world.swaps
        }
        for number, mark in enumerate(
            (InvoiceMark.ASKED, InvoiceMark.PAID, InvoiceMark.REFUNDING, InvoiceMark.NONE)
        ):
            self.world.bend_swap(number, invoice_mark=mark)
        self.put(0, InvoiceStatus.UNPAID)
        self.put(1, InvoiceStatus.PAID)
        for number in (0, 1):
            self.world.bend_swap(number, bolt11="lnert0", invoice_expires_at=NOW)

    def put(self, number: int, status: InvoiceStatus, **changes: object) -> None:
        """Give a swap an invoice, with any field bent."""
        swap = self.world.swaps[number]
        invoice = Invoice(
            swap.swap_id, status, "lnert0", swap.payment_hash, swap.total_price_msat, NOW
        )
        self.invoices[swap.swap_id] = replace(invoice, **changes)  # type: ignore[arg-type]

    def remove(self, number: int) -> None:
        """Somebody deletes the invoice of a swap."""
        swap_id = self.world.swaps[number].swap_id
        self.invoices[swap_id] = Invoice(swap_id, InvoiceStatus.ABSENT)

    def lose_paid(self) -> None:
        """The store has seen the payment of swap 0; then somebody deletes the invoice."""
        self.world.bend_swap(0, invoice_mark=InvoiceMark.PAID)
        self.remove(0)

    def report(self) -> Report:
        """What the audit says of store, chain and this node."""
        scripts = {wallet_script(b, i) for b in (RECEIVE, CHANGE) for i in range(10)}
        picture = ChainPicture(TIP, frozenset(scripts), self.world.transactions)
        return audit(self.world.store(), picture, POLICY_ASSET, self.invoices)


def test_a_sound_node_is_exact() -> None:
    """One invoice that can be paid, one that was, one deleted, one never asked for."""
    report = Node().report()
    assert report.differences == ()
    assert report.notes == ()


def test_an_invoice_that_ran_out_is_no_difference() -> None:
    """It is kept until the lock height, so that what happened can be looked up."""
    node = Node()
    node.put(0, InvoiceStatus.EXPIRED)
    assert node.report().is_exact


def test_a_refund_that_the_operator_ordered_is_no_difference() -> None:
    """Paid and refunded by agreement with the buyer."""
    node = Node()
    node.world.bend_swap(2, invoice_mark=InvoiceMark.PAID, forced_refund_reason="ticket 71")
    node.put(2, InvoiceStatus.PAID)
    assert node.report().is_exact


def test_a_lost_invoice_is_a_note() -> None:
    """The store says itself that it waits for the operator."""
    node = Node()
    node.world.bend_swap(0, invoice_mark=InvoiceMark.LOST)
    node.remove(0)
    report = node.report()
    assert report.is_exact
    assert any("not refunded without your word" in note for note in report.notes)


def bend(number: int, **changes: object) -> Callable[[Node], None]:
    """Change the record of a swap."""
    return lambda node: node.world.bend_swap(number, **changes)


def put(number: int, status: InvoiceStatus, **changes: object) -> Callable[[Node], None]:
    """Change the invoice of a swap."""
    return lambda node: node.put(number, status, **changes)


UNPAID, PAID, EXPIRED = InvoiceStatus.UNPAID, InvoiceStatus.PAID, InvoiceStatus.EXPIRED
PLANTED: dict[str, tuple[Callable[[Node], None], str]] = {
    "a shown invoice that somebody deleted": (
        lambda n: n.remove(0), "deleted in Lightning by another process",
    ),
    "a payment that the store missed": (put(0, PAID), "is paid; the store has it as ASKED"),
    "paid by the store, not by the node": (
        bend(0, invoice_mark=InvoiceMark.PAID), "is unpaid; the store has it as paid",
    ),
    "paid, then removed": (
        lambda n: n.lose_paid(),
        "Lightning has it no more",
    ),
    "paid and refunded": (put(2, PAID), "is paid, and the swap was refunded"),
    "paid and nothing is locked": (put(3, PAID), "nothing is locked for the buyer"),
    "paid for a swap that failed": (put(4, PAID), "FAILED: nothing is locked"),
    "claimed without a payment": (put(1, UNPAID), "got out without a payment"),
    "claimed, and it ran out": (put(1, EXPIRED), "is expired, and the swap was claimed"),
    "another payment hash": (put(0, UNPAID, payment_hash=bytes(32)), "another payment hash"),
    "another amount": (put(0, UNPAID, amount_msat=1), "asks for 1 msat"),
    "another invoice than the one shown": (put(0, UNPAID, bolt11="x"), "not the one"),
    "another expiry": (put(0, UNPAID, expires_at=NOW + 9), f"expires at {NOW + 9}"),
    "payable before the lock": (put(3, UNPAID), "CREATED: nothing is locked"),
    "payable after the refund": (put(2, UNPAID), "REFUNDED: nothing is locked"),
    "payable, never asked for": (bend(0, invoice_mark=InvoiceMark.NONE), "never asked for it"),
    "payable, held for deleted": (bend(0, invoice_mark=InvoiceMark.CLOSED), "as CLOSED"),
}  # fmt: skip
"""What goes wrong, and words of what the audit says."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_inconsistency_of_lightning_is_named(name: str) -> None:
    """Each one is found, in words that say what it is, and nothing else is."""
    plant, words = PLANTED[name]
    node = Node()
    plant(node)
    report = node.report()
    assert [(d.rule, words in d.text) for d in report.differences] == [("invoice", True)]


def test_every_rule_is_explained() -> None:
    """What it can come from and what to do: for each rule that a difference may name."""
    source = "".join(path.read_text() for path in (ROOT / "service/lnliquid/audit").glob("*.py"))
    rules = set(re.findall(r'(?:Difference|Statement)\(\s*"([^"]+)"', source))
    assert rules == set(EXPLANATIONS)


class Answering(FakeLightning):
    """A node that answers for all labels at once."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    async def invoices(self, labels: object) -> dict[str, Invoice]:
        """As the node has them."""
        return self._node.invoices


async def test_the_reading_asks_lightning() -> None:
    """Over the ports; and a reading without it says that nobody was asked."""
    node = Node()
    node.put(2, PAID)
    store, chain = Store(node.world.store()), Backend(node.world)
    report = await take_audit(store.read, chain, SELLER, settle_secs=0, lightning=Answering(node))
    assert [d.rule for d in report.differences] == ["invoice"]
    report = await take_audit(store.read, chain, SELLER, settle_secs=0)
    assert report.is_exact
    assert any("was not asked" in note for note in report.notes)
