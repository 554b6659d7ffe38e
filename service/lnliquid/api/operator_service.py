"""`OperatorService` of the schema, on a listener of its own."""

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.rpc import Context, rpc
from lnliquid.domain.swap import State
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Filter, Overview
from lnliquid.seller.withdraw import Withdrawer

DEFAULT_LIMIT = 100
DEFAULT_STATUS_LIMIT = 50


class OperatorServicer(pb_grpc.OperatorServiceServicer):
    """See the schema for each call."""

    def __init__(self, operator: Operator, overview: Overview, withdrawer: Withdrawer) -> None:
        self._operator = operator
        self._overview = overview
        self._withdrawer = withdrawer

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

    @rpc
    async def SetPrice(self, request: pb.SetPriceRequest, _: Context) -> pb.SetPriceResponse:
        price = await self._operator.set_price(
            request.asset_id, request.price_msat_per_asset_unit, request.valid_secs
        )
        return pb.SetPriceResponse(
            price_msat_per_asset_unit=price.msat_per_unit, price_valid_until=price.valid_until or 0
        )

    @rpc
    async def Withdraw(self, request: pb.WithdrawRequest, _: Context) -> pb.WithdrawResponse:
        order = convert.order_from(request)
        if request.dry_run:
            quote = await self._withdrawer.quote(order, take_reserve=request.take_reserve)
            would_be = pb.Withdrawal(
                request_id=order.request_id,
                asset_id=order.asset_id,
                amount=quote.amount,
                address=order.address,
                fee_sats=quote.fee_sats,
            )
            return pb.WithdrawResponse(withdrawal=would_be)
        made = await self._withdrawer.withdraw(order, take_reserve=request.take_reserve)
        return pb.WithdrawResponse(withdrawal=convert.withdrawal_to(made))

    @rpc
    async def ListWithdrawals(
        self, request: pb.ListWithdrawalsRequest, _: Context
    ) -> pb.ListWithdrawalsResponse:
        found = await self._withdrawer.listed(request.limit or DEFAULT_LIMIT)
        return pb.ListWithdrawalsResponse(withdrawals=[convert.withdrawal_to(w) for w in found])

    @rpc
    async def ListDeposits(
        self, request: pb.ListDepositsRequest, _: Context
    ) -> pb.ListDepositsResponse:
        found = await self._withdrawer.deposits(request.limit or DEFAULT_LIMIT)
        return pb.ListDepositsResponse(deposits=[convert.deposit_to(*seen) for seen in found])

    @rpc
    async def NewAddress(self, _request: pb.NewAddressRequest, _: Context) -> pb.NewAddressResponse:
        return pb.NewAddressResponse(address=await self._withdrawer.new_address())
