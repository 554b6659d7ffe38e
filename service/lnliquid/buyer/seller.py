"""Calls to a seller. Their failures are kinds of `BuyerError`."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.buyer.answers import offer_of
from lnliquid.buyer.errors import SellerDeclined, SellerUnavailable
from lnliquid.buyer.journal import UUID, Order
from lnliquid.domain.swap import Offer
from lnliquid.grpc_client import CallFailed, Client

Answer = TypeVar("Answer")


class SellerClient:
    """One seller. Each call may raise `SellerUnavailable` (try again) or `SellerDeclined`."""

    def __init__(
        self, address: str, *, call_secs: float = 10.0, create_secs: float = 100.0
    ) -> None:
        """`address`: host:port or unix:/path. `create_secs` is above the daemon's create_wait."""
        self.address = address
        self._client = Client(address, pb_grpc.SwapServiceStub, call_secs=call_secs)
        self._create_secs = create_secs

    async def close(self) -> None:
        """End the connection."""
        await self._client.close()

    async def offer(self, asset_id: str) -> Offer:
        """What the seller sells of this asset."""
        request = pb.GetOfferRequest(asset_id=asset_id)
        answer = await self._call(lambda stub, secs: stub.GetOffer(request, timeout=secs))
        return offer_of(answer.offer)

    async def create(self, order: Order, claim_address: str) -> pb.Swap:
        """Ask for the swap; safe to repeat with the same order."""
        request = pb.CreateSwapRequest(
            asset_id=order.asset_id,
            asset_amount=order.amount,
            buyer_claim_address=claim_address,
            min_funding_confs=order.min_confs,
            max_total_price_msat=order.max_price_msat,
            request_id=order.request_id,
        )
        answer = await self._call(
            lambda stub, secs: stub.CreateSwap(request, timeout=secs), self._create_secs
        )
        if not UUID.fullmatch(answer.swap.swap_id):
            raise SellerUnavailable(self.address, "what it calls the swap is no id")
        return answer.swap

    async def swap(self, swap_id: str) -> pb.Swap:
        """The swap as it stands; an answer about another one is no answer."""
        request = pb.GetSwapRequest(swap_id=swap_id)
        answer = await self._call(lambda stub, secs: stub.GetSwap(request, timeout=secs))
        if answer.swap.swap_id != swap_id:
            raise SellerUnavailable(self.address, f"asked for swap {swap_id} it tells of another")
        return answer.swap

    async def _call(
        self,
        make: "Callable[[pb_grpc.SwapServiceAsyncStub, float], Awaitable[Answer]]",  # in stubs only
        secs: float | None = None,
    ) -> Answer:
        try:
            return await self._client.call(make, secs=secs)
        except CallFailed as error:
            if error.may_pass:
                raise SellerUnavailable(self.address, error.reason) from None
            raise SellerDeclined(error.status.name, error.reason) from None
