"""What the live view shows, read from the daemon. Its calls raise `grpc_client.CallFailed`."""

from dataclasses import dataclass

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1.swap_pb2_grpc import OperatorServiceStub
from lnliquid.grpc_client import Client

CALL_SECS = 5.0
MAX_SWAPS, MAX_EVENTS = 500, 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the daemon: its status and its newest swaps."""

    status: pb.GetStatusResponse
    swaps: tuple[pb.OperatorSwap, ...]


class Feed:
    """One connection to the operator's listener, for as long as the view is open."""

    def __init__(self, address: str) -> None:
        self._client = Client(address, OperatorServiceStub, call_secs=CALL_SECS)
        self.close = self._client.close

    async def snapshot(self) -> Snapshot:
        """Everything anew."""
        how = pb.GetStatusRequest(limit=MAX_EVENTS)
        status = await self._client.call(lambda stub, secs: stub.GetStatus(how, timeout=secs))
        which = pb.ListSwapsRequest(limit=MAX_SWAPS)
        reply = await self._client.call(lambda stub, secs: stub.ListSwaps(which, timeout=secs))
        return Snapshot(status, tuple(reply.swaps))

    async def inspect(self, swap_id: str) -> pb.InspectSwapResponse:
        """One swap with its events."""
        request = pb.InspectSwapRequest(swap_id=swap_id)
        return await self._client.call(lambda stub, secs: stub.InspectSwap(request, timeout=secs))
