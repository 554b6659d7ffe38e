"""elementsd's JSON-RPC over HTTP in front of the embedded chain.

As there: POST to ``/`` with basic authentication; a request or an array of them; an error answer
has HTTP status 500 (404 unknown method, 400 no valid request, 401 credentials), an array 200.
Source: Elements ``httprpc.cpp``, ``rpc/server.cpp``.
"""

import base64
import hmac
import inspect
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.rpc_methods import NodeMethods
from lnlab.nodes.embedded.rpc_values import CallError
from lnlab.nodes.rpc import RpcCode

INVALID_REQUEST = -32600
PARSE_ERROR = -32700
MAX_REQUEST_BYTES = 64 * 1024 * 1024

_HTTP_STATUS = {INVALID_REQUEST: 400, RpcCode.METHOD_NOT_FOUND: 404}


class NodeRpcServer:
    """Serves ``NodeMethods`` on a loopback port that the system picks.

    ``on_stop`` is called when a client asks the node to stop.
    """

    def __init__(
        self, chain: Chain, *, user: str, password: str, on_stop: Callable[[], None]
    ) -> None:
        self.node = NodeMethods(chain, on_stop)
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._authorization = f"Basic {token}"
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Start serving and return the port."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop serving and close the connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), self._authorization.encode()):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        try:
            message = json.loads(await request.read())
        except ValueError:
            return _reply(_failure(None, PARSE_ERROR, "Parse error"), 500)
        if isinstance(message, list):
            return _reply([self._answer(single) for single in message], 200)
        answer = self._answer(message)
        code = answer["error"]["code"] if answer["error"] else None
        return _reply(answer, 200 if code is None else _HTTP_STATUS.get(code, 500))

    def _answer(self, message: object) -> dict[str, Any]:
        if not isinstance(message, dict):
            return _failure(None, INVALID_REQUEST, "Invalid Request object")
        key, name = message.get("id"), message.get("method")
        if not isinstance(name, str):
            return _failure(key, INVALID_REQUEST, "Method must be a string")
        params = message.get("params") or []
        if not isinstance(params, list | dict):
            return _failure(key, INVALID_REQUEST, "Params must be an array or object")
        method = self.node.methods.get(name)
        if method is None:
            return _failure(key, RpcCode.METHOD_NOT_FOUND, "Method not found")
        try:
            by_position, by_name = ([], params) if isinstance(params, dict) else (params, {})
            call = inspect.signature(method).bind(*by_position, **by_name)
        except TypeError as error:
            return _failure(key, RpcCode.MISC, f"{name}: {error}")
        try:
            return {"result": method(*call.args, **call.kwargs), "error": None, "id": key}
        except CallError as error:
            return _failure(key, error.code, error.reason)


def _failure(key: object, code: int, reason: str) -> dict[str, Any]:
    return {"result": None, "error": {"code": int(code), "message": reason}, "id": key}


def _reply(answer: object, status: int) -> web.Response:
    return web.Response(
        text=json.dumps(answer) + "\n", status=status, content_type="application/json"
    )
