"""Every command of the pages, typed in the pages' order into a shell beside a lab of its own.

The buyer's guide and the grpcurl lines have tests of their own, the operator's containers are in
`test_image.py`. What is not typed anywhere is in `NOT_TYPED`, with the reason.
"""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnlab.lab import end_lab
from lnlab.nodes import record
from lnlab.nodes.children import end
from lnlab.wait import wait_for
from lnliquid.buyer.settings import BuyerSettings

from .docs_reader import Answer, Reader, commands

NOT_TYPED = {
    r"^\./justw (test|e2e -m real)$": "would run this test in itself",
    r"--nodes (process|compose)|^python -m tests\.conformance\.record$": "needs real nodes",
    r"^lnlab (shell|snapshot) |^lnlab down --wipe --dir ": "about the containers' lab",
    r"pip install|-m venv|/lnliquid/bin:": "installs anew; test_image.py does from the same pins",
    r"^lnliquid top$": "fills the screen until a key is pressed; test_top.py drives it",
}
BROKEN = "lnliquid buy --amount 1000 --confs 1 --yes --max-price-msat 100000"
"""What the pages type while the Electrum server refuses: it ends with exit code 3."""
PAGES = ["README.md", "docs/start.md", "docs/lab.md", "docs/operator.md", "docs/next-engineer.md"]


def typed(page: str) -> Iterator[str]:
    """The page's commands but for those that cannot be typed here."""
    for line in commands(page):
        if not any(re.search(pattern, line) for pattern in NOT_TYPED):
            yield line


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader with an empty home; a lab that the page starts and leaves is ended."""
    with tempfile.TemporaryDirectory(prefix="lnlab-") as directory:
        reader = Reader(Path(directory) / "home", Path(directory) / "lab")
        reader.directory.mkdir()
        yield reader
        for lab in (reader.lab, reader.directory / ".lab"):
            if lab.exists():
                end_lab(lab)


def gives_up(reader: Reader, line: str) -> None:
    """It could not go on, and said so; sooner than after the half minute of the page."""
    reader.kept.append("export LNLIQUID_BUYER_OUTAGE_SECS=3")
    began = time.monotonic()
    answer = reader.type(line)
    assert time.monotonic() - began < BuyerSettings.outage_secs
    reader.kept.pop()
    assert answer.code == 3, answer
    assert "cannot be reached" in answer.err, answer


def succeeds(answer: Answer, code: int = 0) -> None:
    """The command ended as the page says."""
    assert answer.code == code, answer


def test_what_is_not_typed_is_still_on_a_page() -> None:
    """An exception that no page needs any more is removed."""
    lines = [line for page in PAGES for line in commands(page)]
    assert [p for p in NOT_TYPED if not any(re.search(p, line) for line in lines)] == []


@pytest.mark.timeout(300)
def test_five_minute_start(reader: Reader) -> None:
    """A newcomer sees a sale, buys, breaks the Electrum server, recovers, and sees a refund."""
    for line in typed("docs/start.md"):
        if line == BROKEN:
            gives_up(reader, line)
        else:
            succeeds(reader.type(line))
    assert "The sale is complete" in reader.answers[0].err, reader.answers[0]
    assert "REFUNDED" in reader.last("lnliquid swaps").out, reader.last("lnliquid swaps")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["README.md", "docs/next-engineer.md"])
def test_readme_and_next_engineer(reader: Reader, page: str) -> None:
    """The pieces by hand end with the asset in the buyer's wallet."""
    reader.substitutes["lab-up"] = lambda _: "lab-up --nodes embedded"
    for line in typed(page):
        succeeds(reader.type(line))
    if page == "README.md":
        assert "250000000" in reader.last("lnliquid balance").out, reader.last("lnliquid balance")
        assert "CLAIMED" in reader.last("lnliquid swaps").out, reader.last("lnliquid swaps")


@pytest.mark.timeout(400)
def test_the_lab(reader: Reader) -> None:
    """The lab's page: commands, scenarios, a storm, faults, and the daemon started by hand."""
    for line in typed("docs/lab.md"):
        if line.startswith("lnlab faucet"):  # that section is about a lab that runs
            succeeds(reader.type("lnlab up --dir /tmp/lab"))
        if line.startswith("lnlab up") and (reader.lab / "nodes.json").exists():
            succeeds(reader.type("lnlab down --wipe"))
        if line.startswith("lnliquid serve"):
            end_daemon(reader)
            with Served(reader) as served:
                served.start(line)
        elif line == BROKEN:
            gives_up(reader, line)
        else:
            succeeds(reader.type(line))


@pytest.mark.timeout(400)
def test_the_operators_runbook(reader: Reader) -> None:
    """The operator's page on a lab: every command, a daemon of one's own, a backup, both losses."""
    succeeds(reader.type(f"lnlab up --dir {reader.lab} --block-every 1"))
    reader.kept.append(f"source {reader.lab}/env")
    for _ in range(2):
        succeeds(reader.type("lnliquid buy --amount 1000 --confs 1"))
    swap_id = json.loads(reader.type("lnliquid swaps --json").out)["swaps"][0]["swap"]["swap_id"]
    end_daemon(reader)
    shutil.copy(reader.lab / "daemon/seller.toml", reader.directory / "seller.toml")
    (reader.directory / "disk").mkdir()
    reader.substitutes |= {
        r"/var/lib/lnliquid/operator\.sock": lambda r: f"{r.lab}/daemon/operator.sock",
        r"/var/lib/lnliquid/mnemonic": lambda r: f"{r.directory}/mnemonic",
        r"/mnt/other-disk": lambda r: f"{r.directory}/disk",
        r"swaps-\d{8}T\d{6}Z\.sqlite": lambda r: next((r.directory / "disk").iterdir()).name,
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": lambda _: swap_id,
    }
    with Served(reader) as served:
        for line in typed("docs/operator.md"):
            if line.startswith("lnliquid serve"):
                served.start(line)
            elif line.startswith("lnliquid restore"):
                served.stop()
                for lost in ("swaps.sqlite", *["swaps.sqlite.replica"] * ("--accept" in line)):
                    for path in (reader.lab / "daemon").glob(f"{lost}*"):
                        if lost.endswith("replica") or "replica" not in path.name:
                            path.unlink()
                succeeds(reader.type(line))
            elif line.startswith("lnliquid withdraw "):  # it asks
                succeeds(reader.type(f"{line} --yes"))
            elif line.startswith("lnliquid refund"):  # nothing is paid and unclaimed here
                succeeds(reader.type(line), 1)
            else:
                succeeds(reader.type(line))
    assert list((reader.directory / "disk").glob("*.sqlite"))


def end_daemon(reader: Reader) -> None:
    """End the daemon that `lnlab up` started, as a crash would; the nodes stay."""
    [daemon] = [p for p in record.load(reader.lab).processes if p.name == "lnliquid"]
    end([daemon])


class Served:
    """`lnliquid serve` as the page says, in the background until it is stopped."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, line: str) -> None:
        """Start it and wait until it takes new swaps."""
        served = f"exec {self._reader.here(line)} 2>serve.log"
        self._process = subprocess.Popen(
            ["bash", "-c", "\n".join([*self._reader.kept, served])],
            cwd=self._reader.directory,
        )
        ready = line.replace("serve", "health", 1) + " --ready"
        asyncio.run(wait_for(lambda: self._reader.type(ready).code == 0, timeout_secs=60))

    def stop(self) -> None:
        """Ctrl-C. It ends with exit code 0. Nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            assert self._process.wait(timeout=30) == 0
            self._process = None
