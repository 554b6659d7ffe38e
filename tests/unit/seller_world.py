"""A seller in this process: real database and listener, nodes faked."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lnliquid.api.server import Listener, listen_operator
from lnliquid.config import Settings
from lnliquid.domain.errors import BackendUnavailable
from lnliquid.domain.ports import Chain, SellerLightning
from lnliquid.domain.swap import InvoiceMark, State, Swap
from lnliquid.metrics.backends import Backend, observed
from lnliquid.metrics.gauges import Gauges
from lnliquid.metrics.instruments import Instruments
from lnliquid.seller.create import Seller
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Overview
from lnliquid.seller.readiness import Readiness
from lnliquid.seller.withdraw import Withdrawer
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import OwnTxRow, Purpose
from lnliquid.watchers.funding import Funder
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from .builders import (
    SELLER,
    StillClock,
    make_request,
    migrated,
    new_swap,
    settings_values,
    stock,
    txid_of,
)
from .fakes import FakeChain, FakeLightning

LOCK_HEIGHT = 1_000
DEADLINE_SECS = 20.0


class SellerWorld:
    """Database, operator, overview and metrics as the daemon puts them together, nodes faked."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.clock = StillClock()
        self.settings = Settings(**settings_values(folder, **changes))
        self.database = Database(migrated(self.settings.database), self.clock)
        self.chain, self.lightning = FakeChain(), FakeLightning()
        self.notices = Notices()
        self.instruments = Instruments()
        backends = (
            Backend("electrum", self.instruments, self.clock),
            Backend("lightning", self.instruments, self.clock, answers_are_news=True),
        )
        chain: Chain = observed(self.chain, backends[0])
        lightning: SellerLightning = observed(self.lightning, backends[1])
        self.observed_chain = chain
        self.inventory = Inventory(self.database, chain, SELLER)
        self.inventory.synced = True
        self.readiness = Readiness(
            self.database, chain, lightning, self.inventory, self.settings, self.clock
        )
        outbox = Outbox(self.database, chain)
        self.funder = Funder(
            self.database,
            chain,
            self.inventory,
            outbox,
            SELLER,
            self.settings,
            self.notices,
            self.instruments,
        )
        self.seller = Seller(
            self.database,
            self.readiness,
            self.funder,
            SELLER,
            self.settings,
            self.notices,
            self.instruments,
        )
        self.withdrawer = Withdrawer(
            self.database, chain, self.inventory, outbox, SELLER, self.settings
        )
        self.operator = Operator(self.database, SELLER, self.settings, self.notices)
        self.overview = Overview(
            self.database,
            self.operator,
            self.readiness,
            backends,
            self.settings,
            self.clock,
        )
        self.gauges = Gauges(self.database, self.overview, self.instruments)
        self.address = f"unix:{folder}/operator.sock"
        self.listener: Listener | None = None

    async def open(self) -> None:
        """Listen, as the daemon does; again after `shut`, at the same address."""
        self.listener = listen_operator(
            self.operator, self.overview, self.withdrawer, self.seller, self.address
        )
        await self.listener.start()

    async def shut(self) -> None:
        """The daemon is gone for its clients."""
        if self.listener is not None:
            await self.listener.stop(0)
            self.listener = None

    async def close(self) -> None:
        """End everything."""
        await self.shut()
        self.database.close()

    async def stock(self) -> None:
        """Coins for some swaps."""
        await stock(self.database, asset=1_000_000, lbtc=1_000_000)

    async def reserve(self, number: int) -> Swap:
        """A swap that waits for its funding."""
        request = make_request(number, asset_amount=1_000 * (number + 1))
        swap, _ = await self.database.write(lambda tx: swap_store.create(tx, new_swap(request)))
        return swap

    async def change(self, before: Swap, *, cause: str, **changes: object) -> Swap:
        """Store a changed swap, as the watcher does."""
        after = replace(before, **changes)  # type: ignore[arg-type]  # fields of Swap
        assert await self.database.write(lambda tx: swap_store.save(tx, before, after, cause=cause))
        return after

    async def sell(self, number: int) -> Swap:
        """A swap that is FUNDED and can be paid."""
        swap = await self.reserve(number)
        txid = txid_of(1_000 + number)

        def fund(tx: Transaction) -> None:
            tx.add(
                OwnTxRow(
                    txid=txid,
                    purpose=Purpose.FUNDING,
                    raw=b"",
                    fee_sats=50,
                    vsize=500,
                    created_at=tx.now,
                    signed_height=self.chain.height,
                    family=txid,
                )
            )
            tx.flush()
            funded = swap_store.FundedSwap(swap.swap_id, LOCK_HEIGHT + number, 0, 1)
            swap_store.bind_funding(tx, txid, [funded])

        await self.database.write(fund)
        stored = await self.database.read(lambda tx: swap_store.get(tx, swap.swap_id))
        assert stored is not None
        return await self.change(
            stored,
            cause="the funding has 2 of 2 confirmations",
            state=State.FUNDED,
            bolt11="lnert1example",
            invoice_expires_at=self.clock.at + 3_600,
            invoice_mark=InvoiceMark.ASKED,
        )

    async def pay_late(self, swap: Swap) -> Swap:
        """The swap was paid and not claimed by its lock height."""
        return await self.change(swap, cause="", invoice_mark=InvoiceMark.PAID, paid_unclaimed=True)

    def break_nodes(self) -> None:
        """Neither node can be reached."""
        self.chain.broken = BackendUnavailable("electrum", "not connected to tcp://127.0.0.1:1")
        self.lightning.is_down = True


async def until(holds: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fails with `what` after a deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE_SECS
    while not holds():
        assert loop.time() < end, f"not within {DEADLINE_SECS:g} s: {what}"
        await asyncio.sleep(0.02)
