"""The channel between the lab's real Lightning nodes: opened once, connected again after a rest."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from embit.script import address_to_scriptpubkey

from lnlab.actors.faucet import Faucet
from lnlab.nodes.lightning import LightningRpcError, lightning_call
from lnlab.nodes.record import POLICY_ASSET
from lnlab.nodes.rpc import NodeRpc
from lnlab.nodes.seed import mine

CHANNEL_SATS = 1_000_000_000
PUSH_SATS = CHANNEL_SATS // 2
CHANNEL_CONFIRMATIONS = 6

Wait = Callable[[Callable[[], Any], str], Awaitable[None]]
"""Waits for a predicate; the text says what for."""


class Peer(NamedTuple):
    """Where the buyer's node reaches the seller's."""

    host: str
    port: int


async def open_channel(
    rpc: NodeRpc, faucet: Faucet, sockets: dict[str, str], seller_at: Peer, wait: Wait
) -> None:
    """Open a channel from buyer to seller that holds half of its capacity on each side.

    ``sockets`` are the JSON-RPC sockets of ``seller`` and ``buyer``.
    """
    buyer = sockets["buyer"]
    for name, path in sockets.items():
        await wait(partial(_answers, path), f"{name}'s node answers")
    # Not the node's default kind, p2tr: lightningd cannot spend that on Elements.
    address = (await lightning_call(buyer, "newaddr", addresstype="bech32"))["bech32"]
    script = bytes(address_to_scriptpubkey(address).data)
    await faucet.fund(script, [(POLICY_ASSET, 2 * CHANNEL_SATS)])
    await mine(rpc)
    await wait(partial(_has_confirmed_funds, buyer), "buyer's node sees its L-BTC")
    seller_id = await _connect(sockets, seller_at)
    await lightning_call(
        buyer, "fundchannel", id=seller_id, amount=CHANNEL_SATS, push_msat=PUSH_SATS * 1000
    )
    await mine(rpc, CHANNEL_CONFIRMATIONS)
    await wait_usable(sockets, wait)


async def reconnect(sockets: dict[str, str], seller_at: Peer, wait: Wait) -> None:
    """Connect the nodes of an existing channel and wait until it can be used on both sides.

    They would find each other by themselves, but later, and not at another address.
    """
    for name, path in sockets.items():
        await wait(partial(_answers, path), f"{name}'s node answers")
    await _connect(sockets, seller_at)
    await wait_usable(sockets, wait)


async def wait_usable(sockets: dict[str, str], wait: Wait) -> None:
    """Wait until both nodes call the channel normal and have the other connected."""
    for name, path in sockets.items():
        await wait(partial(_is_usable, path), f"{name}'s channel opens")


async def _connect(sockets: dict[str, str], seller_at: Peer) -> str:
    seller_id = str((await lightning_call(sockets["seller"], "getinfo"))["id"])
    await lightning_call(
        sockets["buyer"], "connect", id=seller_id, host=seller_at.host, port=seller_at.port
    )
    return seller_id


async def _answers(path: str) -> bool:
    """Tell whether the node is up and has caught up with the chain."""
    try:
        info = await lightning_call(path, "getinfo")
    except (OSError, LightningRpcError):
        return False
    return not any(name.startswith("warning_") for name in info)


async def _has_confirmed_funds(path: str) -> bool:
    funds = await lightning_call(path, "listfunds")
    return any(output["status"] == "confirmed" for output in funds["outputs"])


async def _is_usable(path: str) -> bool:
    answer = await lightning_call(path, "listpeerchannels")
    return any(
        channel["state"] == "CHANNELD_NORMAL" and channel["peer_connected"]
        for channel in answer["channels"]
    )
