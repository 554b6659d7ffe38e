"""What ten thousand unfinished swaps cost: calls a block, time to catch up at a start, memory.

The daemon's own code talks to the lab's Electrum server over TCP. The server counts what arrives.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import text

from bench.figures import Figure
from bench.open_swaps import Crowd, crowd
from bench.world import Daemon, put_together
from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.electrum import ElectrumServer
from lnlab.nodes.embedded.rpc_methods import NodeMethods
from lnlab.wait import wait_for
from lnliquid.domain.swap import State
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.watchers.wakeups import Notices

SWAPS = 10_000
CHANGING = 10
BLOCKS = 5
BLOCK_SECS = 60
IDLE_SECS = 30.0
"""For so long the timers are listened to, and taken twice for the time of a block."""
QUIET_SECS = 0.5
WAIT_SECS = 120.0
TURNS = 3
DATABASE_BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"


class CountingServer(ElectrumServer):
    """The lab's Electrum server, which counts requests; those of an array count one each."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain, NodeMethods(chain, on_stop=lambda: None))
        self.requests = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted = cast("asyncio.StreamReader", CountedLines(self, reader))
        await super()._serve(counted, writer)


class CountedLines:
    """The lines of one client on their way to the server."""

    def __init__(self, server: CountingServer, reader: asyncio.StreamReader) -> None:
        self._server, self._reader = server, reader

    async def readline(self) -> bytes:
        """The next line, counted."""
        line = await self._reader.readline()
        self._server.requests += line.count(b'"method"')
        return line


@asynccontextmanager
async def serving(chain: Chain) -> AsyncIterator[tuple[CountingServer, str]]:
    """A counting server of this chain, and its URL."""
    server = CountingServer(chain)
    port = await server.start()
    try:
        yield server, f"tcp://127.0.0.1:{port}"
    finally:
        await server.close()


@asynccontextmanager
async def connected(crowd: Crowd, url: str) -> AsyncIterator[tuple[Daemon, ElectrumChain, Notices]]:
    """A second daemon on the crowd's database, over TCP; its tasks do not run yet."""
    seller = crowd.seller
    notices = Notices()
    chain = ElectrumChain(url, on_wake=notices.wake_watcher)
    daemon = put_together(
        seller.settings, seller.keys, seller.database, chain, seller.lightning, notices
    )
    await chain.start()
    try:
        await chain.wait_connected(WAIT_SECS)
        yield daemon, chain, notices
    finally:
        await chain.close()


async def measure(folder: Path) -> list[Figure]:
    """All figures of one crowd of swaps."""
    async with (
        crowd(folder / "open", SWAPS) as made,
        serving(made.seller.chain) as (server, url),
    ):
        plan = await plan_of(made, url, made.seller.settings.database)
        turns = [await in_a_process(mode, plan) for mode in ("reread", "restart") * TURNS]
        empty = await plan_of(made, url, folder / "empty.sqlite")
        traced = [await in_a_process("trace", database) for database in (empty, plan)]
        if [found["swaps"] for found in (*turns, *traced)] != [SWAPS] * 2 * TURNS + [0, SWAPS]:
            raise AssertionError("every daemon should have found all of its swaps")
        stored_bytes = await made.seller.database.read(
            lambda tx: int(tx.execute(text(DATABASE_BYTES)).scalar_one())
        )
        calls = await calls_of_blocks(made, server, url)
    bytes_each = (traced[1]["traced_bytes"] - traced[0]["traced_bytes"]) / SWAPS
    reread, restart = (sum(found["secs"] for found in turns[i::2]) / TURNS for i in (0, 1))
    return [
        *calls,
        Figure(
            f"restart to caught up, {SWAPS:,} open",
            "s",
            restart,
            reread,
            "each script subscribed and read once",
            1.5,
            at_most=True,
        ),
        Figure(
            "memory of an open swap",
            "bytes",
            bytes_each,
            stored_bytes / SWAPS,
            "its share of the database file",
            3,
            at_most=True,
        ),
    ]


async def calls_of_blocks(made: Crowd, server: CountingServer, url: str) -> list[Figure]:
    """Requests in a block's time, those of the timers included."""
    async with connected(made, url) as (daemon, _chain, notices):
        running = [daemon.watcher.run(), daemon.funder.run()]
        tasks = [asyncio.create_task(work) for work in running]
        try:
            async with asyncio.timeout(WAIT_SECS):
                await notices.caught_up.wait()
            await quiet(server)
            before = server.requests
            await asyncio.sleep(IDLE_SECS)  # what the timers do meanwhile is what is measured
            timers = (server.requests - before) * BLOCK_SECS / IDLE_SECS
            still = [await calls_of_block(made, server, daemon, 0) for _ in range(BLOCKS)]
            flow = [await calls_of_block(made, server, daemon, CHANGING) for _ in range(BLOCKS)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return [
        Figure(name, "", calls + timers, SWAPS, "one call a swap", target, at_most=True)
        for name, calls, target in (
            ("calls in a block that changes nothing", max(still), 0.005),
            (f"calls in a block: {CHANGING} claims come and confirm", flow[0], 0.005),
            (f"calls in a block: also {CHANGING} become final", max(flow), 0.01),
        )
    ]


async def calls_of_block(made: Crowd, server: CountingServer, daemon: Daemon, claims: int) -> int:
    """Requests while so many claims come to the mempool and a block takes them in."""
    before = server.requests
    swaps = made.waiting_for_payment()[:claims]
    made.claim(swaps)
    watched = daemon.watcher.swaps
    await wait_for(
        lambda: all(watched[s.swap_id].state is State.CLAIMED for s in swaps),
        timeout_secs=WAIT_SECS,
    )
    for swap in swaps:
        del made.seller.watcher.swaps[swap.swap_id]
    await quiet(server)
    made.mine()
    await quiet(server)
    return server.requests - before


async def quiet(server: CountingServer) -> None:
    """Wait until no request has come for a moment."""
    seen, since = server.requests, time.monotonic()
    while time.monotonic() - since < QUIET_SECS:
        await asyncio.sleep(QUIET_SECS / 10)
        if server.requests != seen:
            seen, since = server.requests, time.monotonic()


async def plan_of(made: Crowd, url: str, database: Path) -> Path:
    """A file that says what a daemon in another process starts from."""
    changes = {"electrum_url": url, "database": str(database)}
    plan = {
        "settings": made.seller.settings.model_dump(mode="json") | changes,
        "unpaid": {
            label: ((i.payment_hash or b"").hex(), i.amount_msat, i.expires_at)
            for label, i in made.seller.lightning.made.items()
        },
    }
    path = database.with_suffix(".json")
    await asyncio.to_thread(path.write_text, json.dumps(plan))
    return path


async def in_a_process(mode: str, plan: Path) -> dict[str, Any]:
    """What `bench.restarted` finds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.restarted", mode, str(plan), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"bench.restarted {mode} ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out)
    return found
