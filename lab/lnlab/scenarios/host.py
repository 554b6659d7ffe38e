"""Trouble of the host: a log without a reader, a replica that hangs, a full temporary directory.

Each is made by the system, as it comes in the field, and ends with an exact audit. Health is asked
once a second all the while, and must have told the truth.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.scenarios.health import judged_health
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    REFUNDED,
    available,
    mine_to,
    refund_now,
    require_spends,
    sell,
    until_available,
    until_final,
    until_state,
)

ORDERS = 14
END_SECS = 10.0
"""The daemon promises 8; a busy machine takes a moment."""
PIPE_BYTES = 4_096
"""The least that Linux gives a pipe: a few log lines fill it."""


async def stalled_stderr(daemon: SellerDaemon, say: Say) -> None:
    """A log without a reader holds up nothing: sales, refunds, health, and the end at SIGTERM."""
    before, buyer = await available(daemon), HandBuyer(daemon)
    await daemon.stop()
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        await daemon.launch(stderr=writes)
        await daemon.wait_ready()
        async with judged_health(daemon):
            unpaid = (await buyer.order_many(ORDERS))[0]
            require(_is_full(writes), "the daemon's log did not fill the pipe")
            say(f"the log has no reader any more; {ORDERS} orders were funded all the same")
            await sell(daemon, buyer)
            await refund_now(daemon, unpaid)
            say("one was sold, and the unpaid ones come back at their lock height")
            await until_available(daemon, before - 1_000)
        await require_end(daemon, signal.SIGTERM)
        say("SIGTERM ended it in time")
    finally:
        os.close(reads)
        os.close(writes)
        await daemon.stop()
        await daemon.start()
    daemon.check_log()


def _is_full(writes: int) -> bool:
    """True when a pipe takes no whole line."""
    os.set_blocking(writes, False)
    try:
        os.write(writes, b"x" * PIPE_BYTES)
    except BlockingIOError:
        return True
    finally:
        os.set_blocking(writes, True)
    return False


async def require_end(daemon: SellerDaemon, number: signal.Signals) -> None:
    """Send this signal, and require that the process ends in time by itself."""
    [pid] = daemon.host_pids()
    began = time.monotonic()
    os.kill(pid, number)
    await daemon.lab.wait_for(
        lambda: not daemon.is_running(), timeout_secs=END_SECS, message="the daemon ends"
    )
    require(time.monotonic() - began < END_SECS, "the daemon ended too late")
    await daemon.stop()


async def hung_replica(daemon: SellerDaemon, say: Say) -> None:
    """A replica that hangs stops sales and not refunds; health says so, and SIGTERM is obeyed."""
    before, buyer = await available(daemon), HandBuyer(daemon)
    replica = Path(f"{daemon.setting('database')}.replica")
    paid, *unpaid = await buyer.order_many(4)
    async with judged_health(daemon) as health:
        with health.trouble("a replica that another program holds"), _held(replica):
            await buyer.send(buyer.claim(paid, await buyer.pay(paid)))
            await until_state(daemon, paid.swap_id, CLAIMED)
            await mine_to(daemon, unpaid[0].refund_lock_height)
            for swap in unpaid:
                await until_state(daemon, swap.swap_id, REFUNDED)
            await is_refused(daemon)
            say("the replica does not answer: a claim is taken in, refunds are sent, sales stop")
        await daemon.wait_ready()
        say("it answers again, and sales go on")
    (unpaid_2,) = await buyer.order_many(1)
    async with judged_health(daemon) as health:
        with health.trouble("a pipe in the place of the replica"), _pipe_at(replica):
            await refund_now(daemon, unpaid_2)
            await is_refused(daemon)
            await require_end(daemon, signal.SIGTERM)
            await daemon.launch()
            await daemon.lab.wait_for(daemon.answers, timeout_secs=60, message="it answers")
            await is_refused(daemon)
            say("a pipe in its place: refunds go on, it ends at SIGTERM, and starts without it")
        await daemon.wait_ready()
    for swap in (*unpaid, unpaid_2):
        await until_final(daemon, swap.swap_id, REFUNDED)
        await require_spends(daemon, swap, "refund", "refund")
    await sell(daemon, buyer)
    await until_available(daemon, before - 2_000)
    daemon.check_log()


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Another program has a transaction on this file that it does not end."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 5000")
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextlib.contextmanager
def _pipe_at(path: Path) -> Iterator[None]:
    """A named pipe stands where the file was: what opens it may wait for ever; then it is back."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    os.mkfifo(path)
    try:
        yield
    finally:
        path.unlink()
        kept.rename(path)


def no_mounts() -> str | None:
    """Why no file system can be mounted for one process alone, None when it can."""
    try:
        done = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "needs `unshare`"
    return None if done.returncode == 0 else "needs user namespaces that may mount"


@contextlib.asynccontextmanager
async def _full_temp(daemon: SellerDaemon) -> AsyncIterator[None]:
    """The daemon runs with a temporary directory of its own that is full; then as before."""
    directory = daemon.directory / "temp"
    directory.mkdir(exist_ok=True)
    script = (
        f"mount -t tmpfs -o size=16k tmpfs '{directory}' && "
        f'head -c 16k /dev/zero > \'{directory}/full\' && exec "$0" "$@"'
    )
    await daemon.stop()
    try:
        await daemon.launch(
            {"TMPDIR": str(directory), "SQLITE_TMPDIR": str(directory)},
            prefix=("unshare", "-rm", "sh", "-c", script),
        )
        await daemon.wait_ready()
        yield
    finally:
        await daemon.stop()
        await daemon.start()


async def full_temp(daemon: SellerDaemon, say: Say) -> None:
    """With a full temporary directory a burst is funded and refunded, as health says."""
    before, buyer = await available(daemon), HandBuyer(daemon)
    async with _full_temp(daemon), judged_health(daemon):
        async with mining(daemon.lab):
            swaps = await asyncio.gather(
                *(buyer.create(buyer.request()) for _ in range(4 * ORDERS))
            )
        require(all(swap.bolt11 for swap in swaps), "an order was not funded")
        say(f"{len(swaps)} orders at once were funded")
        await mine_to(daemon, max(swap.refund_lock_height for swap in swaps))
        for swap in swaps:
            await until_state(daemon, swap.swap_id, REFUNDED)
        say("all of them came back at their lock height")
        await sell(daemon, buyer)
        await until_available(daemon, before - 1_000)
    daemon.check_log()
