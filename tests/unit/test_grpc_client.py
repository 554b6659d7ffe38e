"""The gRPC client against real servers: each failure is told apart, in words for a person."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api.errors import reply_to
from lnliquid.domain.errors import NotReady
from lnliquid.grpc_client import CallFailed, Client, NoAnswer, failure

Code = grpc.StatusCode
Reply = Callable[[bytes, Any], Awaitable[bytes]]


class Anything(grpc.GenericRpcHandler):
    """Answers every method with what `reply` makes of it."""

    def __init__(self) -> None:
        self.reply: Reply = ended_with(Code.INTERNAL, "not set")

    def service(self, _details: object) -> Any:
        """The one handler."""

        async def handler(request: bytes, context: Any) -> bytes:
            return await self.reply(request, context)

        return grpc.unary_unary_rpc_method_handler(handler)


def ended_with(code: Code, text: str, trailing: tuple[tuple[str, bytes], ...] = ()) -> Reply:
    """A reply that is this error."""

    async def reply(_request: bytes, context: Any) -> bytes:
        await context.abort(code, text, trailing)
        return b""

    return reply


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Anything, str]]:
    """A server that answers as the test says, and its address."""
    handler, address = Anything(), f"unix:{tmp_path}/s"
    listening = grpc.aio.server()
    listening.add_generic_rpc_handlers((handler,))
    listening.add_insecure_port(address)
    await listening.start()
    yield handler, address
    await listening.stop(None)


async def failed(address: str, *, secs: float = 10) -> CallFailed:
    """The error of a call there."""
    async with Client(address, pb_grpc.SwapServiceStub, call_secs=secs) as client:
        with pytest.raises(CallFailed) as caught:
            await client.call(lambda s, secs: s.GetOffer(pb.GetOfferRequest(), timeout=secs))
    return caught.value


NOT_READY = reply_to(NotReady("the backend is away"))


@pytest.mark.parametrize(
    ("code", "text", "trailing", "is_away", "may_pass", "said"),
    [
        (Code.NOT_FOUND, "no such\nswap", (), False, False, "no such swap"),
        (Code.UNAVAILABLE, "Socket closed", (), True, True, "no daemon answers at unix:"),
        (Code.UNAVAILABLE, "", (), True, True, "it cannot be reached"),
        (
            Code.UNAVAILABLE,
            NOT_READY.message,
            NOT_READY.trailing_metadata(),
            False,
            True,
            "the backend is away",
        ),
        (Code.INTERNAL, "log id 0123abcd", (), False, True, "log id 0123abcd"),
        (Code.UNKNOWN, "Unexpected <class>", (), False, True, "with UNKNOWN and no reason"),
        (Code.ABORTED, "", (), False, False, "with ABORTED and no reason"),
        (Code.UNIMPLEMENTED, "Method not found!", (), False, False, "does not have this call"),
        (Code.DEADLINE_EXCEEDED, "", (), True, True, "no answer in 10 s"),
    ],
)
async def test_each_status_is_one_kind_of_failure(
    server: tuple[Anything, str],
    code: Code,
    text: str,
    trailing: tuple[tuple[str, bytes], ...],
    is_away: bool,
    may_pass: bool,
    said: str,
) -> None:
    """Away or answered, to be repeated or not, with a sentence in one line."""
    handler, address = server
    handler.reply = ended_with(code, text, trailing)
    error = await failed(address)
    assert (isinstance(error, NoAnswer), error.may_pass) == (is_away, may_pass)
    assert error.exit_code == (3 if is_away else 1)
    assert said in str(error)
    assert "\n" not in str(error)


async def test_bytes_that_are_no_answer_are_an_error(server: tuple[Anything, str]) -> None:
    """grpc.aio gives None for them."""

    async def garbage(_request: bytes, _context: object) -> bytes:
        return b"\xff\xff\xff"

    server[0].reply = garbage
    error = await failed(server[1])
    assert error.may_pass
    assert error.reason == "its answer cannot be read"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "it cannot be reached (connection refused)"),
        ("unix:/nowhere/s", "it cannot be reached (no such file or directory)"),
    ],
)
async def test_nothing_that_listens_is_told_by_its_cause(address: str, reason: str) -> None:
    """Not by gRPC's account of its attempts."""
    error = await failed(address)
    assert isinstance(error, NoAnswer)
    assert error.reason == reason


async def test_an_answer_that_does_not_come_ends_in_time(server: tuple[Anything, str]) -> None:
    """By the time of the client."""

    async def never(_request: bytes, _context: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    server[0].reply = never
    assert "no answer in 0.2 s" in str(await failed(server[1], secs=0.2))


async def test_a_closed_client_gives_no_answer(server: tuple[Anything, str]) -> None:
    """Also one that was never used: `top` may be quit before its first look."""
    client = Client(server[1], pb_grpc.SwapServiceStub)
    await client.close()
    with pytest.raises(NoAnswer, match="closed"):
        await client.call(lambda s, secs: s.GetOffer(pb.GetOfferRequest(), timeout=secs))


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy"])
async def test_no_daemon_is_asked_by_a_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment leads to the web, which the daemon is not in."""
    listening = grpc.aio.server()
    handler = Anything()
    handler.reply = ended_with(Code.NOT_FOUND, "asked")
    listening.add_generic_rpc_handlers((handler,))
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Client(f"127.0.0.1:{port}", pb_grpc.SwapServiceStub) as client:
        with pytest.raises(CallFailed, match="asked"):
            await client.call(lambda s, secs: s.GetOffer(pb.GetOfferRequest(), timeout=secs))
    await listening.stop(None)


def test_a_status_without_words_gets_words() -> None:
    """Such as gRPC itself makes when a connection breaks in the middle."""
    for status in Code:
        if status is not Code.OK:
            metadata = grpc.aio.Metadata()
            error = failure("unix:here", grpc.aio.AioRpcError(status, metadata, metadata), 1.0)
            assert "unix:here" in str(error)
