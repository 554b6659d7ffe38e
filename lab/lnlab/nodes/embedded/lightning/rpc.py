"""JSON-RPC 2.0 on a unix socket, framed as lightningd frames it.

Requests are JSON objects one after the other, with or without white space between them; each reply
is one object and an empty line. Several requests may be under way on a connection and are answered
as they finish. Source: lightningd/jsonrpc.c and common/jsonrpc_io.c of Core Lightning.
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from lnlab.servers import close_server

from .errors import INVALID_REQUEST, RpcError
from .params import token

Answer = dict[str, Any]
Dispatch = Callable[[str, Any], Answer | Coroutine[Any, Any, Answer]]
"""(method, params) → result, at once or awaited; raises RpcError."""

_BACKLOG = 1024  # storms open hundreds of connections at once
_CHUNK_BYTES = 65536
# A whole string, or one character that opens or closes something.
_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*"|["{}\[\]]', re.DOTALL)


class MalformedError(Exception):
    """What came in can never become a request; the connection ends."""


class EnvelopeError(RpcError):
    """A JSON object that is no request: answered with id null, and the connection goes on."""

    def __init__(self, message: str) -> None:
        super().__init__(INVALID_REQUEST, message)


def split_request(buffer: bytes) -> tuple[Any, bytes] | None:
    """First JSON object of the buffer and what follows it; None while it is incomplete.

    Raises MalformedError.
    """
    start = len(buffer) - len(buffer.lstrip())
    if start == len(buffer):
        return None
    if buffer[start : start + 1] != b"{":
        raise MalformedError(_unparsable(buffer))
    depth = 0
    for piece in _PIECE.finditer(buffer, start):
        match piece.group():
            case b'"':
                return None  # a string that has not ended yet
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
        if depth == 0:
            try:
                return json.loads(buffer[start : piece.end()]), buffer[piece.end() :]
            except ValueError:
                raise MalformedError(_unparsable(buffer)) from None
    return None


def _unparsable(buffer: bytes) -> str:
    return f"Failed to parse RPC JSON response '{buffer.decode(errors='replace')}'"


class RpcServer:
    """The socket of one node. It can be stopped and started again, and made to hang."""

    def __init__(self, path: Path, dispatch: Dispatch) -> None:
        self._path = path
        self._dispatch = dispatch
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._awake.set()

    @property
    def running(self) -> bool:
        """Whether the socket is open."""
        return self._server is not None

    @property
    def awake(self) -> bool:
        """False while hung."""
        return self._awake.is_set()

    async def start(self) -> None:
        """Open the socket, awake. A file left at its path is replaced."""
        if self._server is not None:
            return
        self._awake.set()
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, path=str(self._path), backlog=_BACKLOG
        )

    async def stop(self) -> None:
        """Close the socket and every connection; requests under way are dropped unanswered."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await close_server(server)
        self._path.unlink(missing_ok=True)
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

    def hang(self) -> None:
        """From now on accept connections and answer nothing, like a stopped process."""
        self._awake.clear()

    def wake(self) -> None:
        """End a hang; what came in meanwhile is carried out now, whoever still listens."""
        self._awake.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        pending: set[asyncio.Task[None]] = set()
        try:
            await self._converse(reader, writer, pending)
        except ConnectionError:
            pass  # the client went away
        except asyncio.CancelledError:
            pass  # we are being stopped; ending quietly is what asyncio's server expects
        finally:
            self._connections.discard(task)
            for waiting in pending:
                waiting.cancel()
            writer.close()  # at once: this may be cancelled while it waits
            await asyncio.gather(*pending, return_exceptions=True)
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pending: set[asyncio.Task[None]],
    ) -> None:
        buffer = b""
        while chunk := await reader.read(_CHUNK_BYTES):
            buffer += chunk
            while True:
                await self._awake.wait()
                try:
                    found = split_request(buffer)
                    if found is None:
                        break
                    request, buffer = found
                    self._answer(request, writer, pending)
                except MalformedError as error:
                    refusal = RpcError(INVALID_REQUEST, str(error)).as_json()
                    writer.write(_reply(None, {"error": refusal}))
                    await writer.drain()
                    return
            await writer.drain()

    def _answer(
        self, request: Any, writer: asyncio.StreamWriter, pending: set[asyncio.Task[None]]
    ) -> None:
        ident = request.get("id")
        try:
            result = self._call(request)
        except RpcError as error:
            answered = None if isinstance(error, EnvelopeError) else ident
            writer.write(_reply(answered, {"error": error.as_json()}))
            return
        if isinstance(result, dict):
            writer.write(_reply(ident, {"result": result}))
            return
        task = asyncio.get_running_loop().create_task(self._answer_later(ident, result, writer))
        pending.add(task)
        task.add_done_callback(pending.discard)

    def _call(self, request: dict[str, Any]) -> Answer | Coroutine[Any, Any, Answer]:
        """Check the envelope (wording and order as in parse_request) and run the method."""
        if "jsonrpc" not in request:
            text = token(request)
            raise MalformedError(f"JSON-RPC message does not contain \"jsonrpc\" field: '{text}'")
        if "id" not in request:
            raise EnvelopeError("No id")
        if isinstance(request["id"], dict | list):
            raise EnvelopeError("Expected string/primitive for id")
        if request["jsonrpc"] != "2.0":
            raise EnvelopeError('jsonrpc: "2.0" must be specified in the request')
        if "method" not in request or "params" not in request:
            missing = "No params" if "method" in request else "No method"
            raise RpcError(INVALID_REQUEST, missing)
        if not isinstance(request["method"], str):
            raise RpcError(INVALID_REQUEST, "Expected string for method")
        return self._dispatch(request["method"], request["params"])

    async def _answer_later(
        self, ident: Any, result: Coroutine[Any, Any, Answer], writer: asyncio.StreamWriter
    ) -> None:
        try:
            body: dict[str, Any] = {"result": await result}
        except RpcError as error:
            body = {"error": error.as_json()}
        await self._awake.wait()
        writer.write(_reply(ident, body))


def _reply(ident: Any, body: dict[str, Any]) -> bytes:
    reply = {"jsonrpc": "2.0", "id": ident, **body}
    return json.dumps(reply, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
