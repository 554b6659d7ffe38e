"""The plugin that holds payments on a real node, spoken to as lightningd does."""

import io
import json
from typing import Any

from lnlab.nodes.hold_plugin import METHODS, serve


def talk(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What the plugin answers, in its order."""
    lines = "".join(json.dumps(request, indent=1) + "\n\n" for request in requests)
    output = io.StringIO()
    serve(io.StringIO(lines), output)
    return [json.loads(part) for part in output.getvalue().split("\n\n") if part]


def payment(request_id: int, payment_hash: str) -> dict[str, Any]:
    """A payment that comes in."""
    params = {"htlc": {"payment_hash": payment_hash}, "onion": {}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "htlc_accepted", "params": params}


def call(request_id: int, method: str, params: Any = ()) -> dict[str, Any]:
    """A command."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}


def test_manifest() -> None:
    """lightningd is told the hook and every command, and that the plugin may be started late."""
    manifest, _ = talk(call(1, "getmanifest"), call(2, "init"))
    assert manifest["result"]["hooks"] == [{"name": "htlc_accepted"}]
    assert manifest["result"]["dynamic"] is True
    assert {one["name"] for one in manifest["result"]["rpcmethods"]} == set(METHODS)


def test_held_payments_are_answered_at_the_release() -> None:
    """While it holds, payments are listed and get no answer; the release answers each."""
    answers = talk(
        payment(1, "aa"),
        call(2, "lab-hold"),
        payment(3, "bb"),
        payment(4, "cc"),
        call(5, "lab-held"),
        call(6, "lab-release"),
        payment(7, "dd"),
        call(8, "lab-held"),
    )
    assert [one["id"] for one in answers] == [1, 2, 5, 3, 4, 6, 7, 8]
    results = {one["id"]: one["result"] for one in answers}
    assert results[5] == {"held": ["bb", "cc"]}
    assert results[8] == {"held": []}
    assert all(results[number] == {"result": "continue"} for number in (1, 3, 4, 7))


def test_as_many_payments_fail_as_were_ordered() -> None:
    """By position, by name or by default one; then payments pass again."""
    for params, failing in (({"count": 2}, 2), ([2], 2), ([], 1)):
        answers = talk(call(1, "lab-fail", params), *(payment(n, "aa") for n in (2, 3, 4)))
        failed = [one for one in answers[1:] if one["result"]["result"] == "fail"]
        assert len(failed) == failing, params


def test_notifications_are_not_answered() -> None:
    """What has no id wants no answer."""
    assert talk({"jsonrpc": "2.0", "method": "shutdown", "params": {}}) == []
