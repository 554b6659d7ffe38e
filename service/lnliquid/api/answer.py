"""Around every call: apply the schema's rules, work, and turn what goes wrong into a status."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message

from lnliquid.api.errors import Reply, reply_to
from lnliquid.errors import FieldViolation, InvalidRequest, NotReady, StoreFailure, SwapError

log = structlog.get_logger()
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


def validate(message: Message) -> None:
    """Apply the rules of the schema. Raises `InvalidRequest` with every violation."""
    violations = []
    for violation in protovalidate.collect_violations(message):
        where = violation.proto.field
        path = ".".join(e.field_name for e in where.elements) if where else ""
        violations.append(FieldViolation(path, violation.proto.message))
    if violations:
        raise InvalidRequest(tuple(violations))


async def answered(context: Context, request: Message, work: Callable[[], Awaitable[T]]) -> T:
    """Validate and work; whatever is raised ends the call with a status and details."""
    try:
        validate(request)
        return await work()
    except Exception as error:
        await refuse(context, request, error)


def named(request: Message) -> dict[str, str]:
    """The ids in a request, for the log."""
    found = {name: getattr(request, name, "") for name in ("swap_id", "request_id")}
    return {name: value for name, value in found.items() if value}


async def refuse(context: Context, request: Message, error: Exception) -> NoReturn:
    """End the call with the status of this error. What is no error of the domain is told to nobody
    but the log; the client gets an id to name it by."""
    if isinstance(error, SwapError):
        reply = reply_to(error)  # type: ignore[arg-type]  # every kind is in the union
    elif isinstance(error, StoreFailure):
        log.error("the store did not commit", reason=str(error), **named(request))
        reply = reply_to(NotReady("the store cannot write at the moment"))
    else:
        log_id = secrets.token_hex(4)
        log.error("internal error", log_id=log_id, exc_info=error, **named(request))
        reply = Reply(grpc.StatusCode.INTERNAL, f"internal error, log id {log_id}")
    await context.abort(reply.code, reply.message, reply.trailing_metadata())
    raise AssertionError("abort raises")
