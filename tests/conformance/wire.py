"""Calls as bytes: nothing between the case and the node hides the form of an answer."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024


class ElectrumWire:
    """One connection to an Electrum server; notifications are kept in the order they came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._last_id = 0
        self.notifications: list[dict[str, Any]] = []

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect. Raises OSError."""
        return cls(*await asyncio.open_connection(host, port, limit=ANSWER_LIMIT_BYTES))

    async def ask(self, method: str, params: Sequence[object]) -> dict[str, Any]:
        """Call and return `result` or `error` as it was sent. Raises OSError without an answer."""
        self._last_id += 1
        line = json.dumps({"id": self._last_id, "method": method, "params": list(params)})
        answer = await self.exchange(line)
        return {name: answer[name] for name in ("result", "error") if name in answer}

    async def exchange(self, line: str) -> Any:
        """Send a line and return what answers it, which may be an array.

        Raises ConnectionError when the server hangs up, TimeoutError when it says nothing.
        """
        self._writer.write(line.encode() + b"\n")
        while True:
            message = await self._read(10)
            if isinstance(message, list) or "id" in message:
                return message
            self.notifications.append(message)

    async def listen(self, secs: float) -> bool:
        """Keep notifications that come within the time; tells whether there was one."""
        try:
            self.notifications.append(await self._read(secs))
        except TimeoutError:
            return False
        return True

    async def _read(self, secs: float) -> Any:
        line = await asyncio.wait_for(self._reader.readline(), secs)
        if not line:
            raise ConnectionResetError("the Electrum server hung up")
        return json.loads(line)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with suppress(ConnectionError):  # the server was faster
            await self._writer.wait_closed()


async def lightning_exchange(
    socket_path: str, method: str, params: dict[str, Any], timeout_secs: float
) -> dict[str, Any]:
    """Call a Lightning node and return `result` or `error` as it was sent.

    Raises OSError (TimeoutError included) for no answer.
    """
    async with asyncio.timeout(timeout_secs):
        reader, writer = await asyncio.open_unix_connection(socket_path)
        try:
            request = {"jsonrpc": "2.0", "id": "conformance", "method": method, "params": params}
            writer.write(json.dumps(request).encode() + b"\n\n")
            received = b""
            while chunk := await reader.read(65536):
                received += chunk
                try:
                    answer = json.loads(received)
                except ValueError:
                    continue
                return {name: answer[name] for name in ("result", "error") if name in answer}
        finally:
            writer.close()
            with suppress(ConnectionError):  # the node was faster
                await writer.wait_closed()
    raise ConnectionResetError("the Lightning node hung up without an answer")
