"""Lightning nodes with which nothing is sold: behind, of another network, or not safely set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lnliquid.config import Settings
from lnliquid.domain.ports import NodeInfo
from lnliquid.domain.timelock import LightningChain, chain_of_node

LIGHTNING_NETWORKS = {
    "liquidv1": ("bitcoin", "liquid"),
    "liquidtestnet": ("testnet", "testnet4", "signet", "liquid-testnet"),
    "liquid-regtest": ("liquid-regtest",),
}
"""Liquid chains, each with the networks of Core Lightning that go with it."""

MAX_BLOCKS_BEHIND = 20
"""Blocks of a chain that both nodes follow; a burst of blocks takes Lightning a moment."""

KEEP_DAYS = 30
"""Invoices have to stay for so long: longer than any swap, and than the daemon is down."""

Value = bool | int | str


@dataclass(frozen=True, slots=True)
class Unsafe:
    """An option, the values that are not safe, and what they do."""

    name: str
    is_unsafe: Callable[[Value], bool]
    effect: str
    advice: str


def _is_too_soon(age_secs: Value) -> bool:
    """0 is never."""
    return str(age_secs).isdecimal() and 0 < int(age_secs) < KEEP_DAYS * 86_400


KEEP_INVOICES = f"set it to 0 (never), or to {KEEP_DAYS * 86_400} seconds or more"

UNSAFE = (
    Unsafe(
        "invoices-onchain-fallback",
        bool,
        "an invoice that is paid on the chain counts as paid, and the buyer gets no preimage",
        "remove it from the node's configuration and restart the node",
    ),
    Unsafe(
        "autoclean-paidinvoices-age",
        _is_too_soon,
        "an invoice may be deleted before its payment was seen",
        KEEP_INVOICES,
    ),
    Unsafe(
        "autoclean-expiredinvoices-age",
        _is_too_soon,
        "an invoice that is gone may have been paid, so that its swap waits for the operator",
        KEEP_INVOICES,
    ),
)


def lightning_problem(
    settings: Settings,
    info: NodeInfo,
    options: Mapping[str, Value],
    tip_height: int | None = None,
) -> str | None:
    """What is wrong with the node for these settings, and what to do; None when nothing is.

    `tip_height` is that of the Liquid chain, which the node may follow too; None when not known.
    """
    fitting = LIGHTNING_NETWORKS[settings.network]
    if info.network not in fitting:
        return (
            f"the Lightning node is on {info.network}, and {settings.network} goes with "
            f"{' or '.join(fitting)}"
        )
    chain = chain_of_node(info.network)
    if chain.value != settings.lightning_chain:
        return (
            f"the Lightning node is on {info.network}, and the time locks are made for "
            f'lightning_chain = "{settings.lightning_chain}"; set lightning_chain = "{chain.value}"'
        )
    if info.sync_problem:
        return f"the Lightning node is not synced: {info.sync_problem}"
    behind = (tip_height or 0) - info.block_height
    if chain is LightningChain.LIQUID and behind > MAX_BLOCKS_BEHIND:
        return (
            f"the Lightning node is more than {MAX_BLOCKS_BEHIND} blocks behind the Liquid "
            "backend; see whether its own node is synced"
        )
    for rule in UNSAFE:
        if rule.name in options and rule.is_unsafe(options[rule.name]):
            return (
                f"the Lightning node has {rule.name} = {options[rule.name]}: {rule.effect}; "
                f"{rule.advice}"
            )
    return None
