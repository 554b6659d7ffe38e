"""The disk is full: under everything the daemon writes, or under its replica alone.

The system makes it so, not the daemon: RLIMIT_FSIZE of its process is set to 0 (setrlimit(2)), and
every write to a file fails with EFBIG; the journal's path becomes that of a directory.
"""

import asyncio
import contextlib
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.scenarios.outage import is_refused
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    CREATED,
    FUNDED,
    REFUNDED,
    available,
    invoice_status,
    mine_to,
    refund_now,
    require_path,
    require_refusal,
    require_spends,
    sell,
    spends,
    until_available,
    until_final,
    until_state,
)

RETRY_SECS = 0.2


@contextlib.contextmanager
def nothing_can_be_written(daemon: SellerDaemon) -> Iterator[None]:
    """The daemon can write to no file, be it store, journal or log; a container's log is none."""
    pids = daemon.host_pids()
    require(bool(pids), "the daemon has no process")
    _limit_files(pids, 0)
    try:
        yield
    finally:
        _limit_files(pids, resource.RLIM_INFINITY)


def _limit_files(pids: Sequence[int], size_bytes: int) -> None:
    for pid in pids:
        # One of them may be a healthcheck of the container, which ends by itself.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


@contextlib.contextmanager
def in_the_way(path: Path) -> Iterator[None]:
    """A directory stands where the file was, so that it cannot be written; then it is back."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        kept.rename(path)


async def disk_full(daemon: SellerDaemon, say: Say) -> None:
    """On a full disk no swap is taken and nothing is sent; with space again all goes on."""
    before = await available(daemon)
    buyer = HandBuyer(daemon)
    claimed, unpaid = await buyer.order_many(2)
    with nothing_can_be_written(daemon):
        await require_refusal(buyer.create(buyer.request()), grpc.StatusCode.UNAVAILABLE)
        await is_refused(daemon)
        say("the disk is full; new swaps are refused with a hint when to retry")
        await buyer.send(buyer.claim(claimed, await buyer.pay(claimed)))
        await mine_to(daemon, unpaid.refund_lock_height + 1)
        # What is to be done is stored first, so nothing is done.
        await is_refused(daemon)
        require(not await spends(daemon, unpaid), "a refund was sent that is not stored")
        require(await invoice_status(daemon, unpaid.swap_id) == "unpaid", "an invoice was deleted")
        require(daemon.is_running(), "the daemon ended")
    await daemon.wait_ready()
    await until_final(daemon, claimed.swap_id, CLAIMED)
    await refund_now(daemon, unpaid)
    await require_path(daemon, claimed.swap_id, (CREATED, FUNDED, CLAIMED))
    await require_path(daemon, unpaid.swap_id, (CREATED, FUNDED, REFUNDED))
    await require_spends(daemon, unpaid, "refund", "refund")
    await sell(daemon, buyer)
    await until_available(daemon, before - 2_000)
    say("space again: one was claimed, one refunded, sales go on")
    daemon.check_log()


async def replica_fails(daemon: SellerDaemon, say: Say) -> None:
    """Without its replica the daemon sells nothing; claims and refunds go on; then sales do."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    before = await available(daemon)
    paid, unpaid = await buyer.order_many(2)
    with in_the_way(daemon.directory / "swaps.sqlite.replica"):
        creating = asyncio.create_task(_create_at_last(buyer))
        await is_refused(daemon)
        require(not await lab.rpc.call("getrawmempool"), "funded without a replica")
        say("the replica cannot be written: nothing is funded, new swaps are refused")
        await buyer.send(buyer.claim(paid, await buyer.pay(paid)))
        await until_state(daemon, paid.swap_id, CLAIMED)
        await refund_now(daemon, unpaid)
        say("a claim is taken in, and a refund is sent all the same")
    async with mining(lab):
        swap = await creating
    await buyer.send(buyer.claim(swap, await buyer.pay(swap)))
    for swap_id in (paid.swap_id, swap.swap_id):
        await until_final(daemon, swap_id, CLAIMED)
    await daemon.wait_ready()
    await until_available(daemon, before - 2_000)
    say("it can be written again: the waiting swap was funded, paid and claimed")
    daemon.check_log()


async def _create_at_last(buyer: HandBuyer) -> pb.Swap:
    """Order until it is taken: the daemon may have noticed the replica before the order came."""
    request = buyer.request()
    while True:
        try:
            return await buyer.create(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(RETRY_SECS)
