"""`OperatorService` over a real listener: status, inspection, filters, health on its address."""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnliquid.api.server import OPERATOR_SERVICE, SWAP_SERVICE
from lnliquid.domain.swap import State

from ..builders import NOW, preimage_of, uuid_of
from ..seller_world import LOCK_HEIGHT, SellerWorld


@pytest.fixture
async def channel(world: SellerWorld) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel to it."""
    async with grpc.aio.insecure_channel(world.address) as made:
        yield made


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "pb_grpc.OperatorServiceAsyncStub":
    """A client of the operator's service."""
    return pb_grpc.OperatorServiceStub(channel)


async def test_status_tells_everything_at_once(
    world: SellerWorld, stub: "pb_grpc.OperatorServiceAsyncStub"
) -> None:
    """Readiness, counts, nodes, inventory, events of all swaps, deadlines nearest first."""
    second, first = await world.sell(2), await world.sell(1)
    await world.pay_late(second)
    world.clock.at = NOW + 90
    status = await stub.GetStatus(pb.GetStatusRequest())
    assert (status.problem, status.paused, status.tip_height) == ("", False, 100)
    assert (status.now - status.started_at, status.network) == (90, "liquid-regtest")
    assert {c.state: c.swaps for c in status.counts}[pb.SWAP_STATE_FUNDED] == 2
    assert len(status.counts) == len(State)
    assert (status.unfinished, status.paid_unclaimed) == (2, 1)
    assert [(b.name, b.is_up, b.breaker) for b in status.backends] == [
        ("electrum", True, ""),
        ("lightning", True, ""),
    ]
    assert next(a.asset_id for a in status.assets) == world.settings.asset_id
    assert [e.event.to_state for e in status.events] == [
        pb.SWAP_STATE_CREATED,
        pb.SWAP_STATE_FUNDED,
    ] * 2
    assert [e.swap_id for e in status.events][::2] == [second.swap_id, first.swap_id]
    assert [d.swap.refund_lock_height for d in status.deadlines] == [
        LOCK_HEIGHT + 1,
        LOCK_HEIGHT + 2,
    ]


async def test_status_gives_only_the_newest_events_after_a_number(
    world: SellerWorld, stub: "pb_grpc.OperatorServiceAsyncStub"
) -> None:
    """Oldest first, so that a reader goes on from the last."""
    for number in (1, 2):
        await world.sell(number)
    seqs = [e.event.seq for e in (await stub.GetStatus(pb.GetStatusRequest())).events]
    assert seqs == sorted(seqs)
    newest = await stub.GetStatus(pb.GetStatusRequest(limit=1))
    assert [e.event.seq for e in newest.events] == seqs[-1:]
    later = await stub.GetStatus(pb.GetStatusRequest(after_event=seqs[1]))
    assert [e.event.seq for e in later.events] == seqs[2:]


async def test_status_answers_while_the_nodes_are_down(
    world: SellerWorld, stub: "pb_grpc.OperatorServiceAsyncStub"
) -> None:
    """It says which, why and since when; what is not known is 0."""
    await stub.GetStatus(pb.GetStatusRequest())
    world.break_nodes()
    status = await stub.GetStatus(pb.GetStatusRequest())
    assert status.problem == "the Liquid backend cannot be reached"
    assert status.tip_height == 0
    electrum = status.backends[0]
    assert (electrum.is_up, electrum.breaker) == (False, status.problem)
    assert electrum.last_error == "not connected to tcp://127.0.0.1:1"
    assert electrum.last_error_at == NOW


async def test_a_swap_is_inspected_without_its_secret(
    world: SellerWorld, stub: "pb_grpc.OperatorServiceAsyncStub"
) -> None:
    """With its events and what comes next; its preimage is in no field."""
    swap = await world.sell(1)
    reply = await stub.InspectSwap(pb.InspectSwapRequest(swap_id=swap.swap_id.upper()))
    assert reply.swap.swap.swap_id == swap.swap_id
    assert reply.swap.outlook.actor == pb.ACTOR_BUYER
    assert len(reply.events) == 2
    assert preimage_of(swap) not in reply.SerializeToString()
    assert preimage_of(swap).hex() not in str(reply)


async def test_what_the_schema_does_not_know_is_the_callers_fault(
    stub: "pb_grpc.OperatorServiceAsyncStub",
) -> None:
    """A state of a newer schema, none, or a number beyond the store's: no fault of the daemon."""
    strange = pb.ListSwapsRequest()
    strange.states.append(99)  # type: ignore[arg-type]  # as another schema would send it
    for call in (
        stub.ListSwaps(strange),
        stub.ListSwaps(pb.ListSwapsRequest(states=[pb.SWAP_STATE_UNSPECIFIED])),
        stub.GetStatus(pb.GetStatusRequest(after_event=2**63)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await stub.GetStatus(pb.GetStatusRequest(after_event=2**63 - 1))


@pytest.mark.parametrize(
    ("swap_id", "code"),
    [(uuid_of(9), grpc.StatusCode.NOT_FOUND), ("latest", grpc.StatusCode.INVALID_ARGUMENT)],
)
async def test_a_swap_that_is_not_there_is_refused(
    stub: "pb_grpc.OperatorServiceAsyncStub", swap_id: str, code: grpc.StatusCode
) -> None:
    """As by GetSwap."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.InspectSwap(pb.InspectSwapRequest(swap_id=swap_id))
    assert caught.value.code() is code


async def test_limits_and_times_have_bounds(stub: "pb_grpc.OperatorServiceAsyncStub") -> None:
    """INVALID_ARGUMENT, before anything is read."""
    for call in (
        lambda: stub.GetStatus(pb.GetStatusRequest(limit=1_001)),
        lambda: stub.ListSwaps(pb.ListSwapsRequest(limit=1_001)),
        lambda: stub.ListSwaps(pb.ListSwapsRequest(created_from=2**63)),
        lambda: stub.ListSwaps(pb.ListSwapsRequest(created_before=2**64 - 1)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_alive_and_ready_are_told_apart_on_the_operators_address(
    world: SellerWorld, channel: grpc.aio.Channel
) -> None:
    """The empty name is being alive, whatever else is wrong; each service's name is readiness."""
    stub = health_pb2_grpc.HealthStub(channel)
    shown = health_pb2.HealthCheckResponse
    assert world.listener is not None
    for ready in (False, True, False):
        await world.listener.set_ready(ready)
        for name, expected in (
            ("", shown.SERVING),
            (SWAP_SERVICE, shown.SERVING if ready else shown.NOT_SERVING),
            (OPERATOR_SERVICE, shown.SERVING if ready else shown.NOT_SERVING),
        ):
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == expected, name
