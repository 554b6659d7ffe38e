"""Playing scenarios by name, each followed by a check of all nodes."""

import time
from collections.abc import Awaitable, Sequence
from pathlib import Path

import grpc
from rich.console import Console

from lnlab.actors.daemon import SellerDaemon
from lnlab.lab import Kind, Lab, absolute
from lnlab.scenarios.aftermath import Aftermath
from lnlab.scenarios.catalogue import FAST_BACKENDS, SCENARIOS, Scenario
from lnlab.scenarios.sale import ScenarioError


def chosen(names: Sequence[str], kind: Kind) -> list[Scenario]:
    """The named scenarios, all that these nodes can play if none is named.

    Raises ScenarioError for an unknown name, and for one that these nodes cannot play.
    """
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        have = ", ".join(SCENARIOS)
        raise ScenarioError(f"no scenario {', '.join(unknown)}; there are: {have}")
    for name in names:
        if SCENARIOS[name].only_on not in (None, kind) or SCENARIOS[name].why_not() is not None:
            raise ScenarioError(f"{kind} nodes cannot play {name}: {SCENARIOS[name].limits}")
    fitting = [
        one.name
        for one in SCENARIOS.values()
        if one.only_on in (None, kind) and (one.name in names or one.why_not() is None)
    ]
    return [SCENARIOS[name] for name in names or fitting]


async def play(
    directory: Path, names: Sequence[str], kind: Kind, seed: int
) -> list[dict[str, object]]:
    """Play scenarios, each followed by a check of all nodes, and end the labs they ran on.

    Returns name and seconds of each, in the order they were asked for. Raises ScenarioError for
    an unknown name. A scenario that fails ends the run: its error is
    raised, and data and logs of its lab stay in the directory, which is named.
    """
    scenarios = chosen(names, kind)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    playing = _Playing(directory, kind, seed, console)
    try:
        await playing.on_one_daemon([one for one in scenarios if one.run is not None])
        for one in scenarios:
            if one.run_on_lab is not None:
                await playing.on_own_lab(one)
    except BaseException:
        at = f"scenario {playing.now}" if playing.now else "starting the lab"
        console.print(f"[red]{at} failed[/]; data and logs are kept in {absolute(directory)}")
        raise
    return [playing.results[one.name] for one in scenarios]


class _Playing:
    def __init__(self, directory: Path, kind: Kind, seed: int, console: Console) -> None:
        self._directory = directory
        self._kind: Kind = kind
        self._seed = seed
        self._console = console
        self._began = time.monotonic()
        self.now = ""
        self.results: dict[str, dict[str, object]] = {}

    async def on_one_daemon(self, scenarios: list[Scenario]) -> None:
        """Play these one after the other on one seller, behind proxies."""
        if not scenarios:
            return
        lab = await Lab.start(self._directory, kind=self._kind, proxies=True)
        try:
            async with await SellerDaemon.create(
                lab, coins=4, settings=FAST_BACKENDS, through_proxies=True
            ) as daemon:
                for one in scenarios:
                    assert one.run is not None
                    if lab.containers is not None:
                        await daemon.move(in_container=not (one.proxies or one.on_host))
                    await self._play(one, one.run(daemon, self._say), lab, daemon)
        finally:
            await lab.stop()

    async def on_own_lab(self, one: Scenario) -> None:
        """Play one on a fresh lab."""
        assert one.run_on_lab is not None
        lab = await Lab.start(self._directory, kind=self._kind)
        try:
            await self._play(one, one.run_on_lab(lab, self._say, self._seed), lab, None)
        finally:
            await lab.stop()

    async def _play(
        self, one: Scenario, playing: Awaitable[None], lab: Lab, daemon: SellerDaemon | None
    ) -> None:
        self.now = one.name
        self._console.print(f"[bold]{one.name}[/]: {one.promise}")
        started = time.monotonic()
        aftermath = Aftermath(lab)
        try:
            await playing
        except grpc.aio.AioRpcError as error:
            if daemon is not None:
                daemon.check_alive()  # a dead daemon says more than a broken connection
            what = f"a call to the seller ended with {error.code().name}: {error.details()}"
            raise ScenarioError(f"{one.name}: {what}") from error
        await aftermath.check(daemon)
        secs = round(time.monotonic() - started, 1)
        self.results[one.name] = {"name": one.name, "secs": secs}
        self.now = ""

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}")
