"""Nothing is left behind: by labs side by side, and by commands that are interrupted anywhere."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lnlab.cli.lab import wipe_directory
from lnlab.lab import Kind, Lab, end_lab
from lnlab.nodes.record import POLICY_ASSET
from lnlab.wait import wait_for

from .conftest import ON_THIS_HOST

SCRIPT = b"\x00\x14" + b"\x33" * 20
STARTED_SECS, ENDED_SECS = 60.0, 60.0

Moment = Callable[[Path], bool]

MOMENTS: dict[str, Moment] = {
    "directory made": lambda at: (at / ".lnlab").exists(),
    "first process": lambda at: any(at.glob("*.log")),
    "nodes up": lambda at: (at / "nodes.json").exists(),
    "seller configured": lambda at: (at / "daemon" / "seller.toml").exists(),
    "seller starts": lambda at: (at / "lnliquid.log").exists(),
    "seller stores": lambda at: (at / "daemon" / "swaps.sqlite").exists(),
    "buyer buys": lambda at: any((at / "buyer-wallet").glob("*")),
}
"""When to interrupt, by what the directory holds then."""


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory for labs and temporary files; whatever runs in it is ended."""
    path = Path(tempfile.mkdtemp(prefix="lnl-"))
    yield path
    for directory in path.glob("*"):
        end_lab(directory)
    shutil.rmtree(path)


def processes_of(directory: Path) -> list[str]:
    """Processes that have the directory in their command or environment, or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            works_in = (entry / "cwd").readlink()
        except OSError:  # it has ended, or is somebody else's
            continue
        if os.fsencode(directory) in text or works_in.is_relative_to(directory):
            found.append(f"{entry.name}: {text[:300]!r}")
    return found


def sockets_in(directory: Path) -> list[Path]:
    """Unix sockets that are left as files."""
    return [path for path in directory.rglob("*") if path.is_socket()]


def contents(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def is_refused(port: int) -> bool:
    """Whether nothing listens on a loopback port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def ports_of(lab: Lab) -> set[int]:
    """Where the lab listens."""
    return {urlsplit(url).port or 0 for url in (lab.electrum_url, lab.nodes.rpc_url)}


@pytest.mark.parametrize("kind", ON_THIS_HOST)
async def test_two_labs_side_by_side(room: Path, kind: Kind) -> None:
    """Two labs started at once share nothing, and at the end neither leaves anything."""
    first, second = await asyncio.gather(*(Lab.start(room / n, kind=kind) for n in ("a", "b")))
    ports = ports_of(first) | ports_of(second)
    try:
        assert len(ports) == 4
        heights = [(await lab.tip()).height for lab in (first, second)]
        txid = await first.faucet.fund(SCRIPT, [(POLICY_ASSET, 1_000)])
        await first.mine(3)
        assert [(await lab.tip()).height for lab in (first, second)] == [heights[0] + 3, heights[1]]
        assert txid not in await second.rpc.call("getrawmempool")
    finally:
        await first.stop()
        # The other one goes on as if nothing had been.
        await second.mine()
        await second.stop()
    assert all(map(is_refused, ports))
    assert processes_of(room) == []
    assert sockets_in(room) == []
    for lab in (first, second):
        wipe_directory(lab.directory)
    assert contents(room) == []


def started(directory: Path, temporary: Path, command: tuple[str, ...]) -> "subprocess.Popen[str]":
    """A command of the lab under way, in a session of its own, with its own temporary directory."""
    return subprocess.Popen(
        [sys.executable, "-m", "lnlab", *command, "--dir", str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )


async def interrupt(room: Path, command: tuple[str, ...], moment: Moment) -> None:
    """Start a command, send it SIGINT at the moment, and require that it leaves nothing."""
    directory, temporary = room / "lab", room / "tmp"
    temporary.mkdir()
    with started(directory, temporary, command) as running:
        try:
            await wait_for(
                lambda: moment(directory) or running.poll() is not None,
                timeout_secs=STARTED_SECS,
                message="the command is as far as that",
            )
            assert running.poll() is None, running.communicate()[0]
            running.send_signal(signal.SIGINT)
            output, _ = await asyncio.to_thread(running.communicate, timeout=ENDED_SECS)
        finally:
            running.kill()
    assert running.returncode == 130, output
    assert "Traceback" not in output
    assert processes_of(room) == []
    assert sockets_in(directory) == []
    assert not (directory / "nodes.json").exists()
    assert contents(temporary) == []
    wipe_directory(directory)
    assert not directory.exists()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ON_THIS_HOST)
async def test_interrupted_demo(room: Path, kind: Kind, moment: str) -> None:
    """Ctrl-C on `lnlab demo`, whenever it comes, ends every process and closes every socket."""
    await interrupt(room, ("demo", "--nodes", kind), MOMENTS[moment])


@pytest.mark.parametrize("moment", ["first process", "seller configured", "seller starts"])
@pytest.mark.parametrize("kind", ON_THIS_HOST)
async def test_interrupted_up(room: Path, kind: Kind, moment: str) -> None:
    """Ctrl-C on `lnlab up`, whenever it comes, ends every process and closes every socket."""
    options = ("--nodes", kind, "--proxies", "--block-every", "0.5")
    await interrupt(room, ("up", "--foreground", *options), MOMENTS[moment])


@pytest.mark.parametrize("moment", ["directory made", "first process", "nodes up", "seller starts"])
@pytest.mark.parametrize("kind", ON_THIS_HOST)
async def test_killed_up(room: Path, kind: Kind, moment: str) -> None:
    """After `kill -9` of `lnlab up` nothing starts over what runs, and `down` ends all of it."""
    directory, temporary = room / "lab", room / "tmp"
    temporary.mkdir()
    with started(directory, temporary, ("up", "--nodes", kind)) as running:
        try:
            await wait_for(
                lambda: MOMENTS[moment](directory) or running.poll() is not None,
                timeout_secs=STARTED_SECS,
                message="the command is as far as that",
            )
        finally:
            running.kill()
    left = bool(processes_of(directory))
    with started(directory, temporary, ("demo", "--nodes", kind)) as again:
        if left:
            output, _ = await asyncio.to_thread(again.communicate, timeout=ENDED_SECS)
            assert again.returncode == 1
            assert "end it with `lnlab down`" in output
        else:
            again.kill()
    with started(directory, temporary, ("down", "--wipe")) as ended:
        output, _ = await asyncio.to_thread(ended.communicate, timeout=ENDED_SECS)
        assert ended.returncode == 0, output
    assert not left or "ended" in output
    assert processes_of(room) == []
