"""The gRPC listeners: services, health and reflection."""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api.operator_service import OperatorServicer
from lnliquid.api.swap_service import SwapServicer
from lnliquid.seller.create import Seller
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Overview
from lnliquid.seller.withdraw import Withdrawer

SWAP_SERVICE = pb.DESCRIPTOR.services_by_name["SwapService"].full_name
OPERATOR_SERVICE = pb.DESCRIPTOR.services_by_name["OperatorService"].full_name


class Listener:
    """One address with services, health and reflection."""

    def __init__(self, address: str, *services: SwapServicer | OperatorServicer) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 64 * 1024),
                ("grpc.max_concurrent_streams", 2_000),
            ]
        )
        self._names = []
        for service in services:
            if isinstance(service, SwapServicer):
                pb_grpc.add_SwapServiceServicer_to_server(service, self._server)
                self._names.append(SWAP_SERVICE)
            else:
                pb_grpc.add_OperatorServiceServicer_to_server(service, self._server)
                self._names.append(OPERATOR_SERVICE)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = self._server.add_insecure_port(address)
        """The TCP port that was bound, 1 for a unix socket. `RuntimeError` if it could not be."""

    async def start(self) -> None:
        """Begin to answer. Ready only once `set_ready` says so."""
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """The health of a service's name is readiness; that of the empty name, being alive."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING)
        for name in self._names:
            await self._health.set(name, status.SERVING if ready else status.NOT_SERVING)

    async def stop(self, grace_secs: float) -> None:
        """Take no new calls, let running ones end within the grace, then close."""
        await self._health.enter_graceful_shutdown()
        await asyncio.shield(self._server.stop(grace_secs))


def listen(seller: Seller, address: str) -> Listener:
    """The buyers' listener."""
    return Listener(address, SwapServicer(seller))


def listen_operator(
    operator: Operator, overview: Overview, withdrawer: Withdrawer, seller: Seller, address: str
) -> Listener:
    """The operator's listener; what buyers may ask, the operator may too."""
    servicer = OperatorServicer(operator, overview, withdrawer)
    return Listener(address, servicer, SwapServicer(seller))
