"""Small real classes that stand for what a unit test does not want to start."""

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence

from lnliquid.domain.errors import BackendError, BackendRejected, BackendUnavailable
from lnliquid.domain.ports import HistoryItem, Invoice, InvoiceStatus, NodeInfo
from lnliquid.domain.swap import Tip
from lnliquid.store.database import Transaction

DEADLINE_SECS = 10
DEPOSITS: dict[str, bytes] = {}
"""Transactions that made the coins of `builders.wallet_coin`, by txid: every chain has them."""


class Gate:
    """A write that holds the writer until it is opened, so that others gather behind it."""

    def __init__(self) -> None:
        self._inside, self._opened = threading.Event(), threading.Event()

    def __call__(self, _session: Transaction) -> None:
        self._inside.set()
        assert self._opened.wait(DEADLINE_SECS)

    async def reached(self) -> None:
        """Wait until the writer is held."""
        assert await asyncio.to_thread(self._inside.wait, DEADLINE_SECS)

    def open(self) -> None:
        """Let the writer go on."""
        self._opened.set()


class FakeChain:
    """A chain backend of dictionaries. `refused` scripts have histories that are too long."""

    def __init__(self) -> None:
        self.height = 100
        self.tip_time = max(int(time.time()), 1_800_000_000)
        """By its header; never old, whichever clock the test has."""
        self.raws: dict[str, bytes] = {}
        self.found: dict[bytes, tuple[HistoryItem, ...]] = {}
        self.refused: set[bytes] = set()
        self.broken: BackendError | None = None
        self.unsent: dict[bytes, BackendError] = {}
        """What becomes of a broadcast of these bytes."""
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.broken is not None:
            raise self.broken

    async def tip(self) -> Tip:
        """A tip at the set height."""
        self._called("tip")
        return Tip(self.height, f"block {self.height}", self.tip_time)

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """Nothing is followed."""

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """Nothing is followed."""

    def take_changed(self) -> set[bytes]:
        """Nothing changes."""
        return set()

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """Nothing changes."""

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """As set; rejected whole if one of the scripts is refused, as a batched call is."""
        self._called("histories")
        if self.refused & set(scripts):
            raise BackendRejected("electrum", "history too large", 1)
        return {script: self.found.get(script, ()) for script in scripts}

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """Those that are known, and the deposits that tests made."""
        self._called("transactions")
        known = DEPOSITS | self.raws
        return {txid: known[txid] for txid in txids if txid in known}

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """As `tip` names them."""
        self._called("block_ids")
        return {h: f"block {h}" for h in heights}

    async def broadcast(self, raw: bytes) -> None:
        """Accepted, without effect, unless the test says otherwise of these bytes."""
        self._called("broadcast")
        if raw in self.unsent:
            raise self.unsent[raw]

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """No estimate."""
        return None


class FakeLightning:
    """A Core Lightning that can receive, counts its calls, and can be down."""

    def __init__(self) -> None:
        self.network = "liquid-regtest"
        self.receivable = 10_000_000
        self.height = 10_000
        self.sync_problem = ""
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.is_down = False
        self.set_options: dict[str, bool | int | str] = {}
        self.asked = 0

    async def info(self) -> NodeInfo:
        """A node of the set network."""
        self.asked += 1
        if self.is_down:
            raise BackendUnavailable("lightning", "no such socket")
        await self.hangs.wait()
        return NodeInfo("02" * 33, self.network, "v1", self.height, self.sync_problem)

    async def receivable_msat(self) -> int:
        """As set."""
        return self.receivable

    async def options(self) -> dict[str, bool | int | str]:
        """As set."""
        return self.set_options

    async def create_invoice(
        self,
        *,
        label: str,
        amount_msat: int,
        preimage: bytes,
        description: str,
        expiry_secs: int,
        cltv_blocks: int,
    ) -> Invoice:
        """Not part of these tests."""
        raise NotImplementedError

    async def invoice(self, label: str) -> Invoice:
        """None was made."""
        return Invoice(label, InvoiceStatus.ABSENT)

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """There is none."""
        return False

    async def wait_paid(self, after_pay_index: int, wait_secs: int) -> Invoice | None:
        """None is paid."""
        return None
