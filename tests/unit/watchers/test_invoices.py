"""Reading the invoices of many swaps from a node that is slow, refuses some, or is down."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from lnliquid.config import Settings
from lnliquid.domain.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.domain.swap import InvoiceMark, State, Swap, Tip
from lnliquid.store.database import Database
from lnliquid.watchers.invoice_reading import AT_ONCE, read_invoices
from lnliquid.watchers.invoices import READ_SECS, Invoices

from ..builders import NOW, SELLER, StillClock, make_swap, migrated, settings_values
from ..fakes import FakeLightning

TIP = Tip(100, "a block")
CALL_SECS = 0.2


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock the node moves."""

    seconds = 0.0

    def time(self) -> float:
        """Seconds of the test."""
        return self.seconds


class SlowLightning(FakeLightning):
    """A node that takes its time for one call after the other, and fails for some labels."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop
        self.calls: list[str] = []
        self.failing: dict[str, BackendError] = {}

    async def invoice(self, label: str) -> Invoice:
        """UNPAID, after a while."""
        self.calls.append(label)
        await asyncio.sleep(0)
        self._loop.seconds += CALL_SECS
        if label in self.failing:
            raise self.failing[label]
        return Invoice(label, InvoiceStatus.UNPAID, "lnert1", b"", 1, NOW + 3_600)


def closing(number: int) -> Swap:
    """A swap whose invoice is to be deleted, so that it has to be known."""
    return make_swap(
        number,
        state=State.FUNDED,
        invoice_mark=InvoiceMark.CLOSED,
        bolt11="lnert1",
        invoice_expires_at=NOW + 3_600,
    )


def play(
    folder: Path, story: Callable[[Invoices, SlowLightning], Coroutine[Any, Any, None]]
) -> None:
    """Run a story in which only the node's calls take time."""
    settings = Settings(**settings_values(folder))
    loop, database = Loop(), Database(migrated(settings.database), StillClock())
    node = SlowLightning(loop)
    invoices = Invoices(database, node, SELLER, settings, StillClock())
    try:
        loop.run_until_complete(story(invoices, node))
    finally:
        loop.close()
        database.close()


def known(invoices: Invoices, swaps: list[Swap]) -> int:
    """Of how many the invoice is known."""
    return sum(invoices.view(swap) is not None for swap in swaps)


def test_a_slow_node_is_read_in_parts(tmp_path: Path) -> None:
    """What was answered counts, the rest comes next, none twice, and no reading takes long."""
    swaps = [closing(n) for n in range(120)]

    async def story(invoices: Invoices, node: SlowLightning) -> None:
        loop = asyncio.get_running_loop()
        for part in (1, 2):
            began = loop.time()
            assert await invoices.refresh(swaps, TIP), "there is more to read"
            assert loop.time() - began < READ_SECS + AT_ONCE * CALL_SECS
            assert known(invoices, swaps) >= part * READ_SECS / CALL_SECS
        assert not await invoices.refresh(swaps, TIP)
        assert known(invoices, swaps) == len(swaps)
        assert set(Counter(node.calls).values()) == {1}
        assert not await invoices.refresh(swaps, TIP)
        assert len(node.calls) == len(swaps)

    play(tmp_path, story)


def test_a_label_that_fails_spoils_no_other(tmp_path: Path) -> None:
    """It stays unknown, and is asked again after those that were never asked."""
    swaps = [closing(n) for n in range(120)]

    async def story(invoices: Invoices, node: SlowLightning) -> None:
        node.failing = {
            swaps[0].swap_id: BackendTimeout("lightning", "no answer"),
            swaps[1].swap_id: BackendRejected("lightning", "malformed"),
        }
        for _ in range(3):
            await invoices.refresh(swaps, TIP)
        assert known(invoices, swaps) == len(swaps) - 2
        assert invoices.view(swaps[0]) is None, "unknown is not unpaid"
        first_again = node.calls.index(swaps[0].swap_id, 1)
        assert first_again >= len(swaps)
        node.failing = {}
        await invoices.refresh(swaps, TIP)
        assert known(invoices, swaps) == len(swaps)

    play(tmp_path, story)


def test_a_node_that_is_down_is_not_asked_for_each(tmp_path: Path) -> None:
    """The calls under way fail, and no other is begun."""
    swaps = [closing(n) for n in range(50)]

    async def story(invoices: Invoices, node: SlowLightning) -> None:
        refused = BackendUnavailable("lightning", "connection refused")
        node.failing = {swap.swap_id: refused for swap in swaps}
        assert not await invoices.refresh(swaps, TIP), "nothing is to be had from it now"
        assert len(node.calls) <= AT_ONCE
        node.failing = {}
        assert not await invoices.refresh(swaps, TIP)
        assert known(invoices, swaps) == len(swaps)

    play(tmp_path, story)


def test_an_invoice_that_could_not_be_read_is_asked_for_again(tmp_path: Path) -> None:
    """Also when nothing hangs on it but that it was to be read: a payment was heard of, say."""
    shown = make_swap(
        state=State.FUNDED,
        invoice_mark=InvoiceMark.ASKED,
        bolt11="lnert1",
        invoice_expires_at=NOW + 3_600,
        refund_lock_height=10_000,
    )

    async def story(invoices: Invoices, node: SlowLightning) -> None:
        assert not await invoices.refresh([shown], TIP)
        assert node.calls == [], "it is shown, and may be paid for long"
        node.failing = {shown.swap_id: BackendTimeout("lightning", "no answer")}
        assert await invoices.read([shown.swap_id]) == {shown.swap_id}
        node.failing = {}
        await invoices.refresh([shown], TIP)
        assert known(invoices, [shown]) == 1

    play(tmp_path, story)


def test_all_are_read_however_long_it_takes() -> None:
    """Without a time of its own a reading ends with the last label."""
    loop = Loop()
    labels = [str(n) for n in range(200)]
    try:
        answers = loop.run_until_complete(read_invoices(SlowLightning(loop), [*labels, "0"]))
    finally:
        loop.close()
    assert list(answers) == labels
