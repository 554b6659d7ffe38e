"""What `lnlab fault` and `reorg` do and print; ``lnlab.cli`` declares their options."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from lnlab.commands import show
from lnlab.fault_control import Faults, tell_proxies
from lnlab.faults import Fault, FaultError
from lnlab.lab import Lab, absolute

PLACES = {
    "electrum": "electrum",
    "lightning": "lightning-seller",
    "buyer-lightning": "lightning-buyer",
}
"""Names on the command line to names of proxies."""


def payment_faults(faults: Faults, count: int) -> dict[str, Callable[[], Awaitable[None]]]:
    """What can be done to payments at the seller's node."""
    return {
        "hold": faults.hold_payments,
        "release": faults.release_payments,
        "fail": lambda: faults.fail_payments(count),
    }


async def fault(
    directory: Path, place: str, what: str, secs: float, count: int, *, as_json: bool
) -> None:
    """Set a fault, or with ``status`` only tell the proxies' faults."""
    where = absolute(directory)
    if place == "status":
        told = await tell_proxies(where, {})
        text = "\n".join(f"{name:<18} {p['fault']:<10} {p['endpoint']}" for name, p in told.items())
        show(text, told, as_json=as_json)
        return
    if place not in PLACES:
        raise FaultError(f"no place {place!r}; there are: {', '.join(PLACES)}, and status")
    async with await Lab.attach(where) as lab:
        faults = Faults(lab)
        payments = payment_faults(faults, count) if place == "lightning" else {}
        if what in payments:
            await payments[what]()
        elif what in {one.value for one in Fault}:
            await faults.set(PLACES[place], what, secs)
        else:
            have = ", ".join([*payments, *(one.value for one in Fault)])
            raise FaultError(f"no fault {what!r} of {place}; there are: {have}")
    show(f"{place}: {what}", {"place": place, "fault": what}, as_json=as_json)


async def reorg(
    directory: Path, depth: int, blocks: int | None, drop: list[str], *, as_json: bool
) -> None:
    """Replace the newest blocks and print the new tip."""
    async with await Lab.attach(directory) as lab:
        height = (await lab.tip()).height
        if depth >= height:
            raise FaultError(f"the chain has {height} blocks: {depth} of them cannot be replaced")
        hashes = await lab.reorg(depth, blocks, without=drop)
        tip = await lab.tip()
    show(
        f"replaced {depth} blocks by {len(hashes)}, height is now {tip.height}",
        {"replaced": depth, "blocks": hashes, "height": tip.height, "left_out": drop},
        as_json=as_json,
    )
