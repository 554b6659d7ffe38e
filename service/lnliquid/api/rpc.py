"""Around every call: apply the schema's rules, call, and turn what goes wrong into a status."""

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message

from lnliquid.api.errors import Reply, reply_to
from lnliquid.domain.errors import FieldViolation, InvalidRequest, NotReady, StoreFailure, SwapError

log = structlog.get_logger()
Servicer = TypeVar("Servicer")
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")
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


def rpc(
    handler: Callable[[Servicer, Request, Context], Awaitable[Answer]],
) -> Callable[[Servicer, Request, Context], Awaitable[Answer]]:
    """A handler that validates first; any error ends the call with a status and details."""

    @functools.wraps(handler)
    async def call(servicer: Servicer, request: Request, context: Context) -> Answer:
        try:
            validate(request)
            return await handler(servicer, request, context)
        except Exception as error:
            if context.done():  # the client has gone: gRPC's own way to end such a call
                raise asyncio.CancelledError from None
            await _refuse(context, request, error)

    return call


async def _refuse(context: Context, request: Message, error: Exception) -> NoReturn:
    """End the call with the status of this error.

    An error of the program itself goes to the log alone; the client gets the id of its line.
    """
    ids = {name: getattr(request, name, "") for name in ("swap_id", "request_id")}
    ids = {name: value for name, value in ids.items() if value}
    if isinstance(error, SwapError):
        reply = reply_to(error)  # type: ignore[arg-type]  # every kind is in the union
    elif isinstance(error, StoreFailure):
        log.error("commit failed", reason=str(error), **ids)
        reply = reply_to(NotReady("the store cannot write at the moment"))
    else:
        log_id = secrets.token_hex(4)
        log.error("internal error", log_id=log_id, exc_info=error, **ids)
        reply = Reply(grpc.StatusCode.INTERNAL, f"internal error, log id {log_id}")
    await context.abort(reply.code, reply.message, reply.trailing_metadata())
    raise AssertionError("abort raises")
