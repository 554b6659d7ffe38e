"""Finding a way to pay over the payer's own channels, and saying why there is none.

The embedded network has direct channels only: no payment is forwarded, split or charged a fee. The
texts are those of plugins/askrene (explain_failure.c, mcf.c) as xpay passes them on.
"""

from collections.abc import Callable, Sequence

from .channels import Channel
from .errors import (
    PAY_ROUTE_NOT_FOUND,
    PAY_ROUTE_TOO_EXPENSIVE,
    PAY_USER_ERROR,
    RpcError,
)

MAX_DELAY_BLOCKS = 2016
CLTV_FINAL_BLOCKS = 10  # --cltv-final of the test networks
_NO_PATHS = "We could not find a usable set of paths."

Usable = Callable[[Channel], bool]


def find_channel(
    channels: Sequence[Channel],
    usable: Usable,
    *,
    payer: str,
    payee: str,
    amount_msat: int,
    final_cltv_blocks: int,
    max_delay_blocks: int,
) -> Channel:
    """The channel to pay over. Raises RpcError 205 (no way), 206 (too long) or 217."""
    if max_delay_blocks > MAX_DELAY_BLOCKS:
        raise RpcError(PAY_USER_ERROR, f"Failed: maximum delay allowed is {MAX_DELAY_BLOCKS}")
    between = [c for c in _of(channels, payer) if c.other(payer) == payee]
    able = [c for c in between if usable(c) and c.spendable_msat(payer) >= amount_msat]
    if not able:
        why = explain(channels, usable, payer=payer, payee=payee, amount_msat=amount_msat)
        raise RpcError(PAY_ROUTE_NOT_FOUND, f"Failed: {why}")
    if final_cltv_blocks > max_delay_blocks:
        raise RpcError(
            PAY_ROUTE_TOO_EXPENSIVE, "Failed: Could not find route without excessive delays"
        )
    return able[0]


def _of(channels: Sequence[Channel], node_id: str) -> list[Channel]:
    return [c for c in channels if node_id in c.sides]


def explain(
    channels: Sequence[Channel], usable: Usable, *, payer: str, payee: str, amount_msat: int
) -> str:
    """Why nothing carries the amount from payer to payee."""
    ours, theirs = _of(channels, payer), _of(channels, payee)
    if not ours:
        return f"Unknown source node {payer}"
    if not theirs:
        return f"Unknown destination node {payee}"
    lack = _lack(ours, usable, amount_msat, "source")
    lack = lack or _lack(theirs, usable, amount_msat, "destination")
    if lack is not None:
        return lack
    between = [c for c in ours if c.other(payer) == payee]
    if not between:
        return "There is no connection between source and destination at all"
    channel = between[0]
    if not usable(channel):
        why = "marked disabled by gossip message."
    elif amount_msat > channel.capacity_msat:
        why = f"isn't big enough to carry {amount_msat}msat."
    else:
        why = f"layer auto.localchans says max is {channel.spendable_msat(payer)}msat"
    scid = channel.short_channel_id
    return f"{_NO_PATHS} The shortest path is {scid}, but {scid}/{channel.direction(payer)} {why}"


def _lack(channels: list[Channel], usable: Usable, amount_msat: int, end: str) -> str | None:
    """What is missing at one end, by whole capacities and without regard to balances."""
    total_msat = sum(c.capacity_msat for c in channels)
    if amount_msat > total_msat:
        return (
            f"{_NO_PATHS} Total {end} capacity is only {total_msat}msat "
            f"(in {len(channels)} channels)."
        )
    enabled = [c for c in channels if usable(c)]
    enabled_msat = sum(c.capacity_msat for c in enabled)
    if amount_msat <= enabled_msat:
        return None
    if not enabled:
        return f"{_NO_PATHS} All {len(channels)} channels to the {end} are disabled."
    return (
        f"{_NO_PATHS} {len(channels) - len(enabled)} of {len(channels)} channels to {end} are "
        f"disabled, leaving capacity only {enabled_msat}msat of {total_msat}msat."
    )
