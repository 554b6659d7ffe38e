"""The gRPC listeners: services, health and reflection."""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid import descriptors
from lnliquid.addresses import socket_path
from lnliquid.api.operator_service import OperatorServicer
from lnliquid.api.swap_service import SwapServicer
from lnliquid.api.unix_socket import OwnSocket
from lnliquid.seller.create import Seller
from lnliquid.seller.operator import Operator
from lnliquid.seller.overview import Overview
from lnliquid.seller.withdraw import Withdrawer
from lnliquid.wire import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES

SWAP_SERVICE = pb.DESCRIPTOR.services_by_name["SwapService"].full_name
OPERATOR_SERVICE = pb.DESCRIPTOR.services_by_name["OperatorService"].full_name


SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    # Calls of one connection at a time; a client keeps further ones until some have ended.
    ("grpc.max_concurrent_streams", 2_000),
    # By default calls that came in a burst are refused from 1,000 on, with no reason. Here each
    # is answered: what is too much is refused by the limit on open swaps.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    # Clients that ask by pings whether the daemon is there may do so as often as they like: by
    # default they are thrown out of calls that wait ("too many pings").
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    # A client that vanished without a word; the daemon would keep its calls and descriptor.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Connections without a call are ended (GOAWAY, which clients follow by a new one), and those
    # that never speak HTTP/2.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
)
"""Every option of a server that matters, but the number of its connections."""


class Listener:
    """One address with services, health and reflection."""

    def __init__(self, address: str, *services: SwapServicer | OperatorServicer) -> None:
        """Bind the address. `RuntimeError` or `SettingsError` when it cannot be."""
        connections = ("grpc.max_allowed_incoming_connections", descriptors.connections())
        self._server = grpc.aio.server(options=[*SERVER_OPTIONS, connections])
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
        path = socket_path(address)
        self._socket = None if path is None else OwnSocket.claim(path)
        try:
            own = self._socket
            self.port = self._server.add_insecure_port(own.address if own else address)
            """The TCP port that was bound, 1 for a unix socket."""
            if own is not None:
                own.publish()
        except BaseException:
            self.release()
            raise

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
        self.release()

    def release(self) -> None:
        """Give up the place of a unix socket, also of a listener that was never started."""
        if self._socket is not None:
            self._socket.release()


def listen(seller: Seller, address: str) -> Listener:
    """The buyers' listener."""
    return Listener(address, SwapServicer(seller))


def listen_operator(
    operator: Operator, overview: Overview, withdrawer: Withdrawer, seller: Seller, address: str
) -> Listener:
    """The operator's listener; what buyers may ask, the operator may too."""
    servicer = OperatorServicer(operator, overview, withdrawer)
    return Listener(address, servicer, SwapServicer(seller))
