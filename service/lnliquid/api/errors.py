"""One map from the domain's error kinds to gRPC statuses, with `google.rpc` details.

Any other error is a fault of the program: the client gets INTERNAL and an id, the log the rest.
"""

from dataclasses import dataclass, field
from typing import Any, assert_never

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from lnliquid.domain.errors import (
    AssetNotOffered,
    InsufficientInventory,
    InvalidRequest,
    NotPaidUnclaimed,
    NotReady,
    NotWithdrawable,
    PriceAboveCap,
    PriceStale,
    RequestConflict,
    SlowReader,
    SwapNotFound,
    TooManyAddresses,
    TooManySwaps,
)

DOMAIN = "ln_liquid_swap.v1"

AnySwapError = (
    InvalidRequest
    | SwapNotFound
    | AssetNotOffered
    | RequestConflict
    | PriceAboveCap
    | PriceStale
    | InsufficientInventory
    | NotWithdrawable
    | TooManyAddresses
    | TooManySwaps
    | NotPaidUnclaimed
    | SlowReader
    | NotReady
)


@dataclass(frozen=True)
class Reply:
    """A status, its message and its details."""

    code: grpc.StatusCode
    message: str
    details: list[Message] = field(default_factory=list)

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """`google.rpc.Status` as gRPC carries it."""
        status = Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def reply_to(error: AnySwapError) -> Reply:
    """The status of each kind. A kind that is added without a line here does not type-check."""
    text, code = str(error), grpc.StatusCode

    def reply(status: grpc.StatusCode, reason: str, *more: Message, **metadata: Any) -> Reply:
        values = {name: str(value) for name, value in metadata.items()}
        info = details.ErrorInfo(reason=reason, domain=DOMAIN, metadata=values)
        return Reply(status, text, [info, *more])

    match error:
        case InvalidRequest():
            violations = [
                details.BadRequest.FieldViolation(field=v.field, description=v.problem)
                for v in error.violations
            ]
            return Reply(
                code.INVALID_ARGUMENT, text, [details.BadRequest(field_violations=violations)]
            )
        case SwapNotFound():
            return reply(code.NOT_FOUND, "SWAP_NOT_FOUND", swap_id=error.swap_id)
        case AssetNotOffered():
            return reply(code.NOT_FOUND, "ASSET_NOT_OFFERED", asset_id=error.asset_id)
        case RequestConflict():
            return reply(
                code.ALREADY_EXISTS,
                "REQUEST_ID_REUSED",
                request_id=error.request_id,
                fields=",".join(error.fields),
            )
        case PriceAboveCap():
            return reply(
                code.FAILED_PRECONDITION,
                "PRICE_ABOVE_CAP",
                total_price_msat=error.total_price_msat,
                max_total_price_msat=error.max_total_price_msat,
            )
        case PriceStale():
            return reply(code.UNAVAILABLE, "PRICE_STALE", valid_until=error.valid_until)
        case InsufficientInventory():
            return reply(
                code.FAILED_PRECONDITION,
                "INSUFFICIENT_INVENTORY",
                asset_id=error.asset_id,
                wanted=error.wanted,
                available=error.available,
            )
        case NotWithdrawable():
            return reply(
                code.FAILED_PRECONDITION,
                "NOT_WITHDRAWABLE",
                asset_id=error.asset_id,
                wanted=error.wanted,
                available=error.available,
            )
        case TooManyAddresses():
            return reply(code.FAILED_PRECONDITION, "TOO_MANY_ADDRESSES", unused=error.unused)
        case TooManySwaps():
            return reply(code.RESOURCE_EXHAUSTED, "TOO_MANY_SWAPS", limit=error.limit)
        case NotPaidUnclaimed():
            return reply(
                code.FAILED_PRECONDITION,
                "NOT_PAID_UNCLAIMED",
                swap_id=error.swap_id,
                state=error.state,
            )
        case SlowReader():
            return reply(code.RESOURCE_EXHAUSTED, "SLOW_READER")
        case NotReady():
            delay = Duration()
            delay.FromMilliseconds(int(error.retry_after_secs * 1000))
            return reply(code.UNAVAILABLE, "NOT_READY", details.RetryInfo(retry_delay=delay))
        case _:
            assert_never(error)
