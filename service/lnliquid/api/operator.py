"""`OperatorService` of the schema, on a listener of its own."""

from typing import Any

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.answer import answered
from lnliquid.seller.operator import Operator
from lnliquid.swap import State

DEFAULT_LIMIT = 100
Context = grpc.aio.ServicerContext[Any, Any]


class OperatorServicer(pb_grpc.OperatorServiceServicer):
    """Everything of substance is in `seller/operator.py`; see the schema for each call."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def ListSwaps(  # noqa: N802  # gRPC's own name
        self, request: pb.ListSwapsRequest, context: Context
    ) -> pb.ListSwapsResponse:
        """See the schema."""

        async def work() -> pb.ListSwapsResponse:
            states = [State(s) for s in request.states if s]
            swaps = await self._operator.swaps(
                states, request.paid_unclaimed, request.limit or DEFAULT_LIMIT
            )
            return pb.ListSwapsResponse(swaps=[convert.operator_swap_to(s) for s in swaps])

        return await answered(context, request, work)

    async def GetInventory(  # noqa: N802
        self, request: pb.GetInventoryRequest, context: Context
    ) -> pb.GetInventoryResponse:
        """See the schema."""

        async def work() -> pb.GetInventoryResponse:
            return pb.GetInventoryResponse(
                assets=[
                    pb.AssetInventory(
                        asset_id=h.asset_id,
                        available=h.available,
                        reserved=h.reserved,
                        locked=h.locked,
                        coins=h.coins,
                    )
                    for h in await self._operator.holdings()
                ],
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
            swap = await self._operator.refund(request.swap_id.lower(), request.reason)
            return pb.RefundSwapResponse(swap=convert.operator_swap_to(swap))

        return await answered(context, request, work)
