"""A disk that hangs instead of failing: the daemon's calls to write or sync a file do not return.

It is made by a small library that the daemon is started with (`faults/hang.c`), so it needs a
compiler. Health is judged all the while, see `host`.
"""

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.scenarios.health import judged_health
from lnlab.scenarios.host import require_end
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    REFUNDED,
    available,
    mine_to,
    require_spends,
    sell,
    until_available,
    until_final,
    until_state,
)

SOURCE = Path(__file__).parent.parent / "faults" / "hang.c"


def no_compiler() -> str | None:
    """Why the library cannot be made, None when it can."""
    return None if shutil.which("cc") else "needs a C compiler, `cc`"


class HangingDisk:
    """Starts the daemon so that its files can be made to hang."""

    def __init__(self, daemon: SellerDaemon) -> None:
        self._daemon = daemon
        self._library = daemon.directory / "hang.so"
        self._flag = daemon.directory / "hang"

    async def start(self) -> None:
        """Start the daemon with the library."""
        if not self._library.exists():
            command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE)]
            await asyncio.to_thread(subprocess.check_call, [*command, "-ldl"], timeout=60)
        env = {"LD_PRELOAD": str(self._library), "LNLAB_HANG_FLAG": str(self._flag)}
        await self._daemon.launch(env)

    @contextlib.contextmanager
    def hangs(self, path: Path) -> Iterator[None]:
        """What is written to files whose path begins so waits."""
        self._flag.write_text(str(path))
        try:
            yield
        finally:
            self._flag.unlink()


async def hung_disk(daemon: SellerDaemon, say: Say) -> None:
    """The disk of the replica or of the database hangs: no lie, no loss, and SIGTERM is obeyed."""
    before, buyer, disk = await available(daemon), HandBuyer(daemon), HangingDisk(daemon)
    database = Path(str(daemon.setting("database")))
    await daemon.stop()
    try:
        await disk.start()
        await daemon.wait_ready()
        paid, *unpaid = await buyer.order_many(4)
        async with judged_health(daemon) as health:
            with (
                health.trouble("a replica that hangs"),
                disk.hangs(database.with_name(database.name + ".replica")),
            ):
                await buyer.send(buyer.claim(paid, await buyer.pay(paid)))
                await mine_to(daemon, unpaid[0].refund_lock_height)
                for swap in unpaid:
                    await until_state(daemon, swap.swap_id, REFUNDED)
                await is_refused(daemon)
                say("the replica's disk hangs: refunds are sent, sales stop")
                await require_end(daemon, signal.SIGTERM)
                say("SIGTERM ended it in time")
            await disk.start()
            await daemon.wait_ready()
        async with judged_health(daemon) as health:
            with health.trouble("a database that hangs"), disk.hangs(database.parent):
                creating = asyncio.create_task(buyer.create(buyer.request(), timeout_secs=10))
                await _is_not_ready(daemon)
                outcome = (await asyncio.gather(creating, return_exceptions=True))[0]
                require(isinstance(outcome, grpc.aio.AioRpcError), "an order was taken")
                say("the database's disk hangs: sales stop")
            await daemon.wait_ready()
            say("it answers again, and sales go on by themselves")
            sold = await sell(daemon, buyer)
            with health.trouble("a database that hangs"), disk.hangs(database.parent):
                await _is_not_ready(daemon)
                await require_end(daemon, signal.SIGTERM)
                say("SIGTERM ended it in time while it hung")
            await disk.start()
            await daemon.wait_ready()
    finally:
        await daemon.stop()
        await daemon.start()
    await until_final(daemon, paid.swap_id, CLAIMED)
    for swap in unpaid:
        await until_final(daemon, swap.swap_id, REFUNDED)
        await require_spends(daemon, swap, "refund", "refund")
    require(sold.is_final, "the sale is not final")
    # The order whose caller was told nothing may have been stored when the disk went on.
    await daemon.lab.mine(3)
    tip = (await daemon.lab.tip()).height
    await mine_to(daemon, tip + int(daemon.setting("refund_delta_blocks")) + 1)
    async with mining(daemon.lab):
        await until_available(daemon, before - 2_000)
    daemon.check_log()


async def _is_not_ready(daemon: SellerDaemon) -> None:
    async def not_ready() -> bool:
        return not await daemon.is_ready()

    await daemon.lab.wait_for(not_ready, timeout_secs=20, message="health says NOT_SERVING")
