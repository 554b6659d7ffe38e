"""`SwapService` of the schema: what buyers call."""

import asyncio
import contextlib
from typing import Any

import grpc
import structlog

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.answer import answered, refuse, validate
from lnliquid.errors import SlowReader
from lnliquid.seller.create import Seller

log = structlog.get_logger()

WRITE_SECS = 10.0
"""A watcher whose connection takes nothing for this long is cut off."""

Context = grpc.aio.ServicerContext[Any, Any]


class SwapServicer(pb_grpc.SwapServiceServicer):
    """Everything of substance is the seller's; see the schema for each call."""

    def __init__(self, seller: Seller, write_secs: float = WRITE_SECS) -> None:
        self._seller = seller
        self._write_secs = write_secs

    async def GetOffer(  # noqa: N802  # gRPC's own name
        self, request: pb.GetOfferRequest, context: Context
    ) -> pb.GetOfferResponse:
        """See the schema."""

        async def work() -> pb.GetOfferResponse:
            offer = await self._seller.offer(request.asset_id)
            return pb.GetOfferResponse(offer=convert.offer_to(offer))

        return await answered(context, request, work)

    async def CreateSwap(  # noqa: N802
        self, request: pb.CreateSwapRequest, context: Context
    ) -> pb.CreateSwapResponse:
        """See the schema."""

        async def work() -> pb.CreateSwapResponse:
            swap = await self._seller.create_swap(convert.request_from(request))
            return pb.CreateSwapResponse(swap=convert.swap_to(swap))

        return await answered(context, request, work)

    async def GetSwap(  # noqa: N802
        self, request: pb.GetSwapRequest, context: Context
    ) -> pb.GetSwapResponse:
        """See the schema."""

        async def work() -> pb.GetSwapResponse:
            swap, events = await self._seller.swap(request.swap_id.lower())
            return pb.GetSwapResponse(
                swap=convert.swap_to(swap), events=[convert.event_to(e) for e in events]
            )

        return await answered(context, request, work)

    async def WatchSwap(  # type: ignore[override]  # noqa: N802  # writes by itself, with a limit
        self, request: pb.WatchSwapRequest, context: Context
    ) -> None:
        """See the schema."""
        try:
            validate(request)
            changes = self._seller.watch(request.swap_id.lower(), request.after_event)
            async with contextlib.aclosing(changes):
                async for swap, event in changes:
                    message = pb.WatchSwapResponse(swap=convert.swap_to(swap))
                    if event is not None:
                        message.event.CopyFrom(convert.event_to(event))
                    await self._write(context, message)
        except Exception as error:
            if not context.done():  # else the client has gone
                await refuse(context, request, error)

    async def _write(self, context: Context, message: pb.WatchSwapResponse) -> None:
        try:
            async with asyncio.timeout(self._write_secs):
                await context.write(message)
        except TimeoutError:
            log.info("watcher cut off", swap_id=message.swap.swap_id, secs=self._write_secs)
            raise SlowReader(self._write_secs) from None
