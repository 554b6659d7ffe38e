"""The end of the process comes in time, whatever hangs in it."""

import signal
import subprocess
import sys
import time

import pytest

from lnliquid.ending import END_SECS

PROGRAM = """
import asyncio, os, sys, threading, time
from lnliquid.ending import Ending
from lnliquid.log import QueuedStderr, configure_log
stderr = QueuedStderr.install()
assert stderr is not None
configure_log("json")

def hang():
    while True:
        os.read(os.pipe()[0], 1)

async def main():
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    ending = Ending(lambda: loop.call_soon_threadsafe(stop.set), stderr)
    what = sys.argv[1]
    if what == "worker":
        asyncio.create_task(asyncio.to_thread(hang))
    print("ready", flush=True)
    if what == "loop":
        hang()
    await stop.wait()
    if what == "fault":
        ending.begin(1)
        hang()

asyncio.run(main())
"""


def started(what: str) -> "subprocess.Popen[str]":
    """A program in which something hangs."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize(
    ("what", "secs"), [("nothing", 3.0), ("worker", END_SECS + 3), ("loop", END_SECS + 3)]
)
def test_sigterm_ends_it_in_time(what: str, secs: float) -> None:
    """With a thread of the executor that hangs, or the event loop itself; exit code 0."""
    child = started(what)
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=secs)
    assert child.returncode == 0
    assert (time.monotonic() - began > END_SECS - 1) == (what != "nothing")
    assert ("stopped at once" in told) == (what != "nothing")


def test_a_second_signal_ends_it_at_once() -> None:
    """As an operator presses Ctrl-C again."""
    child = started("loop")
    child.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals at once are one to the kernel
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=5)
    assert child.returncode == 0
