"""One connection to an Electrum server: requests in flight, notifications, its end.

Framing and JSON come from aiorpcX. Its own throttling, time-outs and batches are not used: requests
are written one after the other and their answers awaited together, because some Liquid servers
close the connection on a JSON array. An error that is a plain string (electrs) counts as one.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from aiorpcx import NewlineFramer, RPCError, RPCSession, connect_rs
from aiorpcx.jsonrpc import JSONRPC, JSONRPCConnection, JSONRPCLoose, Request

from lnliquid.domain.electrum_servers import ElectrumServer

MAX_MESSAGE_BYTES = 64_000_000
"""Longest line taken from a server; a transaction of 400,000 weight is 0.8 MB of hex."""

NO_CODE: int = JSONRPC.ERROR_CODE_UNAVAILABLE
"""Code of an error that came without one."""
BUSY_CODES: frozenset[int] = frozenset({JSONRPC.EXCESSIVE_RESOURCE_USAGE, JSONRPC.SERVER_BUSY})
"""The server did not get round to the request (aiorpcX and ElectrumX)."""

NotificationHandler = Callable[[str, Sequence[Any]], None]
"""Takes method and positional parameters of a notification; does not block."""


class ConnectionLost(Exception):
    """The connection ended. What was in flight may or may not have been carried out."""


class ElectrumSession(RPCSession):  # type: ignore[misc]  # aiorpcX ships no types
    """A connected client session, made by `connect`."""

    def __init__(
        self, transport: Any, on_notification: NotificationHandler, on_lost: Callable[[], None]
    ) -> None:
        super().__init__(transport)
        self._on_notification = on_notification
        self._on_lost = on_lost
        self.lost = False

    @property
    def received_bytes(self) -> int:
        """Bytes received so far; it stands still on a connection that is dead."""
        return int(self.recv_size)

    def default_connection(self) -> Any:
        """Read answers leniently: `error` may be an object, a string or a number."""
        return JSONRPCConnection(JSONRPCLoose)

    async def handle_request(self, request: Any) -> None:
        """Pass a notification on. Servers send no requests in this protocol."""
        if isinstance(request.args, (list, tuple)):
            self._on_notification(request.method, request.args)

    async def connection_lost(self) -> None:
        """Called by aiorpcX at the end of the connection; whatever waits for answers is told."""
        self.lost = True
        await super().connection_lost()
        self._on_lost()

    async def exchange(
        self, method: str, argument_lists: Iterable[Sequence[Any]], deadline_secs: float
    ) -> list[Any]:
        """Send one request per argument list and return the answers in that order.

        A refusal stands in the list as `RPCError`. Raises `TimeoutError` when not all answers are
        there in time, `ConnectionLost` when the connection ends first.
        """
        sent = [self.connection.send_request(Request(method, list(a))) for a in argument_lists]
        answers: list[asyncio.Future[Any]] = [future for _, future in sent]
        if not answers:
            return []
        try:
            async with asyncio.timeout(deadline_secs):
                await self.transport.write(b"\n".join(message for message, _ in sent))
                if self.lost or self.is_closing():
                    raise ConnectionLost
                await asyncio.wait(answers)
            if any(answer.cancelled() for answer in answers):
                raise ConnectionLost
            return [_result(answer) for answer in answers]
        finally:
            for answer in answers:
                answer.cancel()  # no effect on those that are done
                if not answer.cancelled():
                    answer.exception()  # counts as read, whatever is raised here


def _result(answer: asyncio.Future[Any]) -> Any:
    error = answer.exception()
    if error is None:
        return answer.result()
    if isinstance(error, RPCError):
        return error
    return RPCError(NO_CODE, f"malformed answer: {error}")


async def connect(
    server: ElectrumServer,
    *,
    on_notification: NotificationHandler,
    on_lost: Callable[[], None],
    deadline_secs: float,
) -> ElectrumSession:
    """Open a connection, over TLS where the server is named so.

    Raises `OSError`, of which `TimeoutError` is one; also for a certificate that is not trusted.
    """
    client = connect_rs(
        server.host,
        server.port,
        session_factory=lambda transport: ElectrumSession(transport, on_notification, on_lost),
        framer=NewlineFramer(MAX_MESSAGE_BYTES),
        **({"ssl": _tls_context(server)} if server.is_tls else {}),
    )
    try:
        async with asyncio.timeout(deadline_secs):
            transport, protocol = await client.create_connection()
    except ssl.SSLCertVerificationError as error:
        raise OSError(
            f"certificate not trusted: {error.verify_message}; "
            "add ?fingerprint=SHA256 to the URL to trust this certificate alone"
        ) from None
    session: ElectrumSession = protocol.session
    if server.fingerprint is not None:
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        found = hashlib.sha256(certificate).hexdigest()
        if found != server.fingerprint:
            await session.abort()
            await session.close(force_after=1)
            raise OSError(f"certificate has the fingerprint {found}, not {server.fingerprint}")
    return session


@cache
def _tls_context(server: ElectrumServer) -> ssl.SSLContext:
    context = ssl.create_default_context()  # reads files, so once and not at each reconnect
    if server.fingerprint is not None:  # compared in `connect`, before anything is sent
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
