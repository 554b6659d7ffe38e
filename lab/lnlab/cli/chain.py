"""The chain and what troubles it: `lnlab mine`, `faucet`, `reorg` and `fault`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from lnlab.actors.faucet import script_of
from lnlab.cli.base import DEFAULT_DIRECTORY, AsJson, Directory, show
from lnlab.faults.control import Faults
from lnlab.faults.orders import Fault, FaultError, tell_proxies
from lnlab.lab import Lab, absolute
from lnlab.nodes.record import POLICY_ASSET

ISSUE_UNITS = 1_000_000 * 100_000_000
"""How much of a new ticker the faucet issues, in smallest units."""
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


async def mine(
    blocks: Annotated[int, typer.Argument(min=1, max=10_000, help="How many.")] = 1,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Mine blocks and wait until the Electrum server has them.

    Example: `lnlab mine 6`
    """
    async with await Lab.attach(directory) as lab:
        hashes = await lab.mine(blocks)
        tip = await lab.tip()
    text = f"mined {blocks}, height is now {tip.height}"
    show(text, {"blocks": hashes, "height": tip.height}, as_json=as_json)


async def faucet(
    address: Annotated[str, typer.Argument(help="Unblinded regtest address (ert1…).")],
    amount: Annotated[int, typer.Argument(min=1, help="In the asset's smallest units.")],
    asset: Annotated[
        str, typer.Option(help="`lbtc`, an asset id, or a ticker; a new ticker is issued.")
    ] = "lbtc",
    no_mine: Annotated[bool, typer.Option("--no-mine", help="Leave it unconfirmed.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Pay coins to an address and mine a block.

    Example: `lnlab faucet ert1q… 100000 --asset DEMO`
    """
    script = script_of(address)
    async with await Lab.attach(directory) as lab:
        asset_id = await asset_id_of(lab, asset)
        txid = await lab.faucet.fund(script, [(asset_id, amount)])
        if not no_mine:
            await lab.mine()
    confirmed = "not confirmed yet" if no_mine else "confirmed"
    show(
        f"paid {amount} of {asset} to {address}: {txid} ({confirmed})",
        {"txid": txid, "vout": 0, "asset": asset_id, "amount": amount, "mined": not no_mine},
        as_json=as_json,
    )


async def reorg(
    depth: Annotated[int, typer.Argument(min=1, max=100, help="Newest blocks to replace.")],
    blocks: Annotated[
        int | None, typer.Option(min=1, help="New blocks; one more than the old if left out.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Txid to leave out of the new blocks; repeatable.")
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Replace the newest blocks by others; what they held goes back to the mempool.

    Example: `lnlab reorg 3 --blocks 4`
    """
    async with await Lab.attach(directory) as lab:
        height = (await lab.tip()).height
        if depth >= height:
            raise FaultError(f"the chain has {height} blocks: {depth} of them cannot be replaced")
        hashes = await lab.reorg(depth, blocks, without=drop or [])
        tip = await lab.tip()
    show(
        f"replaced {depth} blocks by {len(hashes)}, height is now {tip.height}",
        {"replaced": depth, "blocks": hashes, "height": tip.height, "left_out": drop or []},
        as_json=as_json,
    )


async def fault(
    place: Annotated[str, typer.Argument(help="electrum, lightning, buyer-lightning; or status.")],
    what: Annotated[
        str,
        typer.Argument(
            help="none, refuse, hang, delay, cut; electrum: drop, duplicate, lag, frozen, behind; "
            "lightning: hold, release, fail (payments)."
        ),
    ] = "none",
    secs: Annotated[float, typer.Option(min=0, help="Of a delay.")] = 1.0,
    count: Annotated[int, typer.Option(min=1, help="Payments to fail.")] = 1,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Make a backend misbehave, in a lab started with `lnlab up --proxies`.

    Example: `lnlab fault electrum hang`
    """
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


async def asset_id_of(lab: Lab, name: str) -> str:
    """Return the asset id for ``lbtc``, an id or a ticker; a new ticker is issued and mined."""
    if name.lower() in ("lbtc", "l-btc"):
        return POLICY_ASSET
    if len(name) == 64:
        return name.lower()
    known = lab.faucet.assets().get(name)
    if known is None:
        known = await lab.faucet.issue(name, ISSUE_UNITS)
        await lab.mine()
    return known
