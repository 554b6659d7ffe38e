"""A plugin for a real lightningd that holds or fails the payments that come in, on order.

Methods: ``lab-hold``, ``lab-release``, ``lab-fail count``, ``lab-held``. It uses the hook
``htlc_accepted`` (Core Lightning's plugin documentation), which comes before the invoice is looked
up: a payment that was held finds the invoice as it is at its release.
"""

from typing import Any

from pyln.client import Plugin

TEMPORARY_NODE_FAILURE = "2002"
"""BOLT 4."""


class Holder:
    """What to do with payments, and those held."""

    def __init__(self) -> None:
        self.holding = False
        self.failures_ordered = 0
        self.held: list[tuple[str, Any]] = []

    def accept(self, htlc: dict[str, Any], request: Any) -> None:
        """Decide on one payment now or, while holding, later."""
        if self.failures_ordered:
            self.failures_ordered -= 1
            result = {"result": "fail", "failure_message": TEMPORARY_NODE_FAILURE}
            request.set_result(result)
        elif self.holding:
            self.held.append((str(htlc["payment_hash"]), request))
        else:
            request.set_result({"result": "continue"})

    def release(self) -> None:
        """Let all go on."""
        self.holding = False
        held, self.held = self.held, []
        for _, request in held:
            request.set_result({"result": "continue"})


def main() -> None:
    """Run as a plugin: lightningd is at the other end of standard input and output."""
    plugin, holder = Plugin(), Holder()

    @plugin.async_hook("htlc_accepted")  # type: ignore[untyped-decorator]  # pyln ships no types
    def on_htlc_accepted(htlc: dict[str, Any], request: Any, **_: Any) -> None:
        holder.accept(htlc, request)

    @plugin.method("lab-hold")  # type: ignore[untyped-decorator]
    def hold() -> dict[str, Any]:
        """Hold payments from now on."""
        holder.holding = True
        return {}

    @plugin.method("lab-release")  # type: ignore[untyped-decorator]
    def release() -> dict[str, Any]:
        """Let held and later payments go on."""
        holder.release()
        return {}

    @plugin.method("lab-fail")  # type: ignore[untyped-decorator]
    def fail(count: int = 1) -> dict[str, Any]:
        """Fail that many of the next payments."""
        holder.failures_ordered += count
        return {}

    @plugin.method("lab-held")  # type: ignore[untyped-decorator]
    def held() -> dict[str, Any]:
        """Tell the payment hashes of held payments."""
        return {"held": [payment_hash for payment_hash, _ in holder.held]}

    plugin.run()
