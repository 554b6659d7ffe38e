"""`OperatorService` of the schema, on a listener of its own."""

from typing import Any

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.answer import answered
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Filter, Overview
from lnliquid.swap import State

DEFAULT_LIMIT = 100
DEFAULT_STATUS_LIMIT = 50
Context = grpc.aio.ServicerContext[Any, Any]


class OperatorServicer(pb_grpc.OperatorServiceServicer):
    """Everything of substance is in `seller/operator.py`; see the schema for each call."""

    def __init__(self, operator: Operator, overview: Overview) -> None:
        self._operator = operator
        self._overview = overview

    async def ListSwaps(  # noqa: N802  # gRPC's own name
        self, request: pb.ListSwapsRequest, context: Context
    ) -> pb.ListSwapsResponse:
        """See the schema."""

        async def work() -> pb.ListSwapsResponse:
            wanted = Filter(
                states=tuple(State(s) for s in request.states),
                paid_unclaimed=request.paid_unclaimed,
                unfinished=request.unfinished,
                created_from=request.created_from or None,
                created_before=request.created_before or None,
            )
            found = await self._overview.swaps(wanted, request.limit or DEFAULT_LIMIT)
            return pb.ListSwapsResponse(swaps=[convert.operator_swap_to(*seen) for seen in found])

        return await answered(context, request, work)

    async def InspectSwap(  # noqa: N802
        self, request: pb.InspectSwapRequest, context: Context
    ) -> pb.InspectSwapResponse:
        """See the schema."""

        async def work() -> pb.InspectSwapResponse:
            seen, events, tip_height = await self._overview.inspect(request.swap_id.lower())
            return pb.InspectSwapResponse(
                swap=convert.operator_swap_to(*seen),
                events=[convert.event_to(event) for event in events],
                tip_height=tip_height or 0,
            )

        return await answered(context, request, work)

    async def GetStatus(  # noqa: N802
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """See the schema."""

        async def work() -> pb.GetStatusResponse:
            status = await self._overview.status(
                request.after_event, request.limit or DEFAULT_STATUS_LIMIT
            )
            return convert.status_to(status, self._overview.settings)

        return await answered(context, request, work)

    async def GetInventory(  # noqa: N802
        self, request: pb.GetInventoryRequest, context: Context
    ) -> pb.GetInventoryResponse:
        """See the schema."""

        async def work() -> pb.GetInventoryResponse:
            return pb.GetInventoryResponse(
                assets=[convert.holding_to(h) for h in await self._operator.holdings()],
                paused=await self._operator.paused(),
            )

        return await answered(context, request, work)

    async def Pause(  # noqa: N802
        self, request: pb.PauseRequest, context: Context
    ) -> pb.PauseResponse:
        """See the schema."""

        async def work() -> pb.PauseResponse:
            await self._operator.set_paused(True)
            return pb.PauseResponse()

        return await answered(context, request, work)

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        """See the schema."""

        async def work() -> pb.ResumeResponse:
            await self._operator.set_paused(False)
            return pb.ResumeResponse()

        return await answered(context, request, work)

    async def RefundSwap(  # noqa: N802
        self, request: pb.RefundSwapRequest, context: Context
    ) -> pb.RefundSwapResponse:
        """See the schema."""

        async def work() -> pb.RefundSwapResponse:
            seen = await self._overview.refund(request.swap_id.lower(), request.reason)
            return pb.RefundSwapResponse(swap=convert.operator_swap_to(*seen))

        return await answered(context, request, work)
