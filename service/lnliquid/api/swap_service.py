"""`SwapService` of the schema: what buyers call. The seller does the work."""

import asyncio
import contextlib

import structlog

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.rpc import Context, rpc
from lnliquid.domain.errors import SlowReader
from lnliquid.domain.swap import Swap
from lnliquid.seller.create import Seller

log = structlog.get_logger()

WRITE_SECS = 10.0
"""A watcher that takes no message for this long is cut off."""


class SwapServicer(pb_grpc.SwapServiceServicer):
    """See the schema for each call."""

    def __init__(self, seller: Seller, write_secs: float = WRITE_SECS) -> None:
        self._seller = seller
        self._write_secs = write_secs

    async def _shown(self, swap: Swap) -> pb.Swap:
        return convert.swap_to(swap, await self._seller.pay_window(swap))

    @rpc
    async def GetOffer(self, request: pb.GetOfferRequest, _: Context) -> pb.GetOfferResponse:
        offer = await self._seller.offer(request.asset_id)
        return pb.GetOfferResponse(offer=convert.offer_to(offer, self._seller.lightning_chain))

    @rpc
    async def CreateSwap(self, request: pb.CreateSwapRequest, _: Context) -> pb.CreateSwapResponse:
        swap = await self._seller.create_swap(convert.request_from(request))
        return pb.CreateSwapResponse(swap=await self._shown(swap))

    @rpc
    async def GetSwap(self, request: pb.GetSwapRequest, _: Context) -> pb.GetSwapResponse:
        swap, events = await self._seller.swap(request.swap_id.lower())
        return pb.GetSwapResponse(
            swap=await self._shown(swap), events=[convert.event_to(event) for event in events]
        )

    @rpc  # it writes each answer itself, to limit the time of a write
    async def WatchSwap(self, request: pb.WatchSwapRequest, context: Context) -> None:  # type: ignore[override]
        changes = self._seller.watch(request.swap_id.lower(), request.after_event)
        async with contextlib.aclosing(changes):
            async for swap, event in changes:
                message = pb.WatchSwapResponse(
                    swap=await self._shown(swap), event=convert.event_to(event) if event else None
                )
                try:
                    async with asyncio.timeout(self._write_secs):
                        await context.write(message)
                except TimeoutError:
                    log.info("watcher cut off", swap_id=swap.swap_id, secs=self._write_secs)
                    raise SlowReader(self._write_secs) from None
