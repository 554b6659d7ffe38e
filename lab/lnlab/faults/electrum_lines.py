"""What a proxy can do to the messages of one connection without breaking their form.

Electrum speaks JSON lines: a request has an id and a method, an answer the id, a notification a
method and no id. An array of requests is answered by an array.
"""

import json
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

LINE_LIMIT_BYTES = 64 * 1024 * 1024
TIP_METHOD = "blockchain.headers.subscribe"
HISTORY_METHOD = "blockchain.scripthash.get_history"
ALTERED = (TIP_METHOD, HISTORY_METHOD)
"""Methods whose answers a proxy may change."""


class Sight(Enum):
    """What of the chain the client gets to see."""

    WHOLE = auto()
    OLD_TIP = auto()
    """The tip is for ever the one last seen; the rest is as it is."""
    FROZEN = auto()
    """Everything ends with the tip last seen, the mempool is empty."""
    BEHIND = auto()
    """Everything ends one block or more before what was seen last, the mempool is empty."""


class SeenTips:
    """The tips that clients were told (results of TIP_METHOD), shared by all connections."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None
        self.older_secs = 0
        """By how much the header of a frozen tip is older than it was."""

    def add(self, tip: dict[str, Any]) -> None:
        """Take note of a tip that is passed on."""
        if self._last is not None and self._last["height"] < tip["height"]:
            self._before = self._last
        self._last = tip

    def shown(self, sight: Sight) -> dict[str, Any] | None:
        """The tip that is told instead of the true one; None when it is to be passed on."""
        match sight:
            case Sight.WHOLE:
                return None
            case Sight.OLD_TIP:
                return self._last
            case Sight.FROZEN:
                return self._last and _older(self._last, self.older_secs)
            case Sight.BEHIND:
                return self._before or self._last


class PlainBytes:
    """A connection whose bytes are passed on as they are."""

    def asked(self, data: bytes) -> None:
        """Take note of what the client sends: nothing to note."""

    def answered(self, data: bytes, *, notifications: int, sight: Sight) -> Iterator[bytes]:
        """Give what the client gets for it."""
        yield data


class ElectrumLines:
    """One connection to an Electrum server."""

    def __init__(self, tips: SeenTips) -> None:
        self._tips = tips
        self._asked: dict[object, str] = {}

    def asked(self, line: bytes) -> None:
        """Note which requests get answers that may be changed."""
        for message in _messages(line):
            if message.get("method") in ALTERED:
                self._asked[message.get("id")] = message["method"]

    def answered(self, line: bytes, *, notifications: int, sight: Sight) -> Iterator[bytes]:
        """Give the lines that the client gets for one of the server's.

        Each notification comes ``notifications`` times; answers are those of a server that sees so
        much. Statuses of scripts stay what they are, which tells a client to read again.
        """
        messages = list(_messages(line))
        if len(messages) == 1 and "id" not in messages[0]:
            if notifications and messages[0].get("method") == TIP_METHOD:
                for tip in messages[0].get("params", []):
                    self._tips.add(tip)
            yield from [line] * notifications
            return
        results = [self._result(message, sight) for message in messages]
        if all(
            new is message.get("result") for new, message in zip(results, messages, strict=True)
        ):
            yield line
            return
        for message, result in zip(messages, results, strict=True):
            if "result" in message:
                message["result"] = result
        is_array = line.lstrip().startswith(b"[")
        yield json.dumps(messages if is_array else messages[0]).encode() + b"\n"

    def _result(self, message: dict[str, Any], sight: Sight) -> Any:
        """The result that the client gets in this answer; the same object when it is unchanged."""
        result = message.get("result")
        method = self._asked.pop(message.get("id"), None)
        if method is None or result is None:
            return result
        shown = self._tips.shown(sight)
        if method == TIP_METHOD:
            if shown is None:
                self._tips.add(result)
            return shown or result
        if sight in (Sight.FROZEN, Sight.BEHIND) and shown is not None:
            return [item for item in result if 0 < item["height"] <= shown["height"]]
        return result


def _older(tip: dict[str, Any], secs: int) -> dict[str, Any]:
    """This tip with a header that is so much older (`primitives/block.h`: the time is at 68)."""
    header = bytearray.fromhex(tip["hex"])
    time = int.from_bytes(header[68:72], "little") - secs
    header[68:72] = time.to_bytes(4, "little")
    return tip | {"hex": header.hex()}


def _messages(line: bytes) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(line)
    except ValueError:
        return
    for message in content if isinstance(content, list) else [content]:
        if isinstance(message, dict):
            yield message
