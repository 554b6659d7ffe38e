"""Waiting for payments: other invoices of the node come by and are passed over."""

import asyncio
from pathlib import Path
from typing import Any

from lnlab.wait import wait_for
from lnliquid.seller.invoicing import LAST_PAY_INDEX, Invoices
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store.sqlite import Database

from .builders import SELLER, StillClock, make_swap, migrated, settings_values
from .test_cln_client import FakeNode, client_of

OFFER_PAID = {
    "label": "an offer-1", "status": "paid", "bolt12": "lni1qqg", "payment_hash": "0f" * 32,
    "amount_msat": 1_000, "expires_at": 1_800_000_000, "pay_index": 7,
}  # fmt: skip


class PayingNode(FakeNode):
    """Two invoices are paid: one of an offer (BOLT12), and then a swap's."""

    def encode(self, message: dict[str, Any]) -> str:
        """The next one after the index that is asked for."""
        ours = {"label": make_swap().swap_id, "bolt11": "lnert1", "pay_index": 8}
        is_first = message["params"]["lastpay_index"] < 7
        self.answers = {"waitanyinvoice": OFFER_PAID | ({} if is_first else ours)}
        return super().encode(message)


async def test_a_paid_offer_does_not_hold_up_later_payments(tmp_path: Path) -> None:
    """It has no `bolt11`; the stored index passes it, and the swap's payment wakes the watcher."""
    settings = Settings(**settings_values(tmp_path))
    database, clock = Database(migrated(settings.database), StillClock()), StillClock()
    woken, swap = asyncio.Event(), make_swap()
    async with client_of(PayingNode(), tmp_path) as node:
        invoices = Invoices(database, node, SELLER, settings, clock)
        task = asyncio.create_task(invoices.run_paid({swap.swap_id: swap}, woken))
        await wait_for(woken.is_set)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await database.read(lambda s: coin_store.cursor(s, LAST_PAY_INDEX)) >= 7
    database.close()
