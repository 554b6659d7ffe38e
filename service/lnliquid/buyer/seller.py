"""The seller as the buyer sees it: gRPC calls, their failures as `BuyerError` kinds."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from ln_liquid_swap.v1 import swap_pb2, swap_pb2_grpc
from lnliquid.buyer.errors import SellerDeclined, SellerUnavailable
from lnliquid.buyer.facts import SwapReply
from lnliquid.buyer.journal import UUID, Order
from lnliquid.swap import Offer, State

Answer = TypeVar("Answer", bound=Message)


CHANNEL_OPTIONS = (
    # The defaults back off up to two minutes, far longer than a restart of the daemon takes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_MAY_PASS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class Seller:
    """Calls to one seller. Each may raise `SellerUnavailable` (try again) or `SellerDeclined`."""

    def __init__(
        self, address: str, *, call_secs: float = 10.0, create_secs: float = 100.0
    ) -> None:
        """`address`: host:port or unix:/path. `create_secs` is above the daemon's create_wait."""
        self.address = address
        self._call_secs = call_secs
        self._create_secs = create_secs
        self._channel: grpc.aio.Channel | None = None

    @property
    def _stub(self) -> "swap_pb2_grpc.SwapServiceAsyncStub":  # in the type stubs only
        # Opened at the first call: some commands need no seller and have no address of one.
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        return swap_pb2_grpc.SwapServiceStub(self._channel)

    async def close(self) -> None:
        """Drop the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def offer(self, asset_id: str) -> Offer:
        """What the seller sells of this asset."""
        request = swap_pb2.GetOfferRequest(asset_id=asset_id)
        answer = await self._call(lambda: self._stub.GetOffer(request, timeout=self._call_secs))
        return offer_of(answer.offer)

    async def create(self, order: Order, claim_address: str) -> SwapReply:
        """Ask for the swap; safe to repeat with the same order."""
        request = swap_pb2.CreateSwapRequest(
            asset_id=order.asset_id,
            asset_amount=order.amount,
            buyer_claim_address=claim_address,
            min_funding_confs=order.min_confs,
            max_total_price_msat=order.max_price_msat,
            request_id=order.request_id,
        )
        answer = await self._call(lambda: self._stub.CreateSwap(request, timeout=self._create_secs))
        if not UUID.fullmatch(answer.swap.swap_id):
            raise SellerUnavailable(self.address, "what it calls the swap is no id")
        return swap_of(answer.swap)

    async def swap(self, swap_id: str) -> SwapReply:
        """The swap as it stands; an answer about another one is no answer."""
        request = swap_pb2.GetSwapRequest(swap_id=swap_id)
        answer = await self._call(lambda: self._stub.GetSwap(request, timeout=self._call_secs))
        if answer.swap.swap_id != swap_id:
            raise SellerUnavailable(self.address, f"asked for swap {swap_id} it tells of another")
        return swap_of(answer.swap)

    async def _call(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            answer: Answer | None = await call()
        except grpc.aio.AioRpcError as error:
            message = _reason(error.details() or "")
            if error.code() in _MAY_PASS:
                raise SellerUnavailable(self.address, message) from None
            raise SellerDeclined(error.code().name, message) from None
        if answer is None:  # grpc.aio's word for bytes that are not of the schema
            raise SellerUnavailable(self.address, "its answer cannot be read")
        return answer


def _reason(details: str) -> str:
    """The seller's text; of gRPC's own account of a failed connection only its cause."""
    if details.startswith("failed to connect"):
        return "it cannot be reached: " + details.rpartition(": ")[2].lower()
    return details or "no reason given"


def offer_of(offer: swap_pb2.Offer) -> Offer:
    """The schema's offer as the domain has it."""
    return Offer(
        network=offer.network,
        asset_id=offer.asset_id,
        asset_precision=offer.asset_precision,
        price_msat_per_asset_unit=offer.price_msat_per_asset_unit,
        min_swap_amount=offer.min_swap_amount,
        max_swap_amount=offer.max_swap_amount,
        available_amount=offer.available_amount,
        fee_subsidy_sats=offer.fee_subsidy_sats,
        refund_delta_blocks=offer.refund_delta_blocks,
        invoice_expiry_secs=offer.invoice_expiry_secs,
        max_min_funding_confs=offer.max_min_funding_confs,
        max_ln_cltv_blocks=offer.max_ln_cltv_blocks,
        claim_margin_blocks=offer.claim_margin_blocks,
        liquid_block_secs=offer.liquid_block_secs,
        lightning_block_secs=offer.lightning_block_secs,
        lightning_node_id=offer.lightning_node_id,
    )


def swap_of(swap: swap_pb2.Swap) -> SwapReply:
    """The schema's swap as the checks read it."""
    return SwapReply(
        swap_id=swap.swap_id,
        request_id=swap.request_id,
        state=State(swap.state) if swap.state in {state.value for state in State} else None,
        asset_id=swap.asset_id,
        asset_amount=swap.asset_amount,
        subsidy_sats=swap.fee_subsidy_sats,
        total_price_msat=swap.total_price_msat,
        claim_address=swap.buyer_claim_address,
        payment_hash=swap.payment_hash,
        seller_key_hash=swap.seller_key_hash,
        refund_lock_height=swap.refund_lock_height,
        witness_script=swap.witness_script,
        funding_txid=swap.funding_txid,
        asset_vout=swap.asset_vout,
        subsidy_vout=swap.subsidy_vout,
        bolt11=swap.bolt11,
        max_ln_cltv_blocks=swap.max_ln_cltv_blocks,
        spend_txid=swap.spend_txid,
    )
