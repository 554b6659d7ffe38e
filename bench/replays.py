"""How quickly the daemon answers a request that it knows, against an empty call.

Over real gRPC, each server in a process of its own.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty

from bench.empty import METHOD, SERVICE
from bench.figures import Figure
from bench.world import BUYER_ADDRESS
from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.lab import Lab

CALLERS = 32
"""Calls under way at once."""
ROUND_SECS = 0.2
ROUNDS = 20
"""Short ones in turns, so that whatever else the machine does troubles both alike."""
BLOCK_SECS = 0.2
AMOUNT = 1_000


@asynccontextmanager
async def empty_server() -> AsyncIterator[str]:
    """Address of an empty server in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.empty",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


async def calls_per_sec(call: Callable[[], Awaitable[object]]) -> float:
    """Calls answered in a second, when there are always `CALLERS` under way."""
    count = 0
    began = time.perf_counter()
    end = began + ROUND_SECS

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (time.perf_counter() - began)


async def funded_request(daemon: SellerDaemon) -> pb.CreateSwapRequest:
    """A request whose swap is FUNDED and has its invoice."""
    request = pb.CreateSwapRequest(
        asset_id=daemon.asset_id,
        asset_amount=AMOUNT,
        buyer_claim_address=BUYER_ADDRESS,
        min_funding_confs=1,
        max_total_price_msat=10**12,
        request_id=str(uuid.uuid4()),
    )
    creating = asyncio.ensure_future(daemon.stub().CreateSwap(request, timeout=30))

    while not creating.done():
        await daemon.lab.mine()
        await asyncio.wait([creating], timeout=BLOCK_SECS)
    swap = (await creating).swap
    if swap.state != pb.SWAP_STATE_FUNDED or not swap.bolt11:
        raise RuntimeError(f"the swap should be FUNDED and is {swap.state}")
    return request


async def measure(folder: Path) -> list[Figure]:
    """Replays a second against empty calls a second, in turns."""
    lab = await Lab.start(folder)
    try:
        async with (
            await SellerDaemon.create(lab) as daemon,
            empty_server() as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            request = await funded_request(daemon)
            stub = daemon.stub()
            empty = channel.unary_unary(
                f"/{SERVICE}/{METHOD}",
                request_serializer=Empty.SerializeToString,
                response_deserializer=Empty.FromString,
            )
            replays = empties = 0.0
            for _ in range(ROUNDS):
                empties += await calls_per_sec(lambda: empty(Empty()))
                replays += await calls_per_sec(lambda: stub.CreateSwap(request))
    finally:
        await lab.stop()
    return [
        Figure(
            "replays of a FUNDED swap's request",
            "/s",
            replays / ROUNDS,
            empties / ROUNDS,
            "empty grpc.aio call",
            0.5,
        )
    ]
