"""Following a swap by stream: everything that happened, then every change, resumable."""

import asyncio
import contextlib
import socket
import uuid

import aiohttp
import grpc
import pytest
import pytest_asyncio

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining

pytestmark = pytest.mark.asyncio(loop_scope="module")

STEPS = [pb.SWAP_STATE_CREATED, pb.SWAP_STATE_FUNDED, pb.SWAP_STATE_CLAIMED]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sold(daemon: SellerDaemon) -> str:
    """Id of a swap that was sold and claimed."""
    async with mining(daemon.lab):
        record = await Buyer(daemon, "sold").buy(800, max_price_msat=10**12)
    return str(record["swap"]["swap_id"])


async def follow(
    daemon: SellerDaemon, swap_id: str, after_event: int = 0
) -> list[pb.WatchSwapResponse]:
    """Everything that the stream says until it ends."""
    request = pb.WatchSwapRequest(swap_id=swap_id, after_event=after_event)
    return [message async for message in daemon.stub().WatchSwap(request, timeout=60)]


async def test_watchers_see_every_change_and_the_end(daemon: SellerDaemon) -> None:
    """Several watchers, from before the sale to the buried claim, all see the same events."""
    lab = daemon.lab
    buyer = Buyer(daemon, "watched")
    request_id = str(uuid.uuid4())
    async with mining(lab, every_secs=0.5):
        buying = asyncio.create_task(buyer.buy(900, max_price_msat=10**12, request_id=request_id))
        swap_id = str((await buying)["swap"]["swap_id"])
        watchers = await asyncio.gather(*(follow(daemon, swap_id) for _ in range(5)))
    for messages in watchers:
        events = [m.event for m in messages if m.HasField("event")]
        assert [e.to_state for e in events] == [*STEPS, STEPS[-1]]  # the last: claim final
        assert events[-1].from_state == events[-1].to_state
        assert [e.seq for e in events] == sorted({e.seq for e in events})
        assert messages[-1].swap.is_final
    seen = [m.event.seq for m in watchers[0] if m.HasField("event")]
    rest = await follow(daemon, swap_id, after_event=seen[1])
    assert [m.event.seq for m in rest if m.HasField("event")] == seen[2:]


async def test_a_watcher_gets_the_invoice_when_it_comes(daemon: SellerDaemon) -> None:
    """The stream shows the swap CREATED without an invoice, then FUNDED with one."""
    lab = daemon.lab
    address = await daemon.receive_address()
    request = pb.CreateSwapRequest(
        asset_id=daemon.asset_id,
        asset_amount=10,
        buyer_claim_address=address,
        min_funding_confs=1,
        max_total_price_msat=10**12,
        request_id=str(uuid.uuid4()),
    )
    creating = asyncio.ensure_future(daemon.stub().CreateSwap(request, timeout=60))
    listed: list[pb.Swap] = []

    async def is_listed() -> bool:
        reply = await daemon.operator_stub().ListSwaps(pb.ListSwapsRequest(), timeout=5)
        listed[:] = [s.swap for s in reply.swaps if s.swap.request_id == request.request_id]
        return bool(listed)

    await lab.wait_for(is_listed, message="the operator sees the swap")
    messages: list[pb.WatchSwapResponse] = []
    stream = daemon.stub().WatchSwap(pb.WatchSwapRequest(swap_id=listed[0].swap_id), timeout=60)
    async with contextlib.AsyncExitStack() as blocks:
        async for message in stream:
            messages.append(message)
            if len(messages) == 1:
                assert message.swap.state == pb.SWAP_STATE_CREATED
                assert not message.swap.bolt11
                await blocks.enter_async_context(mining(lab))
            if message.swap.bolt11:
                break
    stream.cancel()
    assert messages[-1].swap.state == pb.SWAP_STATE_FUNDED
    assert (await creating).swap.bolt11 == messages[-1].swap.bolt11


async def test_an_unknown_swap_cannot_be_watched(daemon: SellerDaemon) -> None:
    """NOT_FOUND, as from GetSwap."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await follow(daemon, str(uuid.uuid4()))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_pause_refuses_new_swaps_over_restarts(daemon: SellerDaemon) -> None:
    """The switch holds across a restart, refuses new swaps, and can be taken back."""
    operator = daemon.operator_stub()
    await operator.Pause(pb.PauseRequest(), timeout=5)
    await daemon.kill()
    await daemon.launch()
    request = pb.CreateSwapRequest(
        asset_id=daemon.asset_id,
        asset_amount=10,
        buyer_claim_address=await daemon.receive_address(),
        min_funding_confs=1,
        max_total_price_msat=10**12,
        request_id=str(uuid.uuid4()),
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await daemon.stub().CreateSwap(request, timeout=30, wait_for_ready=True)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "paused" in (refused.value.details() or "")
    inventory = await operator.GetInventory(pb.GetInventoryRequest(), timeout=5)
    assert inventory.paused
    assert {a.asset_id for a in inventory.assets} > {daemon.asset_id}
    await operator.Resume(pb.ResumeRequest(), timeout=5)
    await daemon.wait_ready()


async def test_only_what_was_paid_and_not_claimed_is_refunded_by_hand(
    daemon: SellerDaemon, sold: str
) -> None:
    """RefundSwap refuses a swap that the daemon settles, and an order without a reason."""
    for reason, code in (
        ("because", grpc.StatusCode.FAILED_PRECONDITION),
        ("", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await daemon.operator_stub().RefundSwap(
                pb.RefundSwapRequest(swap_id=sold, reason=reason), timeout=5
            )
        assert refused.value.code() == code


async def test_metrics_are_served_when_asked_for(daemon: SellerDaemon, sold: str) -> None:
    """With `metrics_listen` the figures are there over HTTP, and agree with the daemon's lists."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    await daemon.restart({"LNLIQUID_METRICS_LISTEN": address})
    listing = await daemon.operator_stub().ListSwaps(pb.ListSwapsRequest(), timeout=5)
    claimed = sum(s.swap.state == pb.SWAP_STATE_CLAIMED for s in listing.swaps)
    assert sold in [s.swap.swap_id for s in listing.swaps]

    async def figures() -> dict[str, float]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}") as reply:
            lines = [line.rsplit(" ", 1) for line in (await reply.text()).splitlines()]
        return {name: float(value) for name, value in lines if not name.startswith("#")}

    async def is_set() -> bool:
        return (await figures()).get("lnliquid_ready") == 1

    await daemon.lab.wait_for(is_set, message="the figures are set")
    seen = await figures()
    assert claimed >= 1
    assert seen['lnliquid_swaps{state="CLAIMED"}'] == claimed
    assert seen["lnliquid_swaps_paid_unclaimed"] == 0
    assert seen["lnliquid_tip_height"] == (await daemon.lab.tip()).height
    assert seen[f'lnliquid_inventory{{asset="{daemon.asset_id}",part="available"}}'] > 0
