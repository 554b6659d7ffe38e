"""`watchers.invoices`: an invoice that is not the swap's is not made, nor hidden."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lnliquid.config import Settings
from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.reconcile import MakeInvoice
from lnliquid.store.database import Database
from lnliquid.watchers.invoices import Invoices

from ..builders import BUYER, NOW, SELLER, StillClock, make_swap, migrated, settings_values
from ..fakes import FakeLightning

SWAP = make_swap()


class Node(FakeLightning):
    """A node that makes what it is asked for, and may hold an invoice under the swap's label."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Invoice(SWAP.swap_id, InvoiceStatus.ABSENT)
        self.hashes_asked = 0

    async def create_invoice(self, *, label: str, amount_msat: int, **_: object) -> Invoice:
        """As asked."""
        self.hashes_asked += 1
        return Invoice(
            label, InvoiceStatus.UNPAID, "lnert1", SWAP.payment_hash, amount_msat, NOW + 60
        )

    async def invoice(self, label: str) -> Invoice:
        """The one that is held."""
        return self.held


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty one."""
    made = Database(migrated(tmp_path / "seller.sqlite"), StillClock())
    yield made
    made.close()


async def test_no_invoice_is_asked_for_whose_hash_is_not_the_htlcs(
    database: Database, tmp_path: Path
) -> None:
    """With another wallet's keys; with its own it is made."""
    settings, node = Settings(**settings_values(tmp_path)), Node()
    with pytest.raises(BackendRejected, match="payment hash"):
        await Invoices(database, node, BUYER, settings, StillClock()).make(SWAP, MakeInvoice(60))
    assert node.hashes_asked == 0
    invoices = Invoices(database, node, SELLER, settings, StillClock())
    await invoices.make(SWAP, MakeInvoice(60))
    made = invoices.view(SWAP)
    assert made is not None
    assert (node.hashes_asked, made.bolt11) == (1, "lnert1")


@pytest.mark.parametrize(
    "wrong", [{"payment_hash": bytes(32)}, {"amount_msat": 1}], ids=lambda w: next(iter(w))
)
async def test_an_invoice_of_another_is_an_error_in_the_log_once(
    database: Database, tmp_path: Path, wrong: dict[str, object]
) -> None:
    """It names the swap, and neither the invoice nor its hash's preimage."""
    settings, node = Settings(**settings_values(tmp_path)), Node()
    ours = Invoice(
        SWAP.swap_id, InvoiceStatus.UNPAID, "lnert1", SWAP.payment_hash, SWAP.total_price_msat, NOW
    )
    invoices = Invoices(database, node, SELLER, settings, StillClock())
    with capture_logs() as lines:
        node.held = ours
        await invoices.read({SWAP.swap_id})
        invoices.view(SWAP)
    assert lines == []
    node.held = replace(ours, **wrong)  # type: ignore[arg-type]
    with capture_logs() as lines:
        for _ in range(3):
            await invoices.read({SWAP.swap_id})
            invoices.view(SWAP)
    assert [(line["log_level"], line["swap_id"]) for line in lines] == [("error", SWAP.swap_id)]
    assert "lnert1" not in str(lines)
