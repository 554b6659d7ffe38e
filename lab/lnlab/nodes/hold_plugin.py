"""A plugin for a real lightningd that holds or fails the payments that come in, on order.

Methods: ``lab-hold``, ``lab-release``, ``lab-fail count``, ``lab-held``. It uses the hook
``htlc_accepted`` (Core Lightning's plugin documentation), which comes before the invoice is looked
up: a payment that was held finds the invoice as it is at its release.

It runs as a file of its own with whatever Python is beside lightningd, in a container too: nothing
is imported but the standard library.
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

TEMPORARY_NODE_FAILURE = "2002"
"""BOLT 4."""

METHODS = {
    "lab-hold": "Hold payments from now on.",
    "lab-release": "Let held and later payments go on.",
    "lab-fail": "Fail that many of the next payments.",
    "lab-held": "Tell the payment hashes of held payments.",
}

Answer = Callable[[dict[str, Any]], None]
"""Sends the result of one request, now or later."""


class Holder:
    """What to do with payments, and those held."""

    def __init__(self) -> None:
        self.holding = False
        self.failures_ordered = 0
        self.held: list[tuple[str, Answer]] = []

    def accept(self, htlc: dict[str, Any], answer: Answer) -> None:
        """Decide on one payment now or, while holding, later."""
        if self.failures_ordered:
            self.failures_ordered -= 1
            answer({"result": "fail", "failure_message": TEMPORARY_NODE_FAILURE})
        elif self.holding:
            self.held.append((str(htlc["payment_hash"]), answer))
        else:
            answer({"result": "continue"})

    def release(self) -> None:
        """Let all go on."""
        self.holding = False
        held, self.held = self.held, []
        for _, answer in held:
            answer({"result": "continue"})

    def order(self, method: str, params: Any) -> dict[str, Any]:
        """Do what one of ``METHODS`` says and return its result."""
        if method == "lab-hold":
            self.holding = True
        elif method == "lab-release":
            self.release()
        elif method == "lab-fail":
            given = params.get("count", 1) if isinstance(params, dict) else [*params, 1][0]
            self.failures_ordered += int(given)
        else:
            return {"held": [payment_hash for payment_hash, _ in self.held]}
        return {}


def manifest() -> dict[str, Any]:
    """What lightningd is told of the plugin."""
    return {
        "dynamic": True,
        "options": [],
        "subscriptions": [],
        "hooks": [{"name": "htlc_accepted"}],
        "rpcmethods": [
            {"name": name, "usage": "[count]" if name == "lab-fail" else "", "description": text}
            for name, text in METHODS.items()
        ],
    }


def requests(lines: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that come in; each ends with an empty line."""
    gathered = ""
    for line in lines:
        gathered += line
        if not line.strip() and gathered.strip():
            yield json.loads(gathered)
            gathered = ""


def serve(lines: TextIO, output: TextIO) -> None:
    """Answer lightningd until it closes ``lines``."""
    holder = Holder()
    for request in requests(lines):
        if "id" not in request:
            continue  # a notification

        def answer(result: dict[str, Any], request_id: Any = request["id"]) -> None:
            reply = {"jsonrpc": "2.0", "id": request_id, "result": result}
            output.write(json.dumps(reply) + "\n\n")
            output.flush()

        method, params = request["method"], request.get("params", {})
        if method == "getmanifest":
            answer(manifest())
        elif method == "htlc_accepted":
            holder.accept(params["htlc"], answer)
        elif method in METHODS:
            answer(holder.order(method, params))
        else:
            answer({})


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
