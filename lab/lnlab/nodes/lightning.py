"""One-shot calls to a Core Lightning node's JSON-RPC socket, for setting up and looking."""

import asyncio
import json
from typing import Any


class LightningRpcError(Exception):
    """The node answered with an error; ``code`` is Core Lightning's number."""

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(f"{method}: {reason} (code {code})")
        self.code = code


async def lightning_call(
    socket_path: str, method: str, *, timeout_secs: float = 30.0, **params: object
) -> Any:
    """Call ``method`` with named ``params`` and return its result.

    Raises LightningRpcError for an error answer, OSError (TimeoutError included) for no answer.
    """
    async with asyncio.timeout(timeout_secs):
        reader, writer = await asyncio.open_unix_connection(socket_path)
        try:
            request = {"jsonrpc": "2.0", "id": "lnlab", "method": method, "params": params}
            writer.write(json.dumps(request).encode() + b"\n\n")
            answer = await _read_answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()
    if "error" in answer:
        failure = answer["error"]
        raise LightningRpcError(method, int(failure["code"]), str(failure["message"]))
    return answer["result"]


async def _read_answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Read one JSON object: answers span lines and their end mark has changed between versions."""
    received = b""
    while chunk := await reader.read(65536):
        received += chunk
        try:
            answer: dict[str, Any] = json.loads(received)
        except ValueError:
            continue
        return answer
    raise ConnectionResetError("the Lightning node closed the connection without an answer")
