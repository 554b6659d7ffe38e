"""The lab as its users see it: started, used and ended, as a library and from the command line."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lnlab.lab import Kind, Lab, LabDirectoryError, end_lab, running_processes
from lnlab.nodes.children import NodeDiedError, is_alive
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.lightning import lightning_call
from lnlab.nodes.process import PROGRAMS
from lnlab.nodes.record import POLICY_ASSET, NoLabError
from lnlab.wait import WaitTimeoutError, wait_for

SCRIPT = b"\x00\x14" + b"\x11" * 20
ADDRESS = "ert1qzyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg38u7fyc"
SCRIPTHASH = hashlib.sha256(SCRIPT).digest()[::-1].hex()

HAVE_PROGRAMS = all(shutil.which(program) for program in PROGRAMS)
KINDS = [
    "embedded",
    pytest.param(
        "process",
        marks=[
            pytest.mark.real,
            pytest.mark.skipif(not HAVE_PROGRAMS, reason=f"needs {', '.join(PROGRAMS)} on PATH"),
        ],
    ),
]


@pytest.fixture
def lab_directory() -> Iterator[Path]:
    """A directory with a short path, as unix sockets need; whatever runs in it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="lnlab-"))
    yield directory
    end_lab(directory)
    shutil.rmtree(directory)


@pytest.fixture
async def lab(lab_directory: Path) -> AsyncIterator[Lab]:
    """A running embedded lab."""
    lab = await Lab.start(lab_directory)
    yield lab
    await lab.stop()


def lnlab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lnlab", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def answer(*arguments: str) -> dict[str, Any]:
    """Run a command with --json and return what it printed."""
    done = lnlab(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def history(lab: Lab) -> list[tuple[str, int]]:
    """Return (txid, height) of the test script's transactions, as the Electrum server tells."""
    items = await electrum_call(lab.electrum_url, "blockchain.scripthash.get_history", SCRIPTHASH)
    return [(item["tx_hash"], item["height"]) for item in items]


@pytest.mark.parametrize("kind", KINDS)
async def test_lab_from_start_to_end(lab_directory: Path, kind: Kind) -> None:
    """Coins come out of the faucet, are mined and seen by Electrum; at the end nothing is left."""
    lab = await Lab.start(lab_directory, kind=kind)
    processes = list(lab.nodes.processes)
    try:
        asset = await lab.faucet.issue("DEMO", 10**12)
        await lab.mine()
        txid = await lab.faucet.fund(SCRIPT, [(asset, 700), (POLICY_ASSET, 1000)])
        await lab.mine()
        tip = await lab.tip()
        assert await history(lab) == [(txid, tip.height)]
        for socket_path in lab.lightning.values():
            (channel,) = (await lightning_call(socket_path, "listpeerchannels"))["channels"]
            assert channel["state"] == "CHANNELD_NORMAL"
            assert channel["spendable_msat"] > 10**11
            assert channel["receivable_msat"] > 10**11
    finally:
        await lab.stop()
    assert not any(map(is_alive, processes))
    assert not (lab_directory / "nodes.json").exists()
    with pytest.raises(NoLabError, match="lnlab up"):
        await Lab.attach(lab_directory)


@pytest.mark.parametrize("kind", KINDS)
async def test_reorg_reaches_the_electrum_server(lab_directory: Path, kind: Kind) -> None:
    """A payment whose block is invalidated confirms in another block, and Electrum agrees."""
    lab = await Lab.start(lab_directory, kind=kind)
    try:
        txid = await lab.faucet.fund(SCRIPT, [(POLICY_ASSET, 1000)])
        first, _ = await lab.mine(2)
        height = (await lab.tip()).height - 1
        assert await history(lab) == [(txid, height)]
        await lab.invalidate(first)
        assert (await lab.tip()).height == height - 1
        await lab.mine(3)
        assert (await lab.tip()).height == height + 2
        await lab.reorg(depth=2)
        assert (await lab.tip()).height == height + 3
        block_hash = await lab.rpc.call("getblockhash", height)
        assert block_hash != first
        assert txid in (await lab.rpc.call("getblock", block_hash))["tx"]
        assert await history(lab) == [(txid, height)]
    finally:
        await lab.stop()


async def test_second_start_in_the_same_directory_is_refused(lab: Lab) -> None:
    """A running lab is not disturbed by another start, and can be attached to."""
    with pytest.raises(LabDirectoryError, match="lnlab down"):
        await Lab.start(lab.directory)
    async with await Lab.attach(lab.directory) as other:
        assert await other.tip() == await lab.tip()


async def test_dead_node_fails_at_once_with_its_log(lab: Lab) -> None:
    """Waiting on a lab whose node was killed ends immediately and shows the end of the log."""
    os.kill(lab.pids["nodes"], signal.SIGKILL)
    with pytest.raises(NodeDiedError, match=r"nodes \(pid \d+\) is not running(.|\n)*ready: rpc"):
        await lab.wait_for(lambda: False, timeout_secs=30, message="nothing")
    with pytest.raises(NodeDiedError):
        await Lab.attach(lab.directory)


async def test_wait_prints_its_predicate() -> None:
    """A wait that is over says what it waited for, source included."""
    with pytest.raises(WaitTimeoutError) as failure:
        await wait_for(lambda: 1 > 2, timeout_secs=0.05, message="arithmetic changes")
    assert "arithmetic changes" in str(failure.value)
    assert "1 > 2" in str(failure.value)


async def test_block_timer(lab_directory: Path) -> None:
    """With a block timer the chain grows by itself, and the timer ends with the lab."""
    lab = await Lab.start(lab_directory, block_every_secs=0.05)
    processes = list(lab.nodes.processes)
    assert [process.name for process in processes] == ["nodes", "miner"]
    start = (await lab.tip()).height

    async def has_grown() -> bool:
        return (await lab.tip()).height >= start + 3

    await lab.wait_for(has_grown, message="three blocks")
    await lab.stop()
    assert not any(map(is_alive, processes))


async def test_start_that_is_cancelled_leaves_nothing(
    lab_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling a start, as Ctrl-C does, ends what had been started."""
    up = asyncio.Event()

    async def wait_for_ever(_: Lab) -> None:
        up.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Lab, "wait_until_caught_up", wait_for_ever)
    start = asyncio.create_task(Lab.start(lab_directory))
    async with asyncio.timeout(20):
        await up.wait()
    processes = running_processes(lab_directory)
    assert processes
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not any(map(is_alive, processes))
    assert not (lab_directory / "nodes.json").exists()


async def test_foreign_directory_is_left_alone(lab_directory: Path) -> None:
    """A directory with other files in it is refused and keeps them."""
    keep = lab_directory / "thesis.txt"
    keep.write_text("years of work")
    with pytest.raises(LabDirectoryError, match="not empty"):
        await Lab.start(lab_directory)
    assert keep.read_text() == "years of work"


async def test_two_cannot_start_in_one_directory(lab_directory: Path) -> None:
    """The second is refused and harms nothing, whenever it comes while the first one starts."""
    first = asyncio.create_task(Lab.start(lab_directory))
    await asyncio.sleep(0)  # it takes the directory
    refused = 0
    while not first.done():
        with pytest.raises(LabDirectoryError, match=r"starts a lab|a lab is running"):
            await Lab.start(lab_directory)
        refused += 1
        await asyncio.sleep(0.01)
    lab = await first
    assert refused > 3
    assert (await lab.tip()).height > 0
    await lab.stop()


async def test_up_twice_at_once_gives_one_lab(lab_directory: Path) -> None:
    """With one seller; the second `lnlab up` says that another is at it, and harms nothing."""
    up = (sys.executable, "-m", "lnlab", "up", "--dir", str(lab_directory))
    both = [
        await asyncio.create_subprocess_exec(*up, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    told = [(await one.communicate())[1].decode() for one in both]
    codes = [one.returncode for one in both]
    assert sorted(code == 0 for code in codes) == [False, True], told
    [refusal] = [text for text, code in zip(told, codes, strict=True) if code != 0]
    assert "another command starts a lab" in " ".join(refusal.split()), refusal
    status = answer("status", "--dir", str(lab_directory))
    assert status["ok"] is True


async def test_long_directory_is_refused_clearly(lab_directory: Path) -> None:
    """A path too long for unix sockets is refused before anything is made."""
    directory = lab_directory / ("x" * 90)
    with pytest.raises(LabDirectoryError, match="too long a path"):
        await Lab.start(directory)
    assert not directory.exists()


def test_command_line(lab_directory: Path) -> None:
    """up, mine, faucet, status, logs and down work together, and down can be repeated."""
    where = ("--dir", str(lab_directory))
    up = answer("up", *where)
    assert up["kind"] == "embedded"
    assert answer("mine", "3", *where)["height"] == up["height"] + 3
    paid = answer("faucet", ADDRESS, "1234", "--asset", "DEMO", *where)
    status = answer("status", *where)
    assert status["ok"] is True
    assert status["assets"] == {"DEMO": paid["asset"]}
    assert "ready" in answer("logs", "nodes", *where)["nodes"]
    assert answer("down", *where)["ended"] == ["nodes", "lnliquid"]
    assert answer("down", *where)["ended"] == []
    nothing = lnlab("status", *where)
    assert nothing.returncode == 1
    assert "no lab in" in nothing.stderr
    assert "Traceback" not in nothing.stderr


def test_a_lab_goes_on_while_its_daemon_is_dead(lab_directory: Path) -> None:
    """Whoever kills the daemon to see what follows mines on, and `up` starts it again."""
    where = ("--dir", str(lab_directory))
    up = answer("up", *where)
    os.kill(up["seller_pid"], signal.SIGKILL)
    assert answer("mine", "3", *where)["height"] == up["height"] + 3
    status = lnlab("status", "--json", *where)
    assert (status.returncode, status.stderr) == (1, "")
    assert json.loads(status.stdout)["running"] == {"nodes": True, "lnliquid": False}
    again = answer("up", *where)
    assert again["seller_pid"] != up["seller_pid"]
    assert again["asset_id"] == up["asset_id"]
    assert answer("status", *where)["running"] == {"nodes": True, "lnliquid": True}
    assert answer("down", *where)["ended"] == ["nodes", "lnliquid"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground_lab_ends_with_its_command(lab_directory: Path, number: signal.Signals) -> None:
    """Ctrl-C, or SIGTERM, on `up --foreground` ends the nodes too."""
    command = [sys.executable, "-m", "lnlab", "up", "-f", "--json", "--dir", str(lab_directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        pid = json.loads(up.stdout.readline())["pids"]["nodes"]
        up.send_signal(number)
        up.communicate(timeout=30)
    assert up.returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_missing_programs_are_named_in_one_line(lab_directory: Path) -> None:
    """Real nodes without programs on PATH: one line that names them, and no traceback."""
    done = lnlab("up", "--nodes", "process", "--dir", str(lab_directory), PATH="")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(program in done.stderr for program in PROGRAMS)


@pytest.mark.parametrize("command", ["up", "down", "status", "mine", "faucet", "logs"])
def test_each_command_has_an_example(command: str) -> None:
    """The help of each command shows how to call it."""
    assert f"lnlab {command}" in lnlab(command, "--help").stdout.partition("Example:")[2]
