"""`api`: bad requests are named field by field, answers are whole, errors keep their details.

The calls go over a real gRPC server and channel in this process.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import LogCapture

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api.server import SWAP_SERVICE, Listener, listen
from lnliquid.api.swap_service import SwapServicer
from lnliquid.domain.errors import StoreFailure, SwapError
from lnliquid.domain.next_step import PayWindow
from lnliquid.domain.swap import Event, Offer, Request, State, Swap
from lnliquid.domain.timelock import LightningChain
from lnliquid.seller.create import Seller

from ..builders import ASSET, BUYER, NOW, address_of, make_swap, preimage_of, txid_of, uuid_of
from .test_errors import EXAMPLES, Refusal, unpack

GOOD: dict[str, Any] = {
    "asset_id": ASSET,
    "asset_amount": 1_000,
    "buyer_claim_address": address_of(BUYER),
    "min_funding_confs": 2,
    "max_total_price_msat": 200_000,
    "request_id": uuid_of(1),
}
OFFER = Offer(
    network="liquid-regtest", asset_id=ASSET, asset_precision=8, price_msat_per_asset_unit=5,
    min_swap_amount=1, max_swap_amount=2, available_amount=3, fee_subsidy_sats=4,
    refund_delta_blocks=6, invoice_expiry_secs=7, max_min_funding_confs=8, max_ln_cltv_blocks=9,
    claim_margin_blocks=10,
    lightning_node_id="02" * 33,
)  # fmt: skip


EVENTS = (
    Event(4, uuid_of(1), None, State.CREATED, "reserved", None, None, NOW),
    Event(9, uuid_of(1), State.CREATED, State.FUNDED, "seen", txid_of(1), 7, NOW + 1),
)


class FakeSeller(Seller):
    """Answers as the test says and remembers what it was asked."""

    lightning_chain = LightningChain.BITCOIN
    window = PayWindow(850, is_over=False)

    async def pay_window(self, swap: Swap) -> PayWindow:
        """As set."""
        return self.window

    def __init__(self) -> None:
        self.answer: Swap | Exception = make_swap()
        self.changes = 1
        self.left = asyncio.Event()
        """Set once a watcher is gone."""
        self.requests: list[Request] = []
        self.asked: list[str] = []

    async def offer(self, asset_id: str) -> Offer:
        """The fixed offer."""
        self.asked.append(asset_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return OFFER

    async def create_swap(self, request: Request) -> Swap:
        """The set answer."""
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def swap(self, swap_id: str) -> tuple[Swap, list[Event]]:
        """The set answer with two events."""
        self.asked.append(swap_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer, list(EVENTS)

    async def watch(
        self, swap_id: str, after_event: int
    ) -> AsyncGenerator[tuple[Swap, Event | None], None]:
        """The events after this one, then a change without event, `changes` times."""
        self.asked.append(swap_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        try:
            for event in EVENTS:
                if event.seq > after_event:
                    yield self.answer, event
            for _ in range(self.changes):
                yield self.answer, None
        finally:
            self.left.set()


@pytest.fixture
def seller() -> FakeSeller:
    """What is behind the server."""
    return FakeSeller()


@pytest.fixture
async def server(seller: FakeSeller) -> AsyncIterator[Listener]:
    """A started server on a free port."""
    made = listen(seller, "127.0.0.1:0")
    await made.start()
    yield made
    await made.stop(0)


@pytest.fixture
async def channel(server: Listener) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel to it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as made:
        yield made


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "pb_grpc.SwapServiceAsyncStub":
    """A client of the service."""
    return pb_grpc.SwapServiceStub(channel)


@pytest.fixture
def logged() -> Iterator[LogCapture]:
    """What the service logs."""
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(processors=before)


@asynccontextmanager
async def refused() -> AsyncIterator[list[Refusal]]:
    """The refusal of the one call in the block."""
    found: list[Refusal] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield found
    error = caught.value
    metadata = dict(error.trailing_metadata() or ())
    raw = metadata.get("grpc-status-details-bin", b"")
    assert isinstance(raw, bytes)
    found.append(unpack(Status.FromString(raw), error.code()))
    assert error.details() == found[0].message


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda k: k.__name__)
async def test_a_refusal_of_the_seller_reaches_the_client(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub", kind: type[SwapError]
) -> None:
    """With its status and details, from every call."""
    seller.answer, code, reason, metadata = EXAMPLES[kind]

    async def watch() -> None:
        async for _ in stub.WatchSwap(pb.WatchSwapRequest(swap_id=uuid_of(1))):
            pass

    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        watch,
        lambda: stub.CreateSwap(pb.CreateSwapRequest(**GOOD)),
        lambda: stub.GetSwap(pb.GetSwapRequest(swap_id=uuid_of(1))),
        lambda: stub.GetOffer(pb.GetOfferRequest(asset_id=ASSET)),
    )
    for call in calls:
        async with refused() as found:
            await call()
        assert (found[0].code, found[0].reason, found[0].metadata) == (code, reason, metadata)


async def test_a_fault_of_ours_shows_an_id_and_nothing_else(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub", logged: LogCapture
) -> None:
    """The exception's text stays in the log, under the id that the client is given."""
    secret = preimage_of(make_swap()).hex()
    seller.answer = RuntimeError(f"broken with {secret}")
    async with refused() as found:
        await stub.CreateSwap(pb.CreateSwapRequest(**GOOD))
    assert found[0].code is grpc.StatusCode.INTERNAL
    match = re.fullmatch(r"internal error, log id ([0-9a-f]{8})", found[0].message)
    assert match is not None
    [entry] = logged.entries
    assert (entry["log_level"], entry["log_id"]) == ("error", match.group(1))
    assert (found[0].reason, found[0].fields) == ("", {})


async def test_a_store_that_cannot_write_is_a_reason_to_come_back(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub", logged: LogCapture
) -> None:
    """UNAVAILABLE with a delay; SQLite's words are for the operator."""
    seller.answer = StoreFailure("database or disk is full")
    async with refused() as found:
        await stub.CreateSwap(pb.CreateSwapRequest(**GOOD))
    assert found[0].code is grpc.StatusCode.UNAVAILABLE
    assert found[0].retry_secs is not None
    assert "disk" not in found[0].message
    assert logged.entries[0]["reason"] == "database or disk is full"


async def test_a_good_request_arrives_whole(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub"
) -> None:
    """Every field, with the request id in one case."""
    message = pb.CreateSwapRequest(**{**GOOD, "request_id": uuid_of(1).replace("8", "A")})
    answer = await stub.CreateSwap(message)
    assert answer.swap.swap_id == make_swap().swap_id
    [request] = seller.requests
    assert request == Request(**{**GOOD, "request_id": message.request_id.lower()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("asset_id", ""),
        ("asset_id", "A5" * 32),
        ("asset_id", "g5" * 32),
        ("asset_id", "a5" * 31),
        ("asset_id", "a5" * 33),
        ("asset_id", "a5" * 32 + "\n"),
        ("asset_amount", 0),
        ("asset_amount", 2**63),
        ("asset_amount", 2**64 - 1),
        ("asset_amount", 2_100_000_000_000_001),
        ("buyer_claim_address", ""),
        ("buyer_claim_address", "ert1"),
        ("buyer_claim_address", "e" * 131),
        ("min_funding_confs", 0),
        ("min_funding_confs", 7),
        ("min_funding_confs", 2**32 - 1),
        ("max_total_price_msat", 0),
        ("max_total_price_msat", 2**63),
        ("request_id", ""),
        ("request_id", "1"),
        ("request_id", uuid_of(1).replace("-", "")),
        ("request_id", uuid_of(1) + " "),
        ("request_id", uuid_of(1) + "\n"),
        ("request_id", uuid_of(1).replace("8", "g")),
    ],
)
async def test_a_malformed_field_is_named(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub", name: str, value: object
) -> None:
    """INVALID_ARGUMENT with the field and what is wanted; the seller is not asked."""
    async with refused() as found:
        await stub.CreateSwap(pb.CreateSwapRequest(**{**GOOD, name: value}))
    assert found[0].code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(found[0].fields) == [name]
    assert found[0].fields[name] in found[0].message
    assert seller.requests == []


async def test_all_malformed_fields_are_named_at_once(
    stub: "pb_grpc.SwapServiceAsyncStub",
) -> None:
    """An empty request is wrong in every field."""
    async with refused() as found:
        await stub.CreateSwap(pb.CreateSwapRequest())
    assert set(found[0].fields) == set(GOOD)


async def test_the_largest_allowed_values_pass(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub"
) -> None:
    """The bounds of the schema are inclusive."""
    for changes in (
        {"asset_amount": 2_100_000_000_000_000, "max_total_price_msat": 2_100_000_000_000_000_000},
        {"asset_amount": 1, "max_total_price_msat": 1, "min_funding_confs": 1},
        {"min_funding_confs": 6},
    ):
        await stub.CreateSwap(pb.CreateSwapRequest(**{**GOOD, **changes}))
    assert len(seller.requests) == 3


async def test_malformed_ids_of_the_other_calls(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub"
) -> None:
    """GetSwap wants a UUID, GetOffer an asset id."""
    async with refused() as found:
        await stub.GetSwap(pb.GetSwapRequest(swap_id="latest"))
    assert (found[0].code, set(found[0].fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {"swap_id"})
    async with refused() as found:
        async for _ in stub.WatchSwap(pb.WatchSwapRequest(swap_id="latest")):
            pass
    assert (found[0].code, set(found[0].fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {"swap_id"})
    async with refused() as found:
        await stub.GetOffer(pb.GetOfferRequest(asset_id="L-BTC"))
    assert (found[0].code, set(found[0].fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {"asset_id"})
    assert seller.asked == []


async def test_a_swap_is_told_with_its_events(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub"
) -> None:
    """Ids in any case; events oldest first, with what caused them."""
    answer = await stub.GetSwap(pb.GetSwapRequest(swap_id="ABCDEF" + uuid_of(1)[6:]))
    assert seller.asked == ["abcdef" + uuid_of(1)[6:]]
    assert [(e.seq, e.from_state, e.to_state, e.cause) for e in answer.events] == [
        (4, pb.SWAP_STATE_UNSPECIFIED, pb.SWAP_STATE_CREATED, "reserved"),
        (9, pb.SWAP_STATE_CREATED, pb.SWAP_STATE_FUNDED, "seen"),
    ]
    assert (answer.events[1].txid, answer.events[1].height, answer.events[1].at) == (
        txid_of(1), 7, NOW + 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("after", "seqs"), [(0, [4, 9, 0]), (4, [9, 0]), (9, [0]), (2**64 - 1, [0])]
)
async def test_a_swap_is_followed_from_any_event_on(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub", after: int, seqs: list[int]
) -> None:
    """Events after that one, then changes without one; the stream ends with the swap."""
    request = pb.WatchSwapRequest(swap_id=uuid_of(1), after_event=after)
    answers = [answer async for answer in stub.WatchSwap(request)]
    assert [a.event.seq for a in answers] == seqs
    assert [a.HasField("event") for a in answers] == [bool(seq) for seq in seqs]
    assert {a.swap.swap_id for a in answers} == {make_swap().swap_id}


async def test_a_watcher_that_does_not_read_is_cut_off(seller: FakeSeller) -> None:
    """After the limit, with the reason; it does not pile up messages in the daemon."""
    seller.changes = 100_000
    server = Listener("127.0.0.1:0", SwapServicer(seller, write_secs=0.2))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stream = pb_grpc.SwapServiceStub(channel).WatchSwap(
                pb.WatchSwapRequest(swap_id=uuid_of(1))
            )
            async with asyncio.timeout(20):
                await seller.left.wait()  # meanwhile nothing is read
                async with refused() as found:
                    async for _ in stream:
                        pass
            assert found[0].code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert found[0].reason == "SLOW_READER"
    finally:
        await server.stop(0)


async def test_a_swap_tells_until_when_it_can_be_paid(
    stub: "pb_grpc.SwapServiceAsyncStub", seller: FakeSeller
) -> None:
    """The last block, and that it is over; in each call alike."""
    for window in (PayWindow(850, is_over=False), PayWindow(850, is_over=True)):
        seller.window = window
        created = (await stub.CreateSwap(pb.CreateSwapRequest(**GOOD))).swap
        got = (await stub.GetSwap(pb.GetSwapRequest(swap_id=uuid_of(1)))).swap
        watching = stub.WatchSwap(pb.WatchSwapRequest(swap_id=uuid_of(1)))
        watched = [answer.swap async for answer in watching]
        for swap in (created, got, *watched):
            assert (swap.payable_until_height, swap.payment_closed) == (850, window.is_over)


async def test_an_offer_is_told_whole(stub: "pb_grpc.SwapServiceAsyncStub") -> None:
    """Field by field, under the same names."""
    answer = await stub.GetOffer(pb.GetOfferRequest(asset_id=ASSET))
    names = Offer.__dataclass_fields__
    assert {n: getattr(answer.offer, n) for n in names} == {n: getattr(OFFER, n) for n in names}
    of_chains = {"liquid_block_secs": 60, "lightning_block_secs": 840}
    assert {n: getattr(answer.offer, n) for n in of_chains} == of_chains
    assert {f.name for f in pb.Offer.DESCRIPTOR.fields} == set(names) | set(of_chains)


async def test_health_tells_alive_and_ready_apart(
    server: Listener, channel: grpc.aio.Channel
) -> None:
    """The empty name is being alive; the service's name is readiness."""
    stub = health_pb2_grpc.HealthStub(channel)
    status = health_pb2.HealthCheckResponse

    async def shown(name: str) -> int:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        return int(answer.status)

    assert (await shown(""), await shown(SWAP_SERVICE)) == (status.SERVING, status.NOT_SERVING)
    await server.set_ready(True)
    assert (await shown(""), await shown(SWAP_SERVICE)) == (status.SERVING, status.SERVING)
    await server.set_ready(False)
    assert await shown(SWAP_SERVICE) == status.NOT_SERVING
    assert SWAP_SERVICE == "ln_liquid_swap.v1.SwapService"


async def test_reflection_serves_the_schema(channel: grpc.aio.Channel) -> None:
    """A client without the schema finds services and messages."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest
    questions = [request(list_services=""), request(file_containing_symbol=SWAP_SERVICE)]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(questions))]
    names = {s.name for s in answers[0].list_services_response.service}
    assert names >= {SWAP_SERVICE, "grpc.health.v1.Health"}
    raw = answers[1].file_descriptor_response.file_descriptor_proto
    files = [FileDescriptorProto.FromString(f) for f in raw]
    assert "CreateSwapRequest" in {m.name for f in files for m in f.message_type}


async def test_a_message_of_absurd_size_is_refused(
    seller: FakeSeller, stub: "pb_grpc.SwapServiceAsyncStub"
) -> None:
    """Before it is looked at."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateSwap(
            pb.CreateSwapRequest(**{**GOOD, "buyer_claim_address": "e" * 100_000})
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert seller.requests == []
