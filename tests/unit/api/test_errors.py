"""`api.errors`: every error kind has its status and its `google.rpc` details."""

import typing

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from lnliquid.api.errors import AnySwapError, reply_to
from lnliquid.domain import errors
from lnliquid.domain.errors import FieldViolation, SwapError


class Refusal(typing.NamedTuple):
    """A call that ended with an error, and its details by type."""

    code: grpc.StatusCode
    message: str
    fields: dict[str, str]
    reason: str
    metadata: dict[str, str]
    retry_secs: float | None


def unpack(status: Status, code: grpc.StatusCode) -> Refusal:
    """The details of a `google.rpc.Status`."""
    bad, info, retry = details.BadRequest(), details.ErrorInfo(), details.RetryInfo()
    has_retry = False
    for detail in status.details:
        has_retry |= detail.Unpack(retry)
        assert any((detail.Unpack(bad), detail.Unpack(info), detail.Is(retry.DESCRIPTOR)))
    assert status.code == code.value[0]
    return Refusal(
        code,
        status.message,
        {v.field: v.description for v in bad.field_violations},
        info.reason,
        dict(info.metadata),
        retry.retry_delay.ToTimedelta().total_seconds() if has_retry else None,
    )


EXAMPLES: dict[type[SwapError], tuple[SwapError, grpc.StatusCode, str, dict[str, str]]] = {
    errors.InvalidRequest: (
        errors.InvalidRequest((FieldViolation("a", "b"), FieldViolation("c", "d"))),
        grpc.StatusCode.INVALID_ARGUMENT, "", {},
    ),
    errors.SwapNotFound: (
        errors.SwapNotFound("s"), grpc.StatusCode.NOT_FOUND, "SWAP_NOT_FOUND", {"swap_id": "s"},
    ),
    errors.AssetNotOffered: (
        errors.AssetNotOffered("a"), grpc.StatusCode.NOT_FOUND, "ASSET_NOT_OFFERED",
        {"asset_id": "a"},
    ),
    errors.RequestConflict: (
        errors.RequestConflict("r", ("x", "y")), grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED", {"request_id": "r", "fields": "x,y"},
    ),
    errors.PriceAboveCap: (
        errors.PriceAboveCap(7, 6), grpc.StatusCode.FAILED_PRECONDITION, "PRICE_ABOVE_CAP",
        {"total_price_msat": "7", "max_total_price_msat": "6"},
    ),
    errors.PriceStale: (
        errors.PriceStale(7), grpc.StatusCode.UNAVAILABLE, "PRICE_STALE", {"valid_until": "7"},
    ),
    errors.InsufficientInventory: (
        errors.InsufficientInventory("a", 9, 8), grpc.StatusCode.FAILED_PRECONDITION,
        "INSUFFICIENT_INVENTORY", {"asset_id": "a", "wanted": "9", "available": "8"},
    ),
    errors.NotWithdrawable: (
        errors.NotWithdrawable("a", 9, 8, "why"), grpc.StatusCode.FAILED_PRECONDITION,
        "NOT_WITHDRAWABLE", {"asset_id": "a", "wanted": "9", "available": "8"},
    ),
    errors.TooManyAddresses: (
        errors.TooManyAddresses(20), grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_ADDRESSES",
        {"unused": "20"},
    ),
    errors.TooManySwaps: (
        errors.TooManySwaps(5), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SWAPS",
        {"limit": "5"},
    ),
    errors.NotPaidUnclaimed: (
        errors.NotPaidUnclaimed("s", "CREATED"), grpc.StatusCode.FAILED_PRECONDITION,
        "NOT_PAID_UNCLAIMED", {"swap_id": "s", "state": "CREATED"},
    ),
    errors.SlowReader: (
        errors.SlowReader(3), grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_READER", {},
    ),
    errors.NotReady: (
        errors.NotReady("tired", 2.5), grpc.StatusCode.UNAVAILABLE, "NOT_READY", {},
    ),
}  # fmt: skip


def all_kinds(kind: type[SwapError] = SwapError) -> set[type[SwapError]]:
    """Every error kind below this one."""
    below = set(kind.__subclasses__())
    return below.union(*(all_kinds(k) for k in below))


def test_every_error_kind_is_mapped() -> None:
    """By the type that the mapping is checked against, and by an example below."""
    assert set(typing.get_args(AnySwapError)) == all_kinds() == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda k: k.__name__)
def test_a_reply_has_status_message_and_details(kind: type[SwapError]) -> None:
    """In the form that gRPC carries."""
    error, code, reason, metadata = EXAMPLES[kind]
    reply = reply_to(error)  # type: ignore[arg-type]
    [(name, raw)] = reply.trailing_metadata()
    assert name == "grpc-status-details-bin"
    refusal = unpack(Status.FromString(raw), code)
    assert (reply.code, reply.message, refusal.message) == (code, str(error), str(error))
    assert (refusal.reason, refusal.metadata) == (reason, metadata)
    assert refusal.fields == ({"a": "b", "c": "d"} if kind is errors.InvalidRequest else {})
    assert refusal.retry_secs == (2.5 if kind is errors.NotReady else None)
