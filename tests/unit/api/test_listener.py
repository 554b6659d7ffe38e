"""The options of a listener, each against a real client, and whose a unix socket is."""

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnlab.wait import wait_for
from lnliquid import descriptors
from lnliquid.api.server import SERVER_OPTIONS, Listener, listen
from lnliquid.domain.errors import SettingsError, TooManySwaps
from lnliquid.domain.swap import Request, Swap
from lnliquid.grpc_client import CHANNEL_OPTIONS
from lnliquid.wire import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES

from ..builders import ASSET, make_swap, uuid_of
from .test_swap_service import GOOD, FakeSeller

HASTY = (("grpc.keepalive_time_ms", 1_000), ("grpc.http2.max_pings_without_data", 0))
"""A client that asks by pings once a second, far oftener than gRPC allows by default."""
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
OPEN = 1_000
"""Swaps that may be open at a time."""


class Busy(FakeSeller):
    """Every order waits until the test lets it go on; no more of them than the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.waiting = 0

    async def create_swap(self, request: Request) -> Swap:
        """A swap, or the refusal of one too many."""
        if self.waiting >= OPEN:
            raise TooManySwaps(OPEN)
        self.waiting += 1
        await self.go_on.wait()
        return make_swap()


@asynccontextmanager
async def listening(seller: FakeSeller, address: str = "127.0.0.1:0") -> AsyncIterator[Listener]:
    """A started listener of this seller."""
    listener = listen(seller, address)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(0)


def client(listener: Listener, *options: tuple[str, int]) -> grpc.aio.Channel:
    """A channel with options of its own."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=options)


def order(number: int = 1) -> pb.CreateSwapRequest:
    """A request that the schema allows."""
    return pb.CreateSwapRequest(**GOOD | {"request_id": uuid_of(number)})


async def test_a_client_with_keepalive_is_not_thrown_out_of_a_waiting_call() -> None:
    """It may ping as often as it likes."""
    seller = Busy()
    async with listening(seller) as listener, client(listener, *HASTY) as channel:
        call = asyncio.ensure_future(pb_grpc.SwapServiceStub(channel).CreateSwap(order()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 6)  # by default 3 pings are too many
        seller.go_on.set()
        assert (await call).swap.swap_id


async def test_pings_without_a_call_are_answered_too() -> None:
    """As clients in Go and Java send them when told to, here in the frames of HTTP/2 itself."""
    settings, ping, goaway = 4, 6, 7

    def frame(kind: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes((kind, 0, 0, 0, 0, 0)) + payload

    async with listening(FakeSeller()) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, b""))
        answers: Counter[int] = Counter()
        async with asyncio.timeout(20):
            while answers[ping] < 20:
                writer.write(frame(ping, bytes(8)))
                while True:
                    head = await reader.readexactly(9)
                    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                    assert head[3] != goaway, payload
                    answers[head[3]] += 1
                    if head[3] == ping and head[4] == 1:
                        break
        writer.close()


async def test_each_of_4000_orders_at_once_gets_a_documented_answer() -> None:
    """A swap, or RESOURCE_EXHAUSTED with its reason; never one of gRPC's own refusals."""
    seller, total = Busy(), 4_000
    answers: Counter[str] = Counter()

    async def ask(stub: "pb_grpc.SwapServiceAsyncStub", number: int) -> None:
        try:
            await stub.CreateSwap(order(number), timeout=60)
            answers["swap"] += 1
        except grpc.aio.AioRpcError as error:
            answers[f"{error.code().name} {reason_of(error)}"] += 1
        if answers.total() >= total - OPEN:
            seller.go_on.set()

    async with listening(seller) as listener:
        channels = [client(listener, *OWN_CONNECTION) for _ in range(8)]
        stubs = [pb_grpc.SwapServiceStub(channel) for channel in channels]
        await asyncio.gather(*(ask(stubs[n % len(stubs)], n) for n in range(total)))
        for channel in channels:
            await channel.close()
    assert answers == {"swap": OPEN, "RESOURCE_EXHAUSTED TOO_MANY_SWAPS": total - OPEN}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The machine-readable reason of a refusal, its text where it has none."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    info = ErrorInfo()
    for detail in Status.FromString(bytes(details)).details:
        if detail.Unpack(info):
            return str(info.reason)
    return error.details() or ""


def test_the_burst_is_not_left_to_the_defaults() -> None:
    """The limit that is reached only by a daemon that is slower than its clients."""
    assert dict(SERVER_OPTIONS)["grpc.server.max_pending_requests"] >= 10_000


def test_both_sides_have_the_same_limits_of_size() -> None:
    """What one may send, the other takes."""
    server, channel = dict(SERVER_OPTIONS), dict(CHANNEL_OPTIONS)
    sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    assert [server[size] for size in sizes] == [MAX_ANSWER_BYTES, MAX_REQUEST_BYTES]
    assert [channel[size] for size in sizes] == [MAX_REQUEST_BYTES, MAX_ANSWER_BYTES]


@pytest.mark.parametrize(("size", "is_taken"), [(60_000, True), (MAX_REQUEST_BYTES + 1, False)])
async def test_a_request_that_is_too_long_ends_with_resource_exhausted(
    size: int, is_taken: bool
) -> None:
    """As the schema says."""
    async with listening(FakeSeller()) as listener, client(listener) as channel:
        request = pb.GetOfferRequest(asset_id="a" * size)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.SwapServiceStub(channel).GetOffer(request, timeout=10)
    wanted = grpc.StatusCode.INVALID_ARGUMENT if is_taken else grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.code() is wanted


@pytest.fixture
def few_descriptors() -> int:
    """A soft limit a little above what is open now; how many connections a listener may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors.RESERVE + 100, hard))
    allowed = descriptors.connections()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return allowed


def open_descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def names(folder: Path) -> list[str]:
    """What is in it."""
    return sorted(path.name for path in folder.iterdir())


async def test_idle_connections_take_no_descriptor_of_the_daemons_own(
    few_descriptors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of them than may be; those that say nothing are closed, and a client is answered."""
    monkeypatch.setattr(descriptors, "connections", lambda: few_descriptors)
    async with listening(FakeSeller()) as listener:
        before = open_descriptors()
        with ExitStack() as scanners:
            for _ in range(4 * few_descriptors):
                address = ("127.0.0.1", listener.port)
                scanners.enter_context(socket.create_connection(address))
            opened = open_descriptors() - before - 4 * few_descriptors
            assert opened <= few_descriptors
            async with client(listener) as channel:
                stub = pb_grpc.SwapServiceStub(channel)
                await stub.GetOffer(
                    pb.GetOfferRequest(asset_id=ASSET), timeout=20, wait_for_ready=True
                )


def test_the_limit_is_raised_and_a_share_of_it_kept() -> None:
    """To what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(1_024, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
        assert 2 * descriptors.connections() <= max(lower - descriptors.RESERVE, 32)
        assert descriptors.raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= lower
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def answered(path: Path) -> bool:
    """True when a daemon answers there."""
    async with grpc.aio.insecure_channel(f"unix:{path}", options=OWN_CONNECTION) as channel:
        try:
            await pb_grpc.SwapServiceStub(channel).GetOffer(
                pb.GetOfferRequest(asset_id=ASSET), timeout=5
            )
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_a_socket_is_not_taken_over(tmp_path: Path) -> None:
    """Neither from another daemon nor from another program; the first one is still answered."""
    path = tmp_path / "s"
    async with listening(FakeSeller(), f"unix:{path}"):
        for form in (path, f"{tmp_path}/./s", f"//{path}"):
            with pytest.raises(SettingsError, match="another process listens there"):
                listen(FakeSeller(), f"unix:{form}")
        (tmp_path / "s.lock").unlink()  # as by a program that locks nothing
        with pytest.raises(SettingsError, match="another process listens there"):
            listen(FakeSeller(), f"unix:{path}")
        assert await answered(path)
    assert not path.exists()


async def test_what_an_ended_daemon_left_is_replaced(tmp_path: Path) -> None:
    """A socket that nothing answers on, as after SIGKILL."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with listening(FakeSeller(), f"unix:{path}"):
        assert await answered(path)
    assert names(tmp_path) == ["s.lock"]


async def test_only_its_own_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    """Another one that was put in its place stays."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        async with listening(FakeSeller(), f"unix:{path}"):
            path.unlink()
            other.bind(str(path))
            other.listen()
        assert path.is_socket()


async def test_a_listener_that_was_not_started_leaves_nothing(tmp_path: Path) -> None:
    """As when another address could not be bound."""
    listener = listen(FakeSeller(), f"unix:{tmp_path}/s")
    listener.release()
    assert names(tmp_path) == ["s.lock"]
    async with listening(FakeSeller(), f"unix:{tmp_path}/s"):
        await wait_for(lambda: answered(tmp_path / "s"), message="the second is answered")
