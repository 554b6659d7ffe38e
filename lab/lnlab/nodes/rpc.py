"""Async client of elementsd's JSON-RPC, used for embedded and real nodes alike.

Amounts come back as ``decimal.Decimal`` whole units (never floats); see ``to_sats``.
"""

import json
from decimal import Decimal
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

import aiohttp


class RpcCode(IntEnum):
    """Error codes that the lab acts on (Elements ``rpc/protocol.h``)."""

    MISC = -1
    INVALID_ADDRESS_OR_KEY = -5
    INVALID_PARAMETER = -8
    DESERIALIZATION = -22
    TRANSACTION_ERROR = -25
    TRANSACTION_REJECTED = -26
    ALREADY_IN_CHAIN = -27
    IN_WARMUP = -28
    METHOD_NOT_FOUND = -32601


class NodeRpcError(Exception):
    """The node answered with an error. ``code`` is elementsd's number, ``reason`` its text."""

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(f"{method}: {reason} (code {code})")
        self.method = method
        self.code = code
        self.reason = reason


class NodeUnreachableError(ConnectionError):
    """No answer: connection refused or lost, time-out, wrong credentials, or not JSON.

    For a call that changes something the outcome is unknown.
    """


def to_sats(amount: Decimal | int) -> int:
    """Convert an amount in whole units, as RPC answers carry it, to satoshi."""
    sats = Decimal(amount) * 100_000_000
    if sats != sats.to_integral_value():
        raise ValueError(f"{amount} is not a whole number of satoshi")
    return int(sats)


class NodeRpc:
    """One elementsd. Use as an async context manager, or call ``close``.

    ``url`` is like ``http://127.0.0.1:7041/``; each call has ``timeout_secs`` to finish.
    """

    def __init__(self, url: str, user: str, password: str, *, timeout_secs: float = 30.0) -> None:
        self.url = url
        self._auth = aiohttp.encode_basic_auth(user, password)
        self._timeout = aiohttp.ClientTimeout(total=timeout_secs)
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, *params: object) -> Any:
        """Call ``method`` with positional ``params`` and return its result.

        Raises NodeRpcError for an error answer and NodeUnreachableError for no usable answer.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": self._auth}, timeout=self._timeout
            )
        body = {"jsonrpc": "1.0", "id": "lnlab", "method": method, "params": params}
        try:
            async with self._session.post(self.url, json=body) as response:
                text = await response.text()
                status = response.status
        except (aiohttp.ClientError, OSError) as error:
            raise NodeUnreachableError(
                f"{method}: no answer from {self.url}: {error or type(error).__name__}"
            ) from error
        try:
            answer = json.loads(text, parse_float=Decimal)
            failure = answer["error"]
        except (ValueError, KeyError, TypeError):
            raise NodeUnreachableError(
                f"{method}: {self.url} answered HTTP {status} without JSON-RPC"
            ) from None
        if failure is not None:
            raise NodeRpcError(method, int(failure["code"]), str(failure["message"]))
        return answer["result"]

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.close()
