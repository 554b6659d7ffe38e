"""The one gRPC client: the channel's options, and one mapping of what can go wrong in a call.

The buyer asks a seller with it, operator commands, `top` and `health` ask the daemon.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc

from lnliquid.domain.errors import EXIT_FAILED, EXIT_UNAVAILABLE, KnownError
from lnliquid.wire import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES

Stub = TypeVar("Stub")
Answer = TypeVar("Answer")

CHANNEL_OPTIONS = (
    # The defaults back off up to two minutes, far longer than a restart of the daemon takes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name: how long an attempt to connect may take, on a busy machine too.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # `http_proxy` of the environment is for the web: the daemon is here or in a closed network.
    ("grpc.enable_http_proxy", 0),
    # A daemon that vanishes without a word is noticed while a call waits for it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
)
"""Every option of a channel that matters; the lab and others that call by themselves set theirs."""

MAY_PASS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class CallFailed(KnownError):
    """The server answered with an error, or with bytes that are no answer.

    `reason` is the server's own text in one line, or the cause; the message is a sentence.
    """

    exit_code = EXIT_FAILED

    def __init__(self, address: str, status: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.address = address
        self.status = status
        self.reason = reason

    @property
    def may_pass(self) -> bool:
        """True when the same call may succeed later. It may have been carried out already."""
        return self.status in MAY_PASS


class NoAnswer(CallFailed):
    """Nothing listens there, or no answer came in time: the call may have been carried out."""

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, address: str, status: grpc.StatusCode, reason: str) -> None:
        super().__init__(address, status, reason, f"no daemon answers at {address}: {reason}")


class Client(Generic[Stub]):
    """One connection to a server, opened at the first call.

    `address`: host:port or unix:/path. `stub`: the generated class of the service.
    """

    def __init__(
        self,
        address: str,
        stub: Callable[[grpc.aio.Channel], Stub],
        *,
        call_secs: float = 10.0,
    ) -> None:
        """`call_secs`: time of one call."""
        self.address = address
        self._new_stub = stub
        self._call_secs = call_secs
        self._channel: grpc.aio.Channel | None = None
        self._is_closed = False

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
        """End the connection; a later call raises `NoAnswer`."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    async def call(
        self, make: Callable[[Stub, float], Awaitable[Answer]], *, secs: float | None = None
    ) -> Answer:
        """The answer of `make(stub, timeout)`. Raises `CallFailed` and `NoAnswer`, nothing else.

        `secs`: time of this call, where it differs from the client's.
        """
        if self._is_closed:
            raise NoAnswer(self.address, grpc.StatusCode.CANCELLED, "the connection is closed")
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        timeout = self._call_secs if secs is None else secs
        try:
            answer: Answer | None = await make(self._new_stub(self._channel), timeout)
        except grpc.aio.AioRpcError as error:
            raise failure(self.address, error, timeout) from None
        if answer is None:  # what grpc.aio makes of bytes that are not of the schema
            reason = "its answer cannot be read"
            raise CallFailed(
                self.address, grpc.StatusCode.UNKNOWN, reason, f"{self.address}: {reason}"
            )
        return answer


def failure(address: str, error: grpc.aio.AioRpcError, secs: float) -> CallFailed:
    """The error of a call that ended with a status. `secs` is the time that the call had."""
    status, text = error.code(), " ".join((error.details() or "").split())
    match status:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return NoAnswer(address, status, f"no answer in {secs:g} s")
        case grpc.StatusCode.UNAVAILABLE if not _is_the_daemons_own(error):
            return NoAnswer(address, status, _cause(text))
        case grpc.StatusCode.UNIMPLEMENTED:
            reason = (
                f"what listens at {address} does not have this call: the address is another "
                "listener's, or the daemon is older than this program"
            )
            return CallFailed(address, status, reason, reason)
    if not text or status is grpc.StatusCode.UNKNOWN:
        reason = text or "no reason given"
        ended = f"{address} ended the call with {status.name} and no reason; see the daemon's log"
        return CallFailed(address, status, reason, ended)
    return CallFailed(address, status, text, text)


def _is_the_daemons_own(error: grpc.aio.AioRpcError) -> bool:
    """True when the daemon answered; gRPC's own errors have no `google.rpc` details."""
    return "grpc-status-details-bin" in {key for key, _ in error.trailing_metadata() or ()}


def _cause(text: str) -> str:
    """Of gRPC's account of a failed connection only what the system said."""
    if text.startswith("failed to connect"):
        return f"it cannot be reached ({text.rpartition(': ')[2].lower()})"
    return text or "it cannot be reached"
