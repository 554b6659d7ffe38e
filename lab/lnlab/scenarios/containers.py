"""Containers of a compose lab paused, killed and cut off their network: it costs time, not money.

What `lnlab.scenarios.outage` does with proxies happens here to the nodes themselves, and to the
daemon. A paused service keeps its sockets and says nothing; a killed one has to be started; one
that was cut off is alive and alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import Any

import grpc

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.lab import Lab
from lnlab.nodes.channel import reconnect
from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.compose import SELLER_AT
from lnlab.nodes.compose_containers import SELLER, Containers
from lnlab.nodes.electrum import electrum_call
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError
from lnlab.nodes.seed import mine
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.sale import Say, ScenarioError, require
from lnlab.scenarios.steps import (
    CLAIMED,
    CREATED,
    FUNDED,
    REFUNDED,
    available,
    refund_now,
    require_path,
    sell,
    until,
    until_available,
    until_final,
    until_state,
)

BACK_SECS = 60.0
CALL_SECS = 3.0


class How(StrEnum):
    """What is done to a container."""

    PAUSED = "paused"
    KILLED = "killed"
    CUT_OFF = "cut off its network"


@asynccontextmanager
async def broken(lab: Lab, service: str, how: How) -> AsyncIterator[None]:
    """Have a service broken inside the `async with`, and mended, answering, after it."""
    containers = containers_of(lab)
    breaks, mends = {
        How.PAUSED: (containers.pause, containers.unpause),
        How.KILLED: (containers.kill, containers.start),
        How.CUT_OFF: (containers.cut_off, containers.join),
    }[how]
    if service == "elementsd" and how is How.KILLED:
        # It keeps blocks in memory for an hour, and this writes them out: else the chain would be
        # the first one again after a kill, and that is no outage. The mempool is lost all the same.
        await lab.rpc.call("gettxoutsetinfo")
    await asyncio.to_thread(breaks, service)
    try:
        yield
    finally:
        await asyncio.to_thread(mends, service)
        await answers_again(lab, service)


def containers_of(lab: Lab) -> Containers:
    """The lab's containers. Raises ScenarioError on a lab without any."""
    if lab.containers is None:
        raise ScenarioError("this scenario needs containers: `--nodes compose`")
    return lab.containers


async def answers_again(lab: Lab, service: str) -> None:
    """Wait until a node that was broken can be used, its channel included."""

    async def wait(predicate: Callable[[], Any], message: str) -> None:
        await lab.wait_for(predicate, timeout_secs=BACK_SECS, message=message)

    if service == "elementsd":
        await wait(partial(_quiet, lab.tip), "elementsd answers")
        await mine(lab.rpc)
    if service in ("elementsd", "electrs"):
        ping = partial(electrum_call, lab.electrum_url, "server.ping", timeout_secs=CALL_SECS)
        await wait(partial(_quiet, ping), "electrs answers")
        await lab.wait_until_caught_up()
    if service in ("elementsd", "lightningd-seller", "lightningd-buyer"):
        await reconnect(lab.lightning, SELLER_AT, wait)


async def _quiet(call: Callable[[], Awaitable[Any]]) -> bool:
    """True when the call succeeds; not being reached is no error yet."""
    try:
        await call()
    except (OSError, NodeRpcError, NodeUnreachableError):
        return False
    return True


async def electrs_gone(daemon: SellerDaemon, how: How, say: Say) -> None:
    """Without the Electrum server no swap is taken; what happens meanwhile is found afterwards."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    before = await available(daemon)
    claimed, unpaid = await buyer.order_many(2)
    async with broken(lab, "electrs", how):
        await is_refused(daemon)
        await buyer.send(buyer.claim(claimed, await buyer.pay(claimed)))
        height = (await lab.tip()).height
        await mine(lab.rpc, unpaid.refund_lock_height + 1 - height)
        output = await lab.rpc.call("gettxout", unpaid.funding_txid, unpaid.asset_vout, True)
        require(output is not None, "the HTLC was spent while the daemon saw no chain")
    await daemon.wait_ready()
    await until_final(daemon, claimed.swap_id, CLAIMED)
    await refund_now(daemon, unpaid)
    await require_path(daemon, claimed.swap_id, (CREATED, FUNDED, CLAIMED))
    await sell(daemon, buyer)
    await until_available(daemon, before - 2_000)
    say(f"electrs {how}: swaps were refused; afterwards one was claimed and one refunded")


async def lightning_gone(daemon: SellerDaemon, how: How, say: Say) -> None:
    """Without the seller's Lightning node nothing is refunded before its invoices are known."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    paid, unpaid = await buyer.order_many(2)
    preimage = await buyer.pay(paid)
    async with broken(lab, "lightningd-seller", how):
        await is_refused(daemon)
        await lab.mine(max(s.refund_lock_height for s in (paid, unpaid)) - await _height(lab))
        for swap in (paid, unpaid):
            output = await lab.rpc.call("gettxout", swap.funding_txid, swap.asset_vout, True)
            require(output is not None, "refunded without knowing the invoice")
    await daemon.wait_ready()
    await refund_now(daemon, unpaid)
    await buyer.send(buyer.claim(paid, preimage))
    await until_final(daemon, paid.swap_id, CLAIMED)
    await sell(daemon, buyer)
    say(f"lightningd-seller {how}: nothing was refunded blindly; the unpaid one was afterwards")


async def seller_alone(daemon: SellerDaemon, say: Say) -> None:
    """The seller's node, cut off, knows its invoices and no peer: payments fail, refunds go on."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    unpaid = await buyer.order()
    async with broken(lab, "lightningd-seller", How.CUT_OFF):
        await lab.mine(unpaid.refund_lock_height - await _height(lab))
        await until_final(daemon, unpaid.swap_id, REFUNDED)
    await daemon.wait_ready()
    await sell(daemon, buyer)
    say("lightningd-seller cut off its network: the refund went on, and sales afterwards")


async def elementsd_killed(daemon: SellerDaemon, say: Say) -> None:
    """A funding that elementsd forgot when it was killed is sent again and confirms."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    creating = asyncio.create_task(buyer.create(buyer.request()))
    try:
        sent = await lab.wait_for(
            partial(lab.rpc.call, "getrawmempool"), timeout_secs=20, message="the funding is sent"
        )
        async with broken(lab, "elementsd", How.KILLED):
            pass

        async def known() -> bool:
            try:
                await lab.rpc.call("getrawtransaction", sent[0])
            except NodeRpcError:
                return False
            return True

        await until(daemon, known, "elementsd has the funding again")
        await lab.mine()
        swap = await creating
    finally:
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
    await until_state(daemon, swap.swap_id, FUNDED, invoice=True)
    await buyer.send(buyer.claim(swap, await buyer.pay(swap)))
    await until_final(daemon, swap.swap_id, CLAIMED)
    say("elementsd killed: the funding was not lost, the swap was claimed")


async def daemon_broken(daemon: SellerDaemon, how: How, say: Say) -> None:
    """While the seller is away buyers hear nothing; then it goes on where it was."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    claimed, unpaid = await buyer.order_many(2)
    preimage = await buyer.pay(claimed)
    async with broken(lab, SELLER, how):
        try:
            await buyer.create(buyer.request(), timeout_secs=CALL_SECS)
        except grpc.aio.AioRpcError:
            pass
        else:
            raise ScenarioError(f"a daemon that is {how} answered")
        await buyer.send(buyer.claim(claimed, preimage))
        await lab.mine(unpaid.refund_lock_height - await _height(lab))
    await daemon.wait_ready(BACK_SECS)
    await until_final(daemon, claimed.swap_id, CLAIMED)
    await refund_now(daemon, unpaid)
    say(f"lnliquid {how}: afterwards one was claimed and one refunded")


async def dead_node_is_named(daemon: SellerDaemon, say: Say) -> None:
    """A container that dies by itself ends every wait at once, with its name and its log."""
    lab = daemon.lab
    containers = containers_of(lab)
    await asyncio.to_thread(containers.kill, "electrs")
    containers.down_on_purpose.clear()
    try:
        await until(daemon, _never, "nothing")
    except NodeDiedError as error:
        require("electrs" in str(error), f"the message does not name the service: {error}")
    else:
        raise ScenarioError("a wait went on beside a dead node")
    finally:
        await asyncio.to_thread(containers.start, "electrs")
        await answers_again(lab, "electrs")
        await daemon.wait_ready()
    say("electrs dead without being told so: named at once")


async def _never() -> bool:
    return False


async def _height(lab: Lab) -> int:
    return (await lab.tip()).height


async def containers(daemon: SellerDaemon, say: Say) -> None:
    """Nodes and daemon are paused, killed and cut off; every swap ends as it should."""
    for how in How:
        await electrs_gone(daemon, how, say)
    for how in (How.PAUSED, How.KILLED):
        await lightning_gone(daemon, how, say)
    await seller_alone(daemon, say)
    await elementsd_killed(daemon, say)
    for how in How:
        await daemon_broken(daemon, how, say)
    await dead_node_is_named(daemon, say)
