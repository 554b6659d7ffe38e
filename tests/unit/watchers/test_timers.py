"""Timers of the daemon's loops: none is put off for ever, and none multiplies."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from bench.world import ChainClient, put_together, world
from lnlab.nodes.embedded.chain import Chain
from lnliquid.config import Settings
from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.ports import HistoryItem
from lnliquid.liquid.keys import CHANGE
from lnliquid.watchers import observe
from lnliquid.watchers.backoff import FIRST_RETRY_SECS, LAST_RETRY_SECS
from lnliquid.watchers.swaps import Watcher
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from ...sim.clockwork import SimLoop
from ..builders import make_swap, settings_values


class TimedLoop(SimLoop):
    """A loop whose clock the test moves, and which knows its timers."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[asyncio.TimerHandle] = []

    def call_at(  # type: ignore[override]  # the arguments are passed on as they come
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Arm a timer, and remember it."""
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    @property
    def armed(self) -> int:
        """Timers that will go off."""
        return sum(not t.cancelled() and t.when() > self.time() for t in self._timers)

    async def pass_secs(self, secs: float, each_secs: float = 1.0) -> None:
        """Let time go by, and everything happen that is due."""
        end = self.seconds + secs
        while self.seconds < end:
            self.seconds += each_secs
            for _ in range(8):
                await asyncio.sleep(0)


def played(story: Callable[[TimedLoop], Awaitable[None]]) -> None:
    """Run a story under a clock of its own."""
    with asyncio.Runner(loop_factory=TimedLoop) as runner:
        loop = cast("TimedLoop", runner.get_loop())
        runner.run(cast("Any", story(loop)))


class Rounds(Watcher):
    """A watcher whose rounds only note whether everything is to be loaded."""

    def __init__(self, settings: Settings, notices: Notices) -> None:
        nothing: Any = None
        super().__init__(
            nothing,
            nothing,
            nothing,
            Inventory(nothing, nothing, nothing),
            nothing,
            nothing,
            nothing,
            nothing,
            settings,
            notices,
        )
        self.reloads: list[bool] = []

    async def round(self, reload_all: bool = True) -> None:
        """Note it."""
        self.reloads.append(reload_all)


def test_steady_wake_ups_do_not_put_off_the_slow_timer(tmp_path: Path) -> None:
    """Everything is loaded anew each `poll_interval_secs`, however often there is news."""

    async def story(loop: TimedLoop) -> None:
        settings, notices = Settings(**settings_values(tmp_path, poll_interval_secs=15)), Notices()
        watcher = Rounds(settings, notices)
        task = asyncio.create_task(watcher.run())
        for _ in range(300):
            notices.wake_watcher()
            await loop.pass_secs(1)
        task.cancel()
        assert len(watcher.reloads) >= 300
        assert 300 // 15 - 1 <= watcher.reloads.count(True) <= 300 // 15 + 1

    played(story)


def test_the_watcher_looks_again_when_a_swap_s_while_is_over(tmp_path: Path) -> None:
    """Without a wake-up, and long before the slow timer."""

    class PuttingAside(Rounds):
        async def round(self, reload_all: bool = True) -> None:
            """The first one fails for a swap."""
            if not self.reloads:
                self._view.put_aside(make_swap(), "a reason")
            await super().round(reload_all)

    async def story(loop: TimedLoop) -> None:
        settings = Settings(**settings_values(tmp_path, poll_interval_secs=600))
        watcher = PuttingAside(settings, Notices())
        task = asyncio.create_task(watcher.run())
        await loop.pass_secs(FIRST_RETRY_SECS - 1)
        assert len(watcher.reloads) == 1
        await loop.pass_secs(2)
        assert watcher.reloads == [True, False]
        task.cancel()

    played(story)


class Refusing(ChainClient):
    """The client of a server that refuses some histories, and how often it was asked for those."""

    def __init__(self, chain: Chain, notices: Notices) -> None:
        super().__init__(chain, notices)
        self.refused: set[bytes] = set()
        self.asked = 0

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """See `ports.Chain`."""
        if self.refused & set(scripts):
            self.asked += len(scripts) == 1
            raise BackendRejected("electrum", "history too large")
        return await super().histories(scripts)

    def reconnected(self) -> None:
        """What is refused counts as changed then, as its status is not known."""
        self.mark_changed(self.refused)


def test_a_script_that_is_refused_is_asked_for_at_one_pace(tmp_path: Path) -> None:
    """One of the wallet's and one of a swap's, however often the connection was made anew."""

    async def story(loop: TimedLoop) -> None:
        async with world(tmp_path / "seller") as seller:
            notices = Notices()
            client = Refusing(seller.chain, notices)
            daemon = put_together(
                seller.settings, seller.keys, seller.database, client, seller.lightning, notices
            )
            await daemon.watcher.round()
            await daemon.seller.create_swap(seller.request(1))
            await daemon.funder.fund_waiting()
            seller.chain.generate()
            await daemon.watcher.round()
            [swap] = daemon.watcher.swaps.values()
            change = htlc.p2wpkh_script(seller.keys.wallet_key(CHANGE, 0).key_hash)
            for script in (change, observe.output_script(swap)):
                client.refused = {script}
                for _ in range(40):
                    client.reconnected()
                    await daemon.watcher.round()
                assert loop.armed == 0, "the loop of the watcher has the only timer"
                client.asked = 0
                for _ in range(600):
                    await loop.pass_secs(1)
                    await daemon.watcher.round()
                assert 1 <= client.asked <= 2 * 600 / 30  # with others, then alone
                client.refused.clear()
                await loop.pass_secs(LAST_RETRY_SECS, each_secs=LAST_RETRY_SECS)
                await daemon.watcher.round()

    played(story)
