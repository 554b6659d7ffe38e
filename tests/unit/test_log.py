"""The log: what logs never waits, and what is lost is counted and told."""

import fcntl
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from lnlab.wait import wait_for
from lnliquid.log import QueuedStderr, configure_log

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture(autouse=True)
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log is that of the daemon, in JSON, and what it was afterwards."""
    before = structlog.get_config()
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    configure_log("json")
    yield
    structlog.configure(**before)


def read_until(end: int, words: str) -> str:
    """What comes out of a pipe up to these words."""
    found = ""
    while words not in found:
        found += os.read(end, 65_536).decode()
    return found


async def test_a_reader_that_stalls_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    """Far more than the pipe and the queue take; later a line says how many were lost."""
    reads, writes = pipe
    stream = sys.stderr = QueuedStderr(writes, max_chars=100_000)
    began = time.monotonic()
    for _ in range(20_000):
        stream.write(LINE)
    structlog.get_logger().info("an event")
    assert time.monotonic() - began < 2
    assert 15_000 < stream.dropped < 20_000
    told = ""
    while sum(int(n) for n in re.findall(r'"lines": (\d+), ', told)) < stream.dropped:
        told += os.read(reads, 65_536).decode()
    assert told.count(LINE) + stream.dropped >= 20_000
    stream.write("the next\n")
    assert "the next" in read_until(reads, "the next")


async def test_lines_come_whole_and_in_order(pipe: tuple[int, int]) -> None:
    """Also from many threads, and also when the reader's end does not block."""
    reads, writes = pipe
    fcntl.fcntl(writes, fcntl.F_SETFL, fcntl.fcntl(writes, fcntl.F_GETFL) | os.O_NONBLOCK)
    sys.stderr = QueuedStderr(writes)

    def log_some(name: str) -> None:
        for number in range(500):
            structlog.get_logger().info("line", name=name, number=number)

    threads = [threading.Thread(target=log_some, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    structlog.get_logger().info("begun")
    found = ""
    while found.count("\n") < 1_501:
        found += os.read(reads, 4_096).decode()
    for thread in threads:
        thread.join()
    for name in "abc":
        lines = [line for line in found.splitlines() if f'"name": "{name}"' in line]
        assert [f'"number": {n},' in line for n, line in enumerate(lines)] == [True] * 500


async def test_a_full_disk_costs_lines_and_later_ones_are_written(tmp_path: Path) -> None:
    """What could not be written is counted."""
    with (tmp_path / "log").open("wb", buffering=0) as file:
        stream = sys.stderr = QueuedStderr(file.fileno())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            stream.write("lost\n")
            await wait_for(lambda: stream.dropped == 1, message="it is counted")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        stream.write("written\n")
        stream.drain()
        path = tmp_path / "log"
        await wait_for(lambda: '"lines": 1' in path.read_text(), message="it is told")
        assert path.read_text().startswith("written\n")


async def test_a_reader_that_has_gone_raises_nothing() -> None:
    """A closed pipe."""
    reads, writes = os.pipe()
    os.close(reads)
    stream = QueuedStderr(writes)
    stream.write(LINE)
    await wait_for(lambda: stream.dropped == 1, message="it is counted")
    os.close(writes)


def test_what_python_itself_writes_goes_the_same_way(pipe: tuple[int, int]) -> None:
    """Exceptions of threads, warnings, other loggers: none of it can hold up a thread."""
    program = (
        "import logging, os, sys, threading, warnings\n"
        "from lnliquid.log import QueuedStderr\n"
        "stream = QueuedStderr.install()\n"
        "for _ in range(3000):\n"
        "    warnings.warn_explicit('w' * 99, UserWarning, 'f', _)\n"
        "    logging.getLogger('asyncio').error('e' * 99)\n"
        "thread = threading.Thread(target=lambda: 1 / 0)\n"
        "thread.start(); thread.join()\n"
        "print('done', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        stdout=subprocess.PIPE,
        stderr=pipe[1],  # nobody reads it
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_closed_standard_files_are_given_to_no_other_file(tmp_path: Path) -> None:
    """The database would get the number of stderr, and every message would be written into it."""
    program = (
        "import os, sys\n"
        "from lnliquid.log import open_standard_files\n"
        "open_standard_files()\n"
        "sys.exit(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT))\n"
    )
    command = f"exec {sys.executable} -c '{program}' {tmp_path / 'file'} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=30, check=False).returncode > 2
