"""What the live view shows, read from the daemon; a daemon that is away is an answer too."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc

CALL_SECS = 5.0
MAX_SWAPS, MAX_EVENTS = 500, 50
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
"""A daemon that is back is seen within two seconds, however long it was away."""


class Away(Exception):
    """The daemon gave no answer that can be shown; the message says what it was asked and why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the daemon: how it is, and its newest swaps."""

    status: pb.GetStatusResponse
    swaps: tuple[pb.OperatorSwap, ...]


class Feed:
    """One channel to the operator's listener, for as long as the view is open."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub: swap_pb2_grpc.OperatorServiceAsyncStub = swap_pb2_grpc.OperatorServiceStub(
            self._channel
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def snapshot(self) -> Snapshot:
        """Everything anew. Raises `Away`."""
        try:
            status = await self._stub.GetStatus(
                pb.GetStatusRequest(limit=MAX_EVENTS), timeout=CALL_SECS
            )
            reply = await self._stub.ListSwaps(
                pb.ListSwapsRequest(limit=MAX_SWAPS), timeout=CALL_SECS
            )
        except grpc.aio.AioRpcError as error:
            raise self._away(error) from None
        except grpc.aio.UsageError:  # hung up between the two calls, or before them
            raise Away("the view is closed") from None
        return Snapshot(status, tuple(reply.swaps))

    async def inspect(self, swap_id: str) -> pb.InspectSwapResponse:
        """One swap with its events. Raises `Away`."""
        try:
            return await self._stub.InspectSwap(
                pb.InspectSwapRequest(swap_id=swap_id), timeout=CALL_SECS
            )
        except grpc.aio.AioRpcError as error:
            raise self._away(error) from None
        except grpc.aio.UsageError:
            raise Away("the view is closed") from None

    def _away(self, error: grpc.aio.AioRpcError) -> Away:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return Away(f"no daemon answers at {self.address}")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Away(f"the daemon at {self.address} takes longer than {CALL_SECS:g} s")
        said = error.details() or f"it ended the call with {error.code().name}"
        return Away(f"the daemon at {self.address} does not answer: {said}")
