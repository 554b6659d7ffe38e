"""Requests that are wrong, or come when a backend is down: a clear answer, and nothing changes."""

import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import grpc
import pytest
import pytest_asyncio
from embit import base58, ec
from embit.liquid.addresses import address
from embit.liquid.networks import NETWORKS
from embit.script import Script
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault
from lnlab.lab import Lab
from lnlab.nodes.record import POLICY_ASSET
from lnlab.scenarios.catalogue import FAST_BACKENDS
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.steps import refund_now

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = bytes(range(20))
P2WPKH, P2WSH = Script(b"\x00\x14" + PROGRAM), Script(b"\x00\x20" + bytes(32))
P2SH = Script(b"\xa9\x14" + PROGRAM + b"\x87")
REGTEST = NETWORKS["elementsregtest"]
BLINDING_KEY = ec.PrivateKey(bytes(31) + b"\x07").get_public_key()
P2PKH = base58.encode_check(REGTEST["p2pkh"] + PROGRAM)
UNBLINDED = address(P2WPKH, network=REGTEST)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(lab: Lab) -> AsyncIterator[SellerDaemon]:
    """A seller daemon that reaches its backends through the proxies."""
    async with await SellerDaemon.create(
        # Less than the channels can receive the price of.
        lab,
        settings=FAST_BACKENDS,
        asset_amount=100 * 100_000_000,
        through_proxies=True,
    ) as daemon:
        yield daemon
        daemon.check_log()


def rows(daemon: SellerDaemon) -> dict[str, int]:
    """Number of rows of each table that a request could write to."""
    path = daemon.directory / "swaps.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("swap", "reserved_outpoint", "own_tx", "event")
        }


async def state_of(daemon: SellerDaemon) -> tuple[pb.Offer, dict[str, int]]:
    """What must not change: the offer, with the available amount, and the rows."""
    request = pb.GetOfferRequest(asset_id=daemon.asset_id)
    return (await daemon.stub().GetOffer(request, timeout=10)).offer, rows(daemon)


def details_of(error: grpc.aio.AioRpcError) -> list[Message]:
    """The `google.rpc` details of an error."""
    kinds = (
        error_details_pb2.BadRequest,
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
    )
    found: list[Message] = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for packed in status_pb2.Status.FromString(value).details:
                kind = next(k for k in kinds if packed.Is(k.DESCRIPTOR))
                found.append(kind.FromString(packed.value))
    return found


async def refused(daemon: SellerDaemon, **changes: Any) -> grpc.aio.AioRpcError:
    """A good request with these fields changed; its error, after which all is as before."""
    request = HandBuyer(daemon).request()
    for name, value in changes.items():
        setattr(request, name, value)
    before = await state_of(daemon)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await daemon.stub().CreateSwap(request, timeout=20)
    assert await state_of(daemon) == before
    return failure.value


BAD_FIELDS = {
    "blinded address": ("buyer_claim_address", address(P2WPKH, BLINDING_KEY, REGTEST)),
    "mainnet address": ("buyer_claim_address", address(P2WPKH, network=NETWORKS["liquidv1"])),
    "testnet address": ("buyer_claim_address", address(P2WPKH, network=NETWORKS["liquidtestnet"])),
    "bitcoin address": ("buyer_claim_address", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
    "P2WSH address": ("buyer_claim_address", address(P2WSH, network=REGTEST)),
    "P2SH address": ("buyer_claim_address", address(P2SH, network=REGTEST)),
    "P2PKH address": ("buyer_claim_address", P2PKH),
    "address with a typing error": ("buyer_claim_address", UNBLINDED[:-1] + "x"),
    "no address": ("buyer_claim_address", ""),
    "asset id of 63 digits": ("asset_id", "a" * 63),
    "asset id in capitals": ("asset_id", "A" * 64),
    "amount 0": ("asset_amount", 0),
    "amount 2^63": ("asset_amount", 2**63),
    "amount 2^64 - 1": ("asset_amount", 2**64 - 1),
    "amount over 21 million units": ("asset_amount", 2_100_000_000_000_001),
    "cap of nothing": ("max_total_price_msat", 0),
    "cap 2^63": ("max_total_price_msat", 2**63),
    "no confirmations": ("min_funding_confs", 0),
    "7 confirmations": ("min_funding_confs", 7),
    "malformed UUID": ("request_id", "not-a-uuid"),
    "UUID with a digit missing": ("request_id", str(uuid.UUID(int=5))[:-1]),
    "no request id": ("request_id", ""),
}


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS.values(), ids=list(BAD_FIELDS))
async def test_bad_field(daemon: SellerDaemon, field: str, value: Any) -> None:
    """INVALID_ARGUMENT, and the details name the field and nothing else."""
    error = await refused(daemon, **{field: value})
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    (bad,) = details_of(error)
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert {violation.field for violation in bad.field_violations} == {field}
    assert all(violation.description for violation in bad.field_violations)


async def test_blinded_address_is_answered_with_the_unblinded_one(daemon: SellerDaemon) -> None:
    """Who gives a blinded address is told the address to give instead."""
    error = await refused(daemon, buyer_claim_address=address(P2WPKH, BLINDING_KEY, REGTEST))
    assert UNBLINDED in (error.details() or "")


async def test_every_bad_field_is_named(daemon: SellerDaemon) -> None:
    """Two bad fields are named in one answer."""
    error = await refused(daemon, asset_amount=0, request_id="x")
    (bad,) = details_of(error)
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert {v.field for v in bad.field_violations} == {"asset_amount", "request_id"}


@pytest.mark.parametrize("asset_id", ["ab" * 32, POLICY_ASSET])
async def test_unknown_asset(daemon: SellerDaemon, asset_id: str) -> None:
    """NOT_FOUND for an asset that is not sold, in CreateSwap and in GetOffer."""
    error = await refused(daemon, asset_id=asset_id)
    with pytest.raises(grpc.aio.AioRpcError) as offer_failure:
        await daemon.stub().GetOffer(pb.GetOfferRequest(asset_id=asset_id), timeout=10)
    for one in (error, offer_failure.value):
        assert one.code() is grpc.StatusCode.NOT_FOUND
        (info,) = details_of(one)
        assert isinstance(info, error_details_pb2.ErrorInfo)
        assert info.reason == "ASSET_NOT_OFFERED"
        assert info.metadata["asset_id"] == asset_id


async def test_price_over_the_cap(daemon: SellerDaemon) -> None:
    """FAILED_PRECONDITION that says the price and the cap; a cap of just the price is enough."""
    error = await refused(daemon, asset_amount=100_000_000, max_total_price_msat=49_999_999)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    (info,) = details_of(error)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.reason == "PRICE_ABOVE_CAP"
    assert info.metadata["total_price_msat"] == "50000000"
    assert info.metadata["max_total_price_msat"] == "49999999"


async def test_more_than_there_is(daemon: SellerDaemon) -> None:
    """FAILED_PRECONDITION that says what is available."""
    offer, _ = await state_of(daemon)
    error = await refused(daemon, asset_amount=offer.available_amount + 1)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    (info,) = details_of(error)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.reason == "INSUFFICIENT_INVENTORY"
    assert info.metadata["available"] == str(offer.available_amount)


@pytest.mark.parametrize(
    ("swap_id", "code"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT),
        ("nonsense", grpc.StatusCode.INVALID_ARGUMENT),
        ("../../etc/passwd", grpc.StatusCode.INVALID_ARGUMENT),
        (str(uuid.UUID(int=1)), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_unknown_swap(daemon: SellerDaemon, swap_id: str, code: grpc.StatusCode) -> None:
    """GetSwap tells a malformed id from one that names nothing."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await daemon.stub().GetSwap(pb.GetSwapRequest(swap_id=swap_id), timeout=10)
    assert failure.value.code() is code
    assert details_of(failure.value)


@pytest.mark.parametrize("backend", ["electrum", "lightning-seller"])
async def test_backend_down_at_start_and_while_running(daemon: SellerDaemon, backend: str) -> None:
    """UNAVAILABLE with a time to retry, nothing stored; when it is there, a swap is made."""
    faults = Faults(daemon.lab)
    await daemon.stop()
    try:
        await faults.set(backend, Fault.REFUSE)
        await daemon.launch()

        async def answers() -> bool:
            try:
                await state_of(daemon)
            except grpc.aio.AioRpcError:
                return False
            return True

        await daemon.lab.wait_for(answers, timeout_secs=20, message="the daemon answers")
        await _unavailable(daemon)
        await faults.clear()
        await daemon.wait_ready()
        await faults.set(backend, Fault.REFUSE)
        await _unavailable(daemon)
    finally:
        await faults.clear()
    await daemon.wait_ready()
    await refund_now(daemon, await HandBuyer(daemon).order())


async def _unavailable(daemon: SellerDaemon) -> None:
    before = rows(daemon)
    await is_refused(daemon)
    assert rows(daemon) == before
