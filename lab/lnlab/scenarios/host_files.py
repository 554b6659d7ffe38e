"""The host: files that change hands, descriptors that run out, a second daemon."""

import asyncio
import contextlib
import os
import resource
import shutil
import socket
from collections.abc import Iterator

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc
from lnlab.actors.daemon import CHANNEL_OPTIONS, SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.programs import ProgramError, run_program
from lnlab.scenarios.loss import database_of, files_of, require_refused, restore
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    REFUNDED,
    available,
    mine_to,
    refund_now,
    require_refusal,
    require_spends,
    sell,
    until_available,
    until_final,
    until_state,
)

SCANNERS = 5_000
"""Connections that say nothing."""
USUAL_SOFT_LIMIT = 1_024
REFUNDED_AFTER_SECS = 30.0


async def file_replaced(daemon: SellerDaemon, say: Say) -> None:
    """With its database deleted under it a daemon sells nothing, refunds, and is restored."""
    before = await available(daemon)
    buyer = HandBuyer(daemon)
    paid, unpaid = await buyer.order_many(2)
    database = database_of(daemon)
    for step in ("deleted", "replaced"):
        due = unpaid if step == "deleted" else await buyer.order()
        files = files_of(database)
        copy = database.with_name("copy")
        shutil.copyfile(database, copy)
        for path in files:
            path.unlink()
        if step == "replaced":
            copy.rename(database)
        await require_refusal(buyer.create(buyer.request()), grpc.StatusCode.UNAVAILABLE)
        await is_refused(daemon)
        say(f"the database was {step}: health says so, and no order is taken")
        if step == "deleted":
            await buyer.send(buyer.claim(paid, await buyer.pay(paid)))
            await until_state(daemon, paid.swap_id, CLAIMED)
        await refund_now(daemon, due)
        say("a refund was sent and mined all the same")
        await daemon.stop()
        words = "is missing or empty" if step == "deleted" else "is older than its replica"
        await require_refused(daemon, words)
        await restore(daemon)
        await daemon.start()
        await daemon.wait_ready()
        await until_state(daemon, due.swap_id, REFUNDED)
        await require_spends(daemon, due, "refund", "refund")
        copy.unlink(missing_ok=True)
    await until_final(daemon, paid.swap_id, CLAIMED)
    await sell(daemon, buyer)
    await until_available(daemon, before - 2_000)
    say("restored from the replica, which has what was done in between; sales go on")
    daemon.check_log()


async def two_daemons(daemon: SellerDaemon, say: Say) -> None:
    """A second daemon that shares a path with the first is refused, and takes nothing from it."""
    before = await available(daemon)
    buyer = HandBuyer(daemon)
    other = daemon.directory / "second"
    other.mkdir()
    mnemonic = other / "mnemonic"
    await run_program("lnliquid", "init", "--mnemonic-file", str(mnemonic))
    first = {
        "database": daemon.setting("database"),
        "mnemonic_file": daemon.setting("mnemonic_file"),
        "listen": daemon.address,
        "operator_listen": daemon.operator_address,
    }
    own = {
        "database": str(other / "swaps.sqlite"),
        "mnemonic_file": str(mnemonic),
        "listen": f"unix:{other}/listen.sock",
        "operator_listen": f"unix:{other}/operator.sock",
    }
    for shared in first:
        for name in (shared, "listen" if shared == "operator_listen" else shared):
            settings = own | {name: first[shared]}
            told = await _refused_second(daemon, settings)
            say(f"a second daemon with the first one's {shared} as its {name}: {told}")
            await sell(daemon, buyer)
            await run_program("lnliquid", "swaps", "--operator", daemon.operator_address)
    await until_available(daemon, before - 8_000)
    shutil.rmtree(other)
    daemon.check_log()


async def _refused_second(daemon: SellerDaemon, settings: dict[str, str]) -> str:
    """Why a daemon with these settings, the others the first one's, does not start."""
    env = {f"LNLIQUID_{name.upper()}": value for name, value in settings.items()}
    env["LNLIQUID_REPLICA"] = f"{settings['database']}.second"
    command = ("lnliquid", "serve", "--config", str(daemon.config))
    try:
        await run_program(*command, env={**os.environ, **env}, timeout_secs=20)
    except ProgramError as error:
        require(error.code == 2, f"it ended with {error.code}: {error.output}")
        return error.output.strip().splitlines()[-2][:120]
    require(False, "a second daemon ran")
    return ""


async def descriptors(daemon: SellerDaemon, say: Say) -> None:
    """With thousands of idle connections refunds go on, and a buyer is answered soon."""
    before = await available(daemon)
    buyer = HandBuyer(daemon)
    paid, unpaid = await buyer.order_many(2)
    with _soft_limit(USUAL_SOFT_LIMIT):
        await daemon.restart()
    await daemon.wait_ready()
    with _scanned(daemon) as count:
        say(f"{count:,} connections that say nothing; at first {USUAL_SOFT_LIMIT:,} descriptors")
        await buyer.send(buyer.claim(paid, await buyer.pay(paid)))
        await mine_to(daemon, unpaid.refund_lock_height)
        async with asyncio.timeout(REFUNDED_AFTER_SECS):
            await until_final(daemon, unpaid.swap_id, REFUNDED)
            await until_state(daemon, paid.swap_id, CLAIMED)
        say("a claim was seen and a refund made all the same")
        async with grpc.aio.insecure_channel(
            daemon.address, options=[*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub: swap_pb2_grpc.SwapServiceAsyncStub = swap_pb2_grpc.SwapServiceStub(channel)
            request = pb.GetOfferRequest(asset_id=daemon.asset_id)
            await stub.GetOffer(request, timeout=20, wait_for_ready=True)
        say("a buyer that came later was answered")
    await daemon.wait_ready()
    await sell(daemon, buyer)
    await until_available(daemon, before - 2_000)
    daemon.check_log()


@contextlib.contextmanager
def _soft_limit(descriptors: int) -> Iterator[None]:
    """Of this process, and of what it starts meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _scanned(daemon: SellerDaemon) -> Iterator[int]:
    host, _, port = daemon.address.rpartition(":")
    wanted = min(SCANNERS, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
    with _soft_limit(wanted + 200), contextlib.ExitStack() as held:
        for _ in range(wanted):
            held.enter_context(socket.create_connection((host, int(port)), timeout=5))
        yield wanted
