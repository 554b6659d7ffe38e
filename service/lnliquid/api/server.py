"""The gRPC server: servicer, validation, health and reflection."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api import convert
from lnliquid.api.errors import Reply, reply_to
from lnliquid.errors import FieldViolation, InvalidRequest, NotReady, SwapError
from lnliquid.seller.create import Seller
from lnliquid.store.sqlite import StoreFailure

log = structlog.get_logger()

SWAP_SERVICE = pb.DESCRIPTOR.services_by_name["SwapService"].full_name
T = TypeVar("T")


def validate(message: Message) -> None:
    """Apply the rules of the schema. Raises `InvalidRequest` with every violation."""
    violations = []
    for violation in protovalidate.collect_violations(message):
        where = violation.proto.field
        path = ".".join(e.field_name for e in where.elements) if where else ""
        violations.append(FieldViolation(path, violation.proto.message))
    if violations:
        raise InvalidRequest(tuple(violations))


async def answered(
    context: grpc.aio.ServicerContext[Any, Any], request: Message, work: Callable[[], Awaitable[T]]
) -> T:
    """Validate, work, and turn whatever goes wrong into a status with details."""
    try:
        validate(request)
        return await work()
    except SwapError as error:
        reply = reply_to(error)  # type: ignore[arg-type]  # every kind is in the union
    except StoreFailure as error:
        log.error("the store did not commit", reason=str(error))
        reply = reply_to(NotReady("the store cannot write at the moment"))
    except Exception:
        log_id = secrets.token_hex(4)
        log.exception("internal error", log_id=log_id)
        reply = Reply(grpc.StatusCode.INTERNAL, f"internal error, log id {log_id}")
    await context.abort(reply.code, reply.message, reply.trailing_metadata())
    raise AssertionError("abort raises")


class SwapServicer(pb_grpc.SwapServiceServicer):
    """`SwapService` of the schema; everything of substance is the seller's."""

    def __init__(self, seller: Seller) -> None:
        self._seller = seller

    async def GetOffer(  # noqa: N802  # gRPC's own name
        self, request: pb.GetOfferRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetOfferResponse:
        """See the schema."""

        async def work() -> pb.GetOfferResponse:
            offer = await self._seller.offer(request.asset_id)
            return pb.GetOfferResponse(offer=convert.offer_to(offer))

        return await answered(context, request, work)

    async def CreateSwap(  # noqa: N802
        self, request: pb.CreateSwapRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateSwapResponse:
        """See the schema."""

        async def work() -> pb.CreateSwapResponse:
            swap = await self._seller.create_swap(convert.request_from(request))
            return pb.CreateSwapResponse(swap=convert.swap_to(swap))

        return await answered(context, request, work)

    async def GetSwap(  # noqa: N802
        self, request: pb.GetSwapRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetSwapResponse:
        """See the schema."""

        async def work() -> pb.GetSwapResponse:
            swap, events = await self._seller.swap(request.swap_id.lower())
            return pb.GetSwapResponse(
                swap=convert.swap_to(swap), events=[convert.event_to(e) for e in events]
            )

        return await answered(context, request, work)


class Server:
    """The listener with all its services. `health` shows readiness under the service's name."""

    def __init__(self, seller: Seller, address: str) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 64 * 1024),
                ("grpc.max_concurrent_streams", 2_000),
            ]
        )
        pb_grpc.add_SwapServiceServicer_to_server(SwapServicer(seller), self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SWAP_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = self._server.add_insecure_port(address)
        """The TCP port that was bound, 1 for a unix socket."""

    async def start(self) -> None:
        """Begin to answer. Ready only once `set_ready` says so."""
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """The health of the service's name is readiness; that of the empty name, being alive."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING)
        await self._health.set(SWAP_SERVICE, status.SERVING if ready else status.NOT_SERVING)

    async def stop(self, grace_secs: float) -> None:
        """Take no new calls, let running ones end within the grace, then close."""
        await self._health.enter_graceful_shutdown()
        await asyncio.shield(self._server.stop(grace_secs))
