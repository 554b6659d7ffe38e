"""Waiting for payments: none of a swap is passed over, beside other payments of the node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lnlab.wait import wait_for
from lnliquid.config import Settings
from lnliquid.domain.ports import InvoiceStatus
from lnliquid.domain.swap import InvoiceMark, State, Swap, Tip
from lnliquid.lightning.core_lightning import CoreLightning
from lnliquid.store import coins as coin_store
from lnliquid.store.database import Database
from lnliquid.store.rows import FIELDS
from lnliquid.store.tables import SwapRow
from lnliquid.watchers.invoices import LAST_PAY_INDEX, Invoices

from ..builders import NOW, SELLER, StillClock, make_swap, migrated, settings_values
from ..lightning.test_core_lightning import FakeNode, client_of

SWAP = make_swap(
    state=State.FUNDED,
    invoice_mark=InvoiceMark.ASKED,
    bolt11="lnert1",
    invoice_expires_at=NOW + 3_600,
)
OFFER_PAID = {
    "label": "an offer-1", "status": "paid", "bolt12": "lni1qqg", "payment_hash": "0f" * 32,
    "amount_msat": 1_000, "expires_at": 1_800_000_000, "pay_index": 7,
}  # fmt: skip


class PayingNode(FakeNode):
    """Payments by their index: one of an offer (BOLT12), and then a swap's."""

    def __init__(self) -> None:
        super().__init__()
        ours = OFFER_PAID | {"label": SWAP.swap_id, "bolt11": "lnert1", "pay_index": 8}
        self.paid = {7: OFFER_PAID, 8: ours}

    def encode(self, message: dict[str, Any]) -> str:
        """The next one after the index that is asked for; the invoice itself is paid too."""
        after = message["params"].get("lastpay_index", 0)
        found = next((self.paid[n] for n in sorted(self.paid) if n > after), None)
        self.answers = {
            "waitanyinvoice": found or {"code": 904, "message": "Timed out"},
            "listinvoices": {"invoices": [e for e in self.paid.values() if e != OFFER_PAID]},
        }
        return super().encode(message)


class Place:
    """A store, and the daemon's invoices over a node of its own."""

    def __init__(self, folder: Path, lightning: CoreLightning) -> None:
        self.settings = Settings(**settings_values(folder))
        self.database = Database(migrated(self.settings.database), StillClock())
        self.invoices = Invoices(self.database, lightning, SELLER, self.settings, StillClock())
        self.woken = asyncio.Event()

    async def store(self, swap: Swap) -> None:
        """Write it, new or changed."""
        values = {name: getattr(swap, name) for name in FIELDS} | {"funding_txid": None}
        await self.database.write(lambda session: session.merge(SwapRow(**values)))

    async def passed(self, index: int) -> None:
        """Wait until the stored index is this one."""

        async def is_there() -> bool:
            return await self.database.read(lambda s: coin_store.cursor(s, LAST_PAY_INDEX)) == index

        await wait_for(is_there)


@asynccontextmanager
async def paying(folder: Path, node: PayingNode, index: int = 0) -> AsyncIterator[Place]:
    """A daemon that waits for payments, from this stored index on."""
    async with client_of(node, folder) as lightning:
        place = Place(folder, lightning)
        await place.database.write(lambda s: coin_store.set_cursor(s, LAST_PAY_INDEX, index))
        await place.store(SWAP)
        task = asyncio.create_task(place.invoices.run_paid(place.woken))
        yield place
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        place.database.close()


async def test_a_paid_offer_does_not_hold_up_later_payments(tmp_path: Path) -> None:
    """It has no `bolt11`; the stored index passes it, and the swap's payment wakes the watcher."""
    async with paying(tmp_path, PayingNode()) as place:
        await wait_for(place.woken.is_set)
        await place.passed(7)


async def test_a_payment_is_kept_until_the_watcher_has_it(tmp_path: Path) -> None:
    """It was made while the daemon was down, and is heard of before the swap is loaded.

    Nothing else has the invoice read: it is shown, and its time is not over.
    """
    async with paying(tmp_path, PayingNode()) as place:
        await wait_for(place.woken.is_set)
        await place.passed(7)
        await place.invoices.refresh([SWAP], Tip(10, "a block"))
        seen = place.invoices.view(SWAP)
        assert seen is not None
        assert seen.status is InvoiceStatus.PAID
        await place.passed(7)
        await place.store(replace(SWAP, invoice_mark=InvoiceMark.PAID))
        await place.passed(8)


async def test_a_node_that_counts_from_the_start_again_is_followed(tmp_path: Path) -> None:
    """It was restored from an older copy: the stored index is one that it never had."""
    async with paying(tmp_path, PayingNode(), index=900) as place:
        await wait_for(place.woken.is_set)
        await place.store(replace(SWAP, invoice_mark=InvoiceMark.PAID))
        await place.passed(8)


async def test_payments_that_were_taken_over_are_not_read_again(tmp_path: Path) -> None:
    """A start goes on where the last life was."""
    node = PayingNode()
    async with paying(tmp_path, node, index=7) as place:
        await wait_for(place.woken.is_set)
    asked = [params["lastpay_index"] for method, params in node.asked if method == "waitanyinvoice"]
    assert min(asked) == 6
