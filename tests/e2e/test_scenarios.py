"""Scenarios as the command line plays them: the checks after each, and what a failure leaves."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.lab import Lab, end_lab, running_processes
from lnlab.nodes.children import NodeDiedError
from lnlab.scenarios.aftermath import Aftermath
from lnlab.scenarios.sale import ScenarioError
from lnlab.scenarios.several_buyers import several_buyers
from lnlab.wait import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A lab's directory of this test alone; whatever runs in it is ended."""
    with tempfile.TemporaryDirectory(prefix="lnlab-") as name:
        path = Path(name)
        yield path
        end_lab(path)


def scenario_run(directory: Path, *names: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run `lnlab scenario run` with variables besides the test's own."""
    return subprocess.run(
        [sys.executable, "-m", "lnlab", "scenario", "run", *names, "--dir", str(directory)],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, **env},
        check=False,
    )


def contents(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


async def test_several_buyers(daemon: SellerDaemon) -> None:
    """Wallets that buy at once, each in a process of its own, all get what they paid for."""
    aftermath = Aftermath(daemon.lab)
    await several_buyers(daemon, print)
    await aftermath.check(daemon)


async def test_an_error_in_a_log_fails_the_scenario(daemon: SellerDaemon) -> None:
    """An error that a node logged since the scenario began is found, and one from before is not."""
    log = daemon.lab.directory / "probe.log"
    log.write_text("Traceback (most recent call last):\n")
    aftermath = Aftermath(daemon.lab)
    await aftermath.check(daemon)
    with log.open("a") as opened:
        opened.write("all is well\n2026 ERROR of a node\n")
    with pytest.raises(ScenarioError, match=r"probe\.log got an error.*2026 ERROR of a node"):
        await aftermath.check(daemon)


async def test_a_scenario_that_fails_keeps_its_lab(directory: Path) -> None:
    """A daemon made to die fails the scenario, by name and with its log; the data are kept."""
    done = scenario_run(directory, "refund", LNLIQUID_CRASH_AT="fund.stored")
    assert done.returncode == 1, done.stderr
    assert "scenario refund failed" in done.stderr
    assert f"kept in {directory}" in done.stderr
    assert "is not running" in done.stderr
    assert "Traceback" not in done.stderr
    assert (directory / "lnliquid.log").stat().st_size > 0
    assert (directory / "daemon" / "swaps.sqlite").exists()
    assert running_processes(directory) == []


async def test_frozen_server(directory: Path) -> None:
    """A server that stands still after the funding is not believed, by its header or its height."""
    done = scenario_run(directory, "frozen-server")
    assert done.returncode == 0, done.stderr


async def test_unknown_scenarios_are_refused_at_once(directory: Path) -> None:
    """A wrong name costs no lab, and the right ones are told."""
    done = scenario_run(directory, "fire")
    assert done.returncode == 1
    assert "no scenario fire; there are: sale, " in done.stderr
    assert contents(directory) == []


async def test_storms_take_a_seed(directory: Path) -> None:
    """A scenario on a lab of its own is played with the seed that was given."""
    done = scenario_run(directory, "oversell", "--seed", "7", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["seed"] == 7
    assert [one["name"] for one in result["scenarios"]] == ["oversell"]


async def test_a_dead_node_fails_the_scenario(directory: Path) -> None:
    """A node that died during a scenario is named with the end of its log."""
    lab = await Lab.start(directory)
    aftermath = Aftermath(lab)
    os.kill(lab.pids["nodes"], signal.SIGKILL)

    def is_dead() -> bool:
        return running_processes(directory) == []

    await wait_for(is_dead, message="the node is dead")
    with pytest.raises(NodeDiedError, match="nodes"):
        await aftermath.check(None)
    await lab.stop()


async def test_a_proxy_of_the_environment_breaks_nothing(directory: Path) -> None:
    """Buyer, operator commands and lab reach a daemon on loopback past it."""
    away = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:1")
    done = scenario_run(directory, "sale", **away)
    assert done.returncode == 0, done.stdout + done.stderr
