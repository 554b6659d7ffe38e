"""Electrum server of the embedded lab over TCP: connections, dispatch, subscriptions.

It keeps what clients must cope with in mempool/electrs (``src/electrum/server.rs``): requests of a
connection are served in turn; an array of requests is answered by one array; parameters are
positional; a failed call has ``"error": "text"``, a string and not an object; a subscribed script
that outgrows the history limit closes the connection; no get_balance, get_mempool, unsubscribe or
features, no verbose transaction. Compared with mempool/electrs 3.1.0 on elementsd 23.3.3.
"""

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.electrum_calls import (
    PROTOCOL_VERSION,
    RELAY_FEE_PER_KVB,
    SERVER_VERSION,
    CallError,
    ElectrumCalls,
    HistoryTooLongError,
    hash_parameter,
    status_hash,
)
from lnlab.nodes.embedded.rpc_methods import NodeMethods
from lnlab.servers import close_server

LINE_LIMIT_BYTES = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class Connection:
    """One client: its subscriptions, and the answers to its requests."""

    def __init__(self, calls: ElectrumCalls, writer: asyncio.StreamWriter) -> None:
        self._calls = calls
        self._writer = writer
        self._last_header: dict[str, Any] | None = None
        self._statuses: dict[str, str | None] = {}
        self._methods: dict[str, Callable[..., Any]] = {
            "blockchain.block.header": calls.block_header,
            "blockchain.block.headers": calls.block_headers,
            "blockchain.estimatefee": calls.estimatefee,
            "blockchain.headers.subscribe": self._subscribe_headers,
            "blockchain.relayfee": lambda: RELAY_FEE_PER_KVB,
            "blockchain.scripthash.get_history": calls.get_history,
            "blockchain.scripthash.listunspent": calls.listunspent,
            "blockchain.scripthash.subscribe": self._subscribe,
            "blockchain.transaction.broadcast": calls.broadcast,
            "blockchain.transaction.get": calls.transaction_get,
            "blockchain.transaction.get_merkle": calls.get_merkle,
            "blockchain.transaction.id_from_pos": calls.id_from_pos,
            "mempool.get_fee_histogram": lambda: [],
            "server.banner": lambda: f"Welcome to {SERVER_VERSION}",
            "server.donation_address": lambda: None,
            "server.peers.subscribe": lambda: [],
            "server.ping": lambda: None,
            "server.version": lambda: [SERVER_VERSION, PROTOCOL_VERSION],
        }

    def answer(self, line: bytes) -> object:
        """Return the reply to one received line: a request or an array of them."""
        try:
            message = json.loads(line)
        except ValueError:
            return _invalid(line.decode(errors="replace"))  # with its end of line
        if isinstance(message, list):
            return [self._answer_one(request) for request in message]
        return self._answer_one(message)

    def _answer_one(self, request: object) -> dict[str, Any]:
        if not isinstance(request, dict) or "id" not in request:
            return _invalid(_compact(request))
        method, params = request.get("method"), request.get("params", [])
        if not isinstance(method, str) or not isinstance(params, list):
            return _invalid(_compact(request))
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        function = self._methods.get(method)
        if function is None:
            text = f"{method} RPC error: unknown method {method} {_debug(params)}"
            return {**reply, "error": {"code": 1, "message": text}}
        try:
            # Parameters beyond those of the call are ignored there too.
            count = len(inspect.signature(function).parameters)
            return {**reply, "result": function(*params[:count])}
        except CallError as error:
            return {**reply, "error": str(error)}

    def notify(self, touched: set[str]) -> None:
        """Send what changed since last told: the tip, and statuses of ``touched`` scripthashes.

        Raises HistoryTooLongError when a subscribed script has outgrown the server.
        """
        if self._last_header is not None and (header := self._calls.tip()) != self._last_header:
            self._last_header = header
            self._notification("blockchain.headers.subscribe", [header])
        for scripthash in sorted(touched & self._statuses.keys()):
            status = status_hash(self._calls.history(scripthash))
            if status != self._statuses[scripthash]:
                self._statuses[scripthash] = status
                self._notification("blockchain.scripthash.subscribe", [scripthash, status])

    def send(self, message: object) -> None:
        """Queue one line for the client."""
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the client's connection."""
        self._writer.close()

    def _notification(self, method: str, params: list[Any]) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def _subscribe_headers(self) -> dict[str, Any]:
        self._last_header = self._calls.tip()
        return self._last_header

    def _subscribe(self, scripthash: object = None) -> str | None:
        key = hash_parameter(scripthash, "script_hash")
        self._statuses[key] = status_hash(self._calls.history(key))
        return self._statuses[key]


def _invalid(text: str) -> dict[str, Any]:
    error = {"code": -32600, "message": f"invalid request: {text}"}
    return {"jsonrpc": "2.0", "id": None, "error": error}


def _compact(value: object) -> str:
    """JSON as electrs writes it: no spaces, fields in alphabetical order."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _debug(value: object) -> str:
    """A JSON value as electrs prints it in messages (Rust's ``{:?}`` of serde_json)."""
    match value:
        case list():
            return f"[{', '.join(map(_debug, value))}]"
        case str():
            return f"String({json.dumps(value)})"
        case bool():
            return f"Bool({str(value).lower()})"
        case None:
            return "Null"
        case dict():
            fields = (f"{json.dumps(key)}: {_debug(inner)}" for key, inner in value.items())
            return f"Object {{{', '.join(fields)}}}"
    return f"Number({value})"


class ElectrumServer:
    """Serves a chain on a loopback port that the system picks."""

    def __init__(self, chain: Chain, node: NodeMethods) -> None:
        self._chain = chain
        self._calls = ElectrumCalls(chain, node)
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._touched: set[str] = set()
        self._pending: asyncio.Handle | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> int:
        """Start serving and return the port."""
        self._unsubscribe = self._chain.subscribe(lambda event: self.on_change(event.scripthashes))
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=LINE_LIMIT_BYTES
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop serving and close all connections."""
        self._unsubscribe()
        if self._pending is not None:
            self._pending.cancel()
        if self._server is None:
            return
        await close_server(self._server)
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def on_change(self, scripthashes: frozenset[str]) -> None:
        """Tell subscribers that the chain changed: after the running request, once for many."""
        self._touched |= scripthashes
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_soon(self._notify_all)

    def _notify_all(self) -> None:
        self._pending = None
        touched, self._touched = self._touched, set()
        for connection in list(self._connections):
            try:
                connection.notify(touched)
            except HistoryTooLongError as error:
                log.warning("closing a connection: %s", error)
                connection.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self._calls, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            while line := await reader.readline():
                connection.send(connection.answer(line))
                await writer.drain()
        except (ConnectionError, ValueError) as error:  # ValueError: a line over the limit
            log.info("connection lost: %s", error)
        except asyncio.CancelledError:
            pass  # the server is closing; the stream's own callback would report this as an error
        finally:
            del self._connections[connection]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
