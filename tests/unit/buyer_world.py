"""The buyer's world in tests: a chain, a Lightning node and a scripted seller.

The chain is the lab's embedded one, so every transaction is judged by an interpreter that knows
nothing of the code under test. The seller is a real gRPC server on a unix socket. A `Fuse` stands
for `kill -9`: it raises `Killed` at the n-th act, before or after it takes effect.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ln_liquid_swap.v1 import swap_pb2, swap_pb2_grpc
from lnlab.nodes.embedded.chain import Chain as EmbeddedChain
from lnlab.nodes.embedded.txmodel import Rejected
from lnliquid.buyer import Buyer, BuyerSettings, Journal, Order, Outcome, Progress, Record
from lnliquid.buyer.client import open_keychain
from lnliquid.buyer.errors import Unfinished
from lnliquid.buyer.purchase import Parts
from lnliquid.buyer.seller import SellerClient
from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendError, BackendRejected, BackendUnavailable
from lnliquid.domain.ports import HistoryItem, NodeInfo, Payment, PaymentStatus
from lnliquid.domain.swap import Tip
from lnliquid.domain.transaction import Transaction, parse_transaction

from .buyer_seller import AMOUNT, NODE_ID, PRICE_MSAT, START_TIME, ScriptedSeller, read_invoice
from .fakes import FakeChain


class Killed(BaseException):
    """The process dies here; nothing in the code under test may catch it."""


@dataclass
class Fuse:
    """Notes acts; raises once, at act number `blows_at` or at the first act named `blows_on`."""

    blows_at: int = 0
    blows_on: str = ""
    acts: list[str] = field(default_factory=list)
    watch: Callable[[str], None] = lambda act: None

    def tick(self, act: str) -> None:
        """Note an act, or die of it."""
        self.acts.append(act)
        self.watch(act)
        if len(self.acts) == self.blows_at or act == self.blows_on:
            self.blows_at, self.blows_on = 0, ""
            raise Killed(act)


class SteppingClock:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.time = START_TIME

    def now(self) -> int:
        """Unix seconds."""
        self.time += 1
        return self.time


class ChainView(FakeChain):
    """The embedded chain as a server shows it. `broken`: calls raise; `flooded`: reads are refused.

    `least_rate` stands for a mempool that is full of transactions with higher fees. `frozen` is
    the tip that it shows for ever.
    """

    def __init__(self, chain: EmbeddedChain, fuse: Fuse) -> None:
        super().__init__()
        self.chain = chain
        self.fuse = fuse
        self.rate: int | None = None
        self.least_rate = 0
        self.frozen: Tip | None = None
        self.flooded = False
        self.sent: list[str] = []

    async def tip(self) -> Tip:
        """The best block, or the one at which the server is frozen."""
        self._called("tip")
        if self.frozen is not None:
            return self.frozen
        height = self.chain.tip_height
        return Tip(height, self.chain.tip_hash, self.chain.block_time(height))

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """Histories, or a refusal as of a script with too many entries."""
        self._called("histories")
        if self.flooded:
            raise BackendRejected("electrum", "history too large")
        return {
            script: tuple(
                HistoryItem(item.txid, item.height if item.height > 0 else None)
                for item in self.chain.history(htlc.electrum_scripthash(script))
            )
            for script in scripts
        }

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """Raw transactions of a history."""
        return {txid: self.chain.raw_tx(txid)[0] for txid in txids}

    async def broadcast(self, raw: bytes) -> None:
        """Send."""
        self.fuse.tick("before broadcast")
        self._called("broadcast")
        parsed = parse_transaction(raw)
        if parsed.fee_sats * 1000 < self.least_rate * parsed.vsize:
            raise BackendRejected("electrum", "mempool min fee not met")
        try:
            self.chain.submit(raw)
        except Rejected as rejected:
            raise BackendRejected("electrum", rejected.reason) from None
        self.sent.append(parsed.txid)
        self.fuse.tick("after broadcast")

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """The estimate that the test sets."""
        return self.rate


class PayingNode:
    """The buyer's Lightning node. `behave` decides what `pay` does; payments outlive the buyer."""

    def __init__(self, preimages: Callable[[bytes], bytes], fuse: Fuse) -> None:
        self.preimage_of = preimages
        self.fuse = fuse
        self.node_id = NODE_ID
        self.network, self.height = "liquid-regtest", 1
        self.payments: dict[bytes, Payment] = {}
        self.paid = 0
        self.max_delays: list[int] = []
        self.behave: Callable[[bytes], Payment] = self.complete
        self.fails: BackendError | None = None

    async def info(self) -> NodeInfo:
        """Identity; fails while the node is down."""
        if self.fails:
            raise self.fails
        return NodeInfo(self.node_id, self.network, "v26", self.height)

    def complete(self, payment_hash: bytes) -> Payment:
        """Pay. What a real node does when asked again: nothing but the same answer."""
        seen = self.payments.get(payment_hash)
        if seen is None or seen.status is not PaymentStatus.COMPLETE:
            self.paid += 1
            preimage = self.preimage_of(payment_hash)
            self.payments[payment_hash] = Payment(PaymentStatus.COMPLETE, preimage, PRICE_MSAT)
        return self.payments[payment_hash]

    async def pay(
        self, bolt11: str, *, max_delay_blocks: int, max_fee_msat: int, wait_secs: int
    ) -> Payment:
        """Pay as `behave` says."""
        self.fuse.tick("before pay")
        self.max_delays.append(max_delay_blocks)
        payment = self.behave(read_invoice(bolt11))
        self.fuse.tick("after pay")
        return payment

    async def payment(self, payment_hash: bytes) -> Payment:
        """What became of it; fails while the node is down."""
        if self.fails:
            raise self.fails
        return self.payments.get(payment_hash, Payment(PaymentStatus.ABSENT))


class FusedJournal(Journal):
    """A journal whose process can die before and after each write."""

    def __init__(self, directory: Path, fuse: Fuse) -> None:
        super().__init__(directory)
        self.fuse = fuse

    def save(self, record: Record) -> None:
        """Store, or die."""
        self.fuse.tick(f"before save {record.step.value}")
        super().save(record)
        self.fuse.tick(f"after save {record.step.value}")

    def take_index(self) -> int:
        """Take, or die."""
        index = super().take_index()
        self.fuse.tick("after take_index")
        return index


class FusedSeller(SellerClient):
    """A client of the seller whose process can die before and after the call."""

    fuse: Fuse

    async def create(self, order: Order, claim_address: str) -> swap_pb2.Swap:
        """Create, or die."""
        self.fuse.tick("before create")
        reply = await super().create(order, claim_address)
        self.fuse.tick("after create")
        return reply


class BuyerWorld:
    """Everything outside the buyer, and the buyer's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"unix:{directory}/seller.sock"
        self.chain = EmbeddedChain(clock=lambda: START_TIME)
        self.seller = ScriptedSeller(self.chain)
        self.fuse = Fuse()
        self.view = ChainView(self.chain, self.fuse)
        self.node = PayingNode(self.seller.preimage_of, self.fuse)
        self.clock = SteppingClock()
        self.progress: list[Progress] = []
        self.on_progress: Callable[[Progress], None] = lambda progress: None
        self.settings = BuyerSettings(
            directory=directory / "buyer",
            network="liquid-regtest",
            seller=self.address,
            pay_wait_secs=1,
            poll_secs=0.005,
            outage_secs=20,
            wait_secs=20,
        )

    def order(self, **changes: Any) -> Order:
        """An order for the standard amount."""
        values: dict[str, Any] = {
            "request_id": "7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11",
            "asset_id": self.seller.asset_id,
            "amount": AMOUNT,
            "max_price_msat": PRICE_MSAT,
            "min_confs": 2,
            "max_fee_msat": 5_000,
        }
        return Order(**values | changes)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["BuyerWorld"]:
        """With the seller's server running."""
        server = grpc.aio.server()
        swap_pb2_grpc.add_SwapServiceServicer_to_server(self.seller, server)
        server.add_insecure_port(self.address)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    @asynccontextmanager
    async def buyer(self) -> AsyncIterator[Buyer]:
        """A fresh process of the buyer: all it has is its directory."""

        def note(progress: Progress) -> None:
            self.progress.append(progress)
            self.on_progress(progress)

        seller = FusedSeller(self.address, call_secs=2, create_secs=2)
        seller.fuse = self.fuse
        try:
            journal = FusedJournal(self.settings.directory, self.fuse)
            parts = Parts(
                settings=self.settings,
                journal=journal,
                keys=open_keychain(journal, self.settings),
                seller=seller,
                chain=self.view,
                lightning=self.node,
                clock=self.clock,
                on_progress=note,
            )
            yield Buyer(parts)
        finally:
            await seller.close()

    def outage(self) -> BackendUnavailable:
        """An error of a backend that is down."""
        return BackendUnavailable("electrum", "not connected")

    def hurry(self) -> None:
        """From now on the buyer gives up at once, when it has looked once."""
        self.settings = replace(self.settings, wait_secs=0, outage_secs=0)

    def be_patient(self) -> None:
        """From now on the buyer waits far longer than anything takes."""
        self.settings = replace(self.settings, wait_secs=20, outage_secs=20)

    async def buy(self, *, dry_run: bool = False, **changes: Any) -> Outcome:
        """Buy the standard order, or one with changes, with a fresh process."""
        async with self.buyer() as buyer:
            return await buyer.buy(self.order(**changes), dry_run=dry_run)

    async def resume(self) -> Outcome:
        """Resume the standard order with a fresh process."""
        async with self.buyer() as buyer:
            return await buyer.resume(self.order().request_id)

    async def balance(self) -> int:
        """What the buyer's addresses hold of the asset."""
        async with self.buyer() as buyer:
            return await buyer.balance(self.seller.asset_id)

    def record(self) -> Record:
        """The standard order in the journal."""
        return Journal(self.settings.directory).load(self.order().request_id)

    def mine_when(self, text: str) -> None:
        """Mine a block whenever a progress line holds this text."""

        def watch(progress: Progress) -> None:
            if text in progress.text:
                self.chain.generate()

        self.on_progress = watch

    def spends(self) -> list[Transaction]:
        """Transactions that spend the asset's HTLC output."""
        [swap] = self.seller.swaps.values()
        spender = self.chain.spender(swap.funding_txid, swap.asset_vout)
        return [] if spender is None else [parse_transaction(self.chain.raw_tx(spender)[0])]

    async def pay_only(self) -> None:
        """Kill the buyer right after its preimage is stored."""
        self.fuse.blows_on = "after save paid"
        with pytest.raises(Killed):
            await self.buy()
        assert self.node.paid == 1
        assert self.spends() == []

    async def buy_until_unfinished(self, still_waiting_for: str) -> None:
        """Buy, and give up soon."""
        self.hurry()
        with pytest.raises(Unfinished, match=still_waiting_for):
            await self.buy()
        self.be_patient()

    async def hold_payment(self) -> bytes:
        """A purchase whose payment is under way and held; returns its payment hash."""

        def hold(payment_hash: bytes) -> Payment:
            self.node.payments[payment_hash] = Payment(PaymentStatus.PENDING)
            return self.node.payments[payment_hash]

        self.node.behave = hold
        await self.buy_until_unfinished("the payment")
        [payment_hash] = self.node.payments
        return payment_hash
