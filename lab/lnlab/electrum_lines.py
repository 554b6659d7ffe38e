"""What a proxy can do to the messages of one connection without breaking their form.

Electrum speaks JSON lines: a request has an id and a method, an answer the id, a notification a
method and no id. An array of requests is answered by an array.
"""

import json
from collections.abc import Iterator
from typing import Any

LINE_LIMIT_BYTES = 64 * 1024 * 1024
TIP_METHOD = "blockchain.headers.subscribe"


class PlainBytes:
    """A connection whose bytes are passed on as they are."""

    def asked(self, data: bytes) -> None:
        """Take note of what the client sends: nothing to note."""

    def answered(self, data: bytes, *, notifications: int, old_tip: bool) -> Iterator[bytes]:
        """Give what the client gets for it."""
        yield data


class ElectrumLines:
    """One connection to an Electrum server.

    ``seen_tip`` is shared by all of them: empty, or the tip (the result of TIP_METHOD) last passed
    on, which stays what it is while the tip is an old one.
    """

    def __init__(self, seen_tip: list[Any]) -> None:
        self._seen_tip = seen_tip
        self._tip_requests: set[object] = set()

    def asked(self, line: bytes) -> None:
        """Note which requests ask for the tip."""
        for message in _messages(line):
            if message.get("method") == TIP_METHOD:
                self._tip_requests.add(message.get("id"))

    def answered(self, line: bytes, *, notifications: int, old_tip: bool) -> Iterator[bytes]:
        """Give the lines that the client gets for one of the server's.

        Each notification comes ``notifications`` times; with ``old_tip`` answers that tell the tip
        tell the one seen before.
        """
        messages = list(_messages(line))
        if len(messages) == 1 and "id" not in messages[0]:
            if notifications and messages[0].get("method") == TIP_METHOD:
                self._seen_tip[:] = messages[0].get("params", [])
            yield from [line] * notifications
            return
        changed = False
        for message in messages:
            if message.get("id") not in self._tip_requests:
                continue
            self._tip_requests.discard(message["id"])
            if message.get("result") is None:
                continue
            if old_tip and self._seen_tip:
                message["result"] = self._seen_tip[0]
                changed = True
            else:
                self._seen_tip[:] = [message["result"]]
        if not changed:
            yield line
            return
        is_array = line.lstrip().startswith(b"[")
        yield json.dumps(messages if is_array else messages[0]).encode() + b"\n"


def _messages(line: bytes) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(line)
    except ValueError:
        return
    for message in content if isinstance(content, list) else [content]:
        if isinstance(message, dict):
            yield message
