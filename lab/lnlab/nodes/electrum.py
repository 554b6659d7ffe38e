"""One-shot calls to an Electrum server, with which the lab sees whether it has caught up."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024


class ElectrumCallError(Exception):
    """The server answered with an error."""


async def electrum_call(url: str, method: str, *params: object, timeout_secs: float = 10.0) -> Any:
    """Call ``method`` at ``tcp://host:port`` and return its result.

    Raises ElectrumCallError for an error answer, OSError (TimeoutError included) for no answer.
    """
    place = urlsplit(url)
    async with asyncio.timeout(timeout_secs):
        reader, writer = await asyncio.open_connection(
            place.hostname, place.port, limit=ANSWER_LIMIT_BYTES
        )
        try:
            request = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
    if not line:
        raise ConnectionResetError(f"{url} closed the connection without an answer")
    answer = json.loads(line)
    if answer.get("error") is not None:
        raise ElectrumCallError(f"{method}: {answer['error']}")
    return answer["result"]
