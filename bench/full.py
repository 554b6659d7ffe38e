"""What whole swaps cost the daemon: processor time of each, and the time that answers a burst.

The daemon of each of two source trees runs as a process of its own, on embedded nodes of its own.
This tree's lab is buyer, miner and Lightning for both; rounds of both alternate.
"""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path

import grpc

from bench.figures import Figure
from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.lab import Lab
from lnlab.nodes.lightning import lightning_call
from lnlab.scenarios.fundings import Fundings
from lnlab.scenarios.storm import AGAIN_CODES
from lnlab.scenarios.storm_parts import StormPlan, requests_of

OWN_TREE = Path(__file__).parents[1]
SWAPS, ROUNDS = 300, 3
BURST, DUPLICATE_RATE, BURSTS = 1_000, 0.2, 3
LANES = 4
AMOUNT = 1_000 * LANES
FINAL_CONFS = 2
WAIT_SECS = 240.0
STALL_SECS, POLL_SECS = 5.0, 0.05
CHANNELS = 8
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
TARGET = 0.65
TICKS = os.sysconf("SC_CLK_TCK")


async def measure(folder: Path, *, tree: Path, baseline: Path) -> list[Figure]:
    """Both trees in turns, medians."""
    cpu_ms: dict[Path, list[float]] = {tree: [], baseline: []}
    burst_secs: dict[Path, list[float]] = {tree: [], baseline: []}
    async with AsyncExitStack() as stack:
        shops = {
            path: await stack.enter_async_context(shop(folder / name, path))
            for name, path in (("tree", tree), ("baseline", baseline))
        }
        for made in shops.values():
            await made.sell()  # code is loaded, caches are filled
        for _ in range(ROUNDS):
            for path, made in shops.items():
                cpu_ms[path].append(await made.sell())
        for number in range(BURSTS):
            for path, made in shops.items():
                burst_secs[path].append(await made.burst(seed=number))
    burst = f"{BURST:,} CreateSwap at once, {DUPLICATE_RATE:.0%} duplicates, until all are answered"
    cpu = f"processor time of a whole swap, {SWAPS} at a time"
    return [
        Figure(
            name,
            unit,
            statistics.median(measured[tree]),
            statistics.median(measured[baseline]),
            str(baseline),
            TARGET,
            at_most=True,
        )
        for name, unit, measured in ((cpu, "ms", cpu_ms), (burst, "s", burst_secs))
    ]


@asynccontextmanager
async def shop(folder: Path, tree: Path) -> AsyncIterator["Shop"]:
    """A daemon of this source tree with an inventory, on a lab in `folder`."""
    if not (tree / "service" / "lnliquid").is_dir():
        raise SystemExit(f"{tree} is no source tree of this project")
    lab = await Lab.start(folder)
    try:
        swaps = (1 + ROUNDS) * SWAPS + BURSTS * BURST
        async with await SellerDaemon.create(
            lab,
            settings={
                "lanes": LANES,
                "max_inflight_swaps": swaps,
                "create_wait_secs": 60,
                "final_confs": FINAL_CONFS,
            },
            asset_amount=2 * swaps * AMOUNT,
            coins=LANES,
            env={"PYTHONPATH": str(tree / "service")},
        ) as daemon:
            async with AsyncExitStack() as stack:
                channels = [
                    await stack.enter_async_context(
                        grpc.aio.insecure_channel(daemon.address, options=OWN_CONNECTION)
                    )
                    for _ in range(CHANNELS)
                ]
                yield Shop(daemon, [swap_pb2_grpc.SwapServiceStub(c) for c in channels])
            daemon.check_log()
    finally:
        await lab.stop()


class Shop:
    """A daemon and its buyers."""

    def __init__(
        self, daemon: SellerDaemon, stubs: Sequence["swap_pb2_grpc.SwapServiceAsyncStub"]
    ) -> None:
        self._daemon = daemon
        self._stubs = stubs
        self._lab = daemon.lab
        self._buyer = HandBuyer(daemon)

    def cpu_secs(self) -> float:
        """Processor time of the daemon so far, of all its threads, user and system (proc(5))."""
        fields = Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def sell(self) -> float:
        """Sell `SWAPS` at once: create, pay, claim, final. Returns the daemon's ms for each."""
        before = self.cpu_secs()
        swaps = await self._create([self._buyer.request(AMOUNT) for _ in range(SWAPS)])
        preimages = await self._pay(swaps)
        claims = [
            self._buyer.claim(s, preimage) for s, preimage in zip(swaps, preimages, strict=True)
        ]
        await asyncio.gather(*map(self._buyer.send, claims))
        for _ in range(FINAL_CONFS):
            await self._lab.mine()
        await self._until(self._all_final, "all swaps are final")
        return 1_000 * (self.cpu_secs() - before) / SWAPS

    async def burst(self, seed: int) -> float:
        """Seconds from the first of very many requests until each has its invoice."""
        plan = StormPlan(swaps=BURST, duplicate_rate=DUPLICATE_RATE, lanes=LANES, seed=seed)
        requests, calls = requests_of(plan, self._daemon.asset_id)
        began = time.perf_counter()
        swaps = await self._create([requests[call] for call in calls])
        secs = time.perf_counter() - began
        if len({swap.swap_id for swap in swaps}) != BURST:
            raise AssertionError(f"{BURST} requests should be as many swaps")
        return secs

    async def _create(self, requests: Sequence[pb.CreateSwapRequest]) -> list[pb.Swap]:
        """All at once; a block when all are funded in the mempool, or when nothing moves."""
        fundings = Fundings(self._lab, self._daemon.asset_id)
        wanted = len({request.request_id for request in requests})
        answers = asyncio.gather(
            *(
                self._call(stub, request)
                for stub, request in zip(cycle(self._stubs), requests, strict=False)
            )
        )
        pairs, moved_at = 0, time.monotonic()
        async with asyncio.timeout(WAIT_SECS):
            while not answers.done():
                waiting = await fundings.look()
                if fundings.pairs != pairs:
                    pairs, moved_at = fundings.pairs, time.monotonic()
                is_stalled = time.monotonic() - moved_at > STALL_SECS
                if waiting and (pairs == wanted or is_stalled):
                    for block_hash in await self._lab.mine():
                        await fundings.mined(block_hash)
                    moved_at = time.monotonic()
                await asyncio.wait([answers], timeout=POLL_SECS)
        return await answers

    async def _call(
        self, stub: "swap_pb2_grpc.SwapServiceAsyncStub", request: pb.CreateSwapRequest
    ) -> pb.Swap:
        """Ask until there is an invoice, also after a broken connection, as buyers do."""
        while True:
            try:
                swap = (await stub.CreateSwap(request, timeout=WAIT_SECS)).swap
                if swap.bolt11:
                    return swap
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN_CODES:
                    raise

    async def _pay(self, swaps: Sequence[pb.Swap]) -> list[bytes]:
        await self._buyer.wait_for_lightning()
        node = self._lab.lightning["buyer"]
        paid = await asyncio.gather(*(lightning_call(node, "pay", bolt11=s.bolt11) for s in swaps))
        return [bytes.fromhex(one["payment_preimage"]) for one in paid]

    async def _all_final(self) -> bool:
        wanted = pb.ListSwapsRequest(unfinished=True, limit=1)
        return not (await self._daemon.operator_stub().ListSwaps(wanted)).swaps

    async def _until(self, is_so: Callable[[], object], what: str) -> None:
        await self._lab.wait_for(is_so, timeout_secs=WAIT_SECS, message=what)
