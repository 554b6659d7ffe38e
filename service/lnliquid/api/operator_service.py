"""`OperatorService` of the schema, on a listener of its own."""

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.rpc import Context, rpc
from lnliquid.domain.swap import State
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Filter, Overview

DEFAULT_LIMIT = 100
DEFAULT_STATUS_LIMIT = 50


class OperatorServicer(pb_grpc.OperatorServiceServicer):
    """See the schema for each call."""

    def __init__(self, operator: Operator, overview: Overview) -> None:
        self._operator = operator
        self._overview = overview

    @rpc
    async def ListSwaps(self, request: pb.ListSwapsRequest, _: Context) -> pb.ListSwapsResponse:
        wanted = Filter(
            states=tuple(State(s) for s in request.states),
            paid_unclaimed=request.paid_unclaimed,
            unfinished=request.unfinished,
            created_from=request.created_from or None,
            created_before=request.created_before or None,
        )
        found = await self._overview.swaps(wanted, request.limit or DEFAULT_LIMIT)
        return pb.ListSwapsResponse(swaps=[convert.operator_swap_to(*seen) for seen in found])

    @rpc
    async def InspectSwap(
        self, request: pb.InspectSwapRequest, _: Context
    ) -> pb.InspectSwapResponse:
        seen, events, tip_height = await self._overview.inspect(request.swap_id.lower())
        return pb.InspectSwapResponse(
            swap=convert.operator_swap_to(*seen),
            events=[convert.event_to(event) for event in events],
            tip_height=tip_height or 0,
        )

    @rpc
    async def GetStatus(self, request: pb.GetStatusRequest, _: Context) -> pb.GetStatusResponse:
        limit = request.limit or DEFAULT_STATUS_LIMIT
        status = await self._overview.status(request.after_event, limit)
        return convert.status_to(status, self._overview.settings)

    @rpc
    async def GetInventory(
        self, request: pb.GetInventoryRequest, _: Context
    ) -> pb.GetInventoryResponse:
        return pb.GetInventoryResponse(
            assets=[convert.holding_to(h) for h in await self._operator.holdings()],
            paused=await self._operator.paused(),
        )

    @rpc
    async def Pause(self, request: pb.PauseRequest, _: Context) -> pb.PauseResponse:
        await self._operator.set_paused(True)
        return pb.PauseResponse()

    @rpc
    async def Resume(self, request: pb.ResumeRequest, _: Context) -> pb.ResumeResponse:
        await self._operator.set_paused(False)
        return pb.ResumeResponse()

    @rpc
    async def RefundSwap(self, request: pb.RefundSwapRequest, _: Context) -> pb.RefundSwapResponse:
        seen = await self._overview.refund(request.swap_id.lower(), request.reason)
        return pb.RefundSwapResponse(swap=convert.operator_swap_to(*seen))
