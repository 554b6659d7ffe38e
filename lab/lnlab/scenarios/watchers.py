"""Many watchers of one swap, and one that has stopped reading."""

import asyncio
from collections.abc import Sequence

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc
from lnlab.actors.daemon import CHANNEL_OPTIONS, SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.scenarios.outage import until_logged
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import CLAIMED, CREATED, FUNDED, name_of, until_final

WATCHERS = 200
SMALL_WINDOW = (
    *CHANNEL_OPTIONS,
    ("grpc.http2.lookahead_bytes", 5),
    ("grpc.http2.bdp_probe", 0),
)
"""A client that takes 5 bytes ahead of what it reads, so that one message fills its window."""


async def watchers(daemon: SellerDaemon, say: Say) -> None:
    """Many follow one swap to its end; one that stops reading is cut off and hinders nobody."""
    buyer = HandBuyer(daemon)
    swap = await buyer.order()
    async with grpc.aio.insecure_channel(daemon.address, options=SMALL_WINDOW) as channel:
        stub: swap_pb2_grpc.SwapServiceAsyncStub = swap_pb2_grpc.SwapServiceStub(channel)
        stuck = stub.WatchSwap(pb.WatchSwapRequest(swap_id=swap.swap_id), timeout=120)
        first = await stuck.read()
        require(isinstance(first, pb.WatchSwapResponse), "the stream ended at once")
        following = [asyncio.create_task(follow(daemon, swap.swap_id)) for _ in range(WATCHERS)]
        await buyer.send(buyer.claim(swap, await buyer.pay(swap)))
        await until_final(daemon, swap.swap_id, CLAIMED)
        for seen in await asyncio.gather(*following):
            passed = [name_of(state) for state in seen]
            wanted = [name_of(state) for state in (CREATED, FUNDED, CLAIMED)]
            require(passed == wanted, f"a watcher saw {passed}, expected {wanted}")
        say(f"{WATCHERS} watchers saw the swap from its beginning to its end")
        await until_logged(daemon, "watcher cut off", swap.swap_id)
        try:
            while await stuck.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            code, text = error.code(), error.details() or ""
        else:
            code, text = await stuck.code(), ""
    require(code is grpc.StatusCode.RESOURCE_EXHAUSTED, f"the slow reader's stream ended {code}")
    say(f"the one that did not read was told: {text}")
    daemon.check_log()


async def follow(daemon: SellerDaemon, swap_id: str) -> Sequence[int]:
    """The changes of state that a watcher is told, until the stream ends."""
    request = pb.WatchSwapRequest(swap_id=swap_id)
    states = []
    async for message in daemon.stub().WatchSwap(request, timeout=120):
        if message.HasField("event") and message.event.from_state != message.event.to_state:
            states.append(message.event.to_state)
    return states
