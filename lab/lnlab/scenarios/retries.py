"""Retries: one request id is one swap, raced, repeated, hung up on, or asked for differently."""

import asyncio

import grpc
from google.rpc import error_details_pb2, status_pb2

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    available,
    history,
    refund_now,
    require_refusal,
    until_available,
)

RACERS = 8
AMOUNT = 1_000


async def retries(daemon: SellerDaemon, say: Say) -> None:
    """However a request is repeated there is one swap; with other parameters it is refused."""
    before = await available(daemon)
    buyer = HandBuyer(daemon)
    request = buyer.request(AMOUNT)
    async with mining(daemon.lab):
        # One that hangs up at once, then many together.
        hasty = buyer.create(request, timeout_secs=0.05)
        await asyncio.gather(hasty, return_exceptions=True)
        swaps = await asyncio.gather(*(buyer.create(request) for _ in range(RACERS)))
    require(len({swap.swap_id for swap in swaps}) == 1, "one request id made several swaps")
    swap = swaps[0]
    say(f"{RACERS} requests at once and one that hung up: one swap, {swap.swap_id}")
    await daemon.restart()
    upper = buyer.request(AMOUNT, request_id=request.request_id.upper())
    for again in (request, upper):
        require((await buyer.create(again)).swap_id == swap.swap_id, "a retry made a swap")
    say("the same again after a restart, and in capitals")
    other_address = HandBuyer(daemon).address
    for name, value in (
        ("asset_amount", AMOUNT + 1),
        ("buyer_claim_address", other_address),
        ("min_funding_confs", 2),
        ("max_total_price_msat", 10**11),
    ):
        await _is_conflict(buyer, request, name, value)
    say("with other parameters: ALREADY_EXISTS, naming them")
    require(await available(daemon) == before - AMOUNT, "more than one swap is reserved")
    require(await history(daemon, swap) == {swap.funding_txid}, "funded more than once")
    await refund_now(daemon, swap)
    require((await buyer.create(request)).swap_id == swap.swap_id, "a retry made a swap")
    await until_available(daemon, before)
    daemon.check_log()


async def _is_conflict(
    buyer: HandBuyer, request: pb.CreateSwapRequest, name: str, value: object
) -> None:
    changed = pb.CreateSwapRequest()
    changed.CopyFrom(request)
    setattr(changed, name, value)
    error = await require_refusal(buyer.create(changed), grpc.StatusCode.ALREADY_EXISTS)
    status = status_pb2.Status()
    info = error_details_pb2.ErrorInfo()
    for key, packed in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(packed if isinstance(packed, bytes) else packed.encode())
    require(bool(status.details) and status.details[0].Unpack(info), "the refusal has no ErrorInfo")
    require(info.metadata["fields"] == name, f"the refusal names {info.metadata['fields']}")
