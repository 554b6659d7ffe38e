"""A daemon in a process of its own that starts on an existing database, and what it measures there.

`python -m bench.restarted MODE PLAN` prints one JSON object. PLAN is a file with the settings and
the invoices that Lightning has. MODE is `restart` (until the watcher has caught up), `reread`
(subscribe and read every script once, nothing else) or `trace` (as `restart`, with every allocation
counted). What Python takes to import modules is in none of them.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import structlog

from bench.world import WORDS, SystemClock, YesLightning, put_together
from lnliquid.config import Settings
from lnliquid.domain.ports import Invoice, InvoiceStatus
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain
from lnliquid.liquid.networks import REGTEST
from lnliquid.store import swaps as swap_store
from lnliquid.store.database import Database
from lnliquid.watchers import observe
from lnliquid.watchers.wakeups import Notices

CONNECT_SECS = 10
CATCH_UP_SECS = 120


def resident_bytes() -> int:
    """Memory of this process that is in RAM (Linux `/proc/self/statm`)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def restart(settings: Settings, lightning: YesLightning) -> dict[str, Any]:
    """From opening the database to having caught up."""
    began = time.perf_counter()
    keys = Keychain(WORDS, REGTEST)
    database = Database(settings.database, SystemClock())
    notices = Notices()
    chain = ElectrumChain(settings.electrum_url, on_wake=notices.wake_watcher)
    daemon = put_together(settings, keys, database, chain, lightning, notices)
    await chain.start()
    watching = asyncio.create_task(daemon.watcher.run())
    try:
        async with asyncio.timeout(CATCH_UP_SECS):
            await notices.caught_up.wait()
        took = time.perf_counter() - began
        gc.collect()
        return {
            "secs": took,
            "swaps": len(daemon.watcher.swaps),
            "resident_bytes": resident_bytes(),
            "traced_bytes": tracemalloc.get_traced_memory()[0],
        }
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await chain.close()
        database.close()


async def reread(settings: Settings) -> dict[str, Any]:
    """From connecting to having subscribed and read the script of every open swap."""
    database = Database(settings.database, SystemClock())
    scripts = [observe.output_script(s) for s in await database.read(swap_store.watched)]
    database.close()
    began = time.perf_counter()
    chain = ElectrumChain(settings.electrum_url)
    await chain.start()
    try:
        await chain.wait_connected(CONNECT_SECS)
        await chain.watch(scripts)
        subscribed = time.perf_counter()
        found = await chain.histories(scripts)
        done = time.perf_counter()
        return {"secs": done - began, "history_secs": done - subscribed, "swaps": len(found)}
    finally:
        await chain.close()


def main() -> None:
    """Run from the command line."""
    mode, plan_file = sys.argv[1:]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    plan = json.loads(Path(plan_file).read_text())
    settings = Settings(**plan["settings"])
    lightning = YesLightning()
    for label, (payment_hash, amount_msat, expires_at) in plan["unpaid"].items():
        lightning.made[label] = Invoice(
            label,
            InvoiceStatus.UNPAID,
            "lnert1bench",
            bytes.fromhex(payment_hash),
            amount_msat,
            expires_at,
        )
    if mode == "trace":
        gc.collect()
        tracemalloc.start()
    work = reread(settings) if mode == "reread" else restart(settings, lightning)
    sys.stdout.write(json.dumps(asyncio.run(work)) + "\n")


if __name__ == "__main__":
    main()
