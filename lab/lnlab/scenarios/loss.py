"""Loss: database or replica is gone or older, and every open swap goes on from the other file."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.actors.programs import ProgramError, run_program
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    FUNDED,
    REFUNDED,
    available,
    look,
    mine_to,
    require_spends,
    sell,
    spends,
    until,
    until_available,
    until_final,
    until_no_invoice,
    until_state,
)

AMOUNT = 1_000
SWAPS = 14
"""As a scenario of the command line; the tests take more."""


@dataclass
class Crowd:
    """Swaps by what was true of them when the database was lost."""

    sold: list[pb.Swap] = field(default_factory=list)
    """Claimed, and that is final."""
    due: list[pb.Swap] = field(default_factory=list)
    """At the lock height, not paid."""
    due_paid: dict[str, bytes] = field(default_factory=dict)
    """At the lock height, paid and not claimed: swap id to preimage."""
    unpaid: list[pb.Swap] = field(default_factory=list)
    paid: dict[str, bytes] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)
    """The claim is in one block, which is not final, or in the mempool."""
    unconfirmed: list[pb.Swap] = field(default_factory=list)
    """The funding is in the mempool."""
    by_id: dict[str, pb.Swap] = field(default_factory=dict)


async def database_lost(daemon: SellerDaemon, say: Say) -> None:
    """With its database deleted the seller goes on from the replica, and buyers lose nothing."""
    await crowd_survives(daemon, say, SWAPS)


async def crowd_survives(daemon: SellerDaemon, say: Say, swaps: int) -> None:
    """The same with so many swaps, at least seven, in all states in which a swap can be open."""
    buyer = HandBuyer(daemon)
    before = await available(daemon)
    crowd = await gather_crowd(daemon, buyer, swaps, say)
    files = files_of(database_of(daemon))
    for path in files:
        path.unlink(missing_ok=True)
    say(f"the database is deleted: {', '.join(path.name for path in files)}")
    await require_refused(daemon, "is missing or empty, its replica is not")
    done = await restore(daemon)
    say(f"restored from the replica, {done['commits']} commits")
    await daemon.start()
    await follow_to_the_end(daemon, buyer, crowd, before, say)


def database_of(daemon: SellerDaemon) -> Path:
    """The database's path."""
    return Path(daemon.setting("database"))


def replica_of(daemon: SellerDaemon) -> Path:
    """The replica's path."""
    database = database_of(daemon)
    return database.with_name(f"{database.name}.replica")


def files_of(path: Path) -> list[Path]:
    """A database and what SQLite keeps beside it."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


async def restore(daemon: SellerDaemon, *arguments: str) -> dict[str, Any]:
    """`lnliquid restore --json`. Raises `ProgramError`."""
    command = ("lnliquid", "restore", "--config", str(daemon.config), "--json", *arguments)
    values: dict[str, Any] = json.loads(await run_program(*command))
    return values


async def require_refused(daemon: SellerDaemon, words: str) -> None:
    """Require that the daemon does not start, says these words, and names the way out."""
    try:
        await run_program("lnliquid", "serve", "--config", str(daemon.config), timeout_secs=20)
    except ProgramError as error:
        told = " ".join(error.output.split())
        require(error.code == 2, f"the start was refused with exit code {error.code}: {told}")
        require(words in told, f"the refusal does not say {words!r}: {told}")
        require("lnliquid restore" in told, f"the refusal does not name the way out: {told}")
    else:
        require(False, "the daemon started on a database that is not the newest")


async def gather_crowd(daemon: SellerDaemon, buyer: HandBuyer, swaps: int, say: Say) -> Crowd:
    """Bring swaps into every state, end the daemon, and stop at the lock height of some."""
    lab = daemon.lab
    share = swaps // 7
    crowd = Crowd()
    crowd.sold = [await sell(daemon, buyer, AMOUNT)]
    first = await buyer.order_many(2 * share, AMOUNT)
    # A burst may need several fundings, and so several lock heights.
    lock_height = min(s.refund_lock_height for s in first)
    due = [s for s in first if s.refund_lock_height == lock_height]
    later = [s for s in first if s.refund_lock_height > lock_height]
    half = len(due) // 2
    crowd.due = due[half:]
    for swap in due[:half]:
        crowd.due_paid[swap.swap_id] = await buyer.pay(swap)
    await mine_to(daemon, lock_height - 8)
    for swap in crowd.due:
        await until_no_invoice(daemon, swap.swap_id)
    say(f"{len(due)} swaps are near their lock height, {half} of them paid")
    rest = await buyer.order_many(4 * share, AMOUNT)
    crowd.unpaid, to_pay = [*rest[: 2 * share], *later], rest[2 * share :]
    claims: list[bytes] = []
    for number, swap in enumerate(to_pay):
        preimage = await buyer.pay(swap)
        if number < share:
            crowd.paid[swap.swap_id] = preimage
        else:
            crowd.claimed.append(swap.swap_id)
            claims.append(buyer.claim(swap, preimage))
    await mine_to(daemon, lock_height - 1)
    unconfirmed = swaps - 6 * share - 1
    known = {s.swap_id for s in (*crowd.sold, *first, *rest)}
    creating = [
        asyncio.create_task(buyer.create(buyer.request(AMOUNT))) for _ in range(unconfirmed)
    ]
    try:

        async def all_funded() -> list[pb.Swap] | None:
            reply = await daemon.operator_stub().ListSwaps(
                pb.ListSwapsRequest(limit=1_000), timeout=10
            )
            new = [s.swap for s in reply.swaps if s.swap.swap_id not in known]
            mempool = set(await lab.rpc.call("getrawmempool"))
            sent = [s for s in new if s.funding_txid in mempool]
            return sent if len(sent) == unconfirmed else None

        crowd.unconfirmed = await until(daemon, all_funded, "the last fundings are sent")
        await daemon.kill()
    finally:
        for task in creating:
            task.cancel()
        await asyncio.gather(*creating, return_exceptions=True)
    say("the daemon is dead; some claim meanwhile, and the lock height comes")
    early = len(claims) // 2
    for raw in claims[:early]:
        await buyer.send(raw)
    await lab.mine(1, without={s.funding_txid for s in crowd.unconfirmed})
    for raw in claims[early:]:
        await buyer.send(raw)
    require((await lab.tip()).height == lock_height, "this is not the lock height")
    everything = (*crowd.sold, *first, *rest, *crowd.unconfirmed)
    crowd.by_id = {s.swap_id: s for s in everything}
    return crowd


async def follow_to_the_end(
    daemon: SellerDaemon, buyer: HandBuyer, crowd: Crowd, before: int, say: Say
) -> None:
    """Everything unpaid comes back, everything paid is the buyer's, and the books balance."""
    for swap in crowd.due:
        await until_state(daemon, swap.swap_id, REFUNDED)
    say(f"{len(crowd.due)} unpaid swaps at the lock height are refunded")
    swap = crowd.unpaid[0]
    await daemon.lab.mine()
    same = await buyer.create(buyer.request(AMOUNT, request_id=swap.request_id))
    require(same.swap_id == swap.swap_id, "the same request is another swap after the restore")
    late = crowd.unconfirmed[0]
    preimage = await buyer.pay(await until_state(daemon, late.swap_id, FUNDED, invoice=True))
    await buyer.send(buyer.claim(late, preimage))
    say("a swap whose funding was not confirmed is sold")
    for swap_id, known in {**crowd.due_paid, **crowd.paid}.items():
        paid = crowd.by_id[swap_id]
        require(not await spends(daemon, paid), "the seller spent what was paid")
        await buyer.send(buyer.claim(paid, known))
    claimed = [*crowd.due_paid, *crowd.paid, *crowd.claimed, late.swap_id]
    for swap_id in claimed:
        await until_final(daemon, swap_id, CLAIMED)
        await require_spends(daemon, crowd.by_id[swap_id], "claim", "claim")
    say(f"{len(claimed)} paid swaps are claimed")
    unpaid = [*crowd.unpaid, *crowd.unconfirmed[1:]]
    heights = [(await look(daemon, s.swap_id)).swap.refund_lock_height for s in unpaid]
    await mine_to(daemon, max(heights))
    for swap in (*crowd.due, *unpaid):
        await until_final(daemon, swap.swap_id, REFUNDED)
        await require_spends(daemon, swap, "refund", "refund")
    say(f"{len(unpaid)} unpaid swaps are refunded after their lock height")
    await until_available(daemon, before - AMOUNT * (len(claimed) + len(crowd.sold)))
    await require_exact(daemon)
    say("the inventory is what it should be and the audit is exact")
    daemon.check_log()


async def older_copy(daemon: SellerDaemon, say: Say) -> None:
    """Older copies of its database are refused, and from the replica nothing is forgotten."""
    buyer = HandBuyer(daemon)
    before = await available(daemon)
    funded, paid = await buyer.order_many(2, AMOUNT)
    # A copy in which a swap waits for funding: the most dangerous one, for it would be funded anew.
    await daemon.restart({"LNLIQUID_CRASH_AT": "create.reserved"})
    waiting_request = buyer.request(AMOUNT)
    creating = asyncio.create_task(buyer.create(waiting_request))
    await daemon.wait_dead()
    await asyncio.gather(creating, return_exceptions=True)
    copies = [(p, p.read_bytes()) for p in files_of(database_of(daemon)) if p.exists()]
    say("copied the database while a swap waits for its funding")
    await daemon.start()
    waiting = await order_again(daemon, buyer, waiting_request)
    preimage = await buyer.pay(paid)
    (later,) = await buyer.order_many(1, AMOUNT)
    sold = await sell(daemon, buyer, AMOUNT)
    await daemon.kill()
    for path in files_of(database_of(daemon)):
        path.unlink(missing_ok=True)
    for path, content in copies:
        path.write_bytes(content)
    say("that copy is back; one swap was funded, one made, one paid and one sold after it")
    await require_refused(daemon, "is older than its replica")
    done = await restore(daemon)
    require(len(done["kept"]) == 1, f"what was there is not kept: {done['kept']}")
    say("the daemon does not start on it; restored from the replica, the copy is kept")
    await lose_replica(daemon, say)
    await daemon.start()
    same = await buyer.create(waiting_request)
    require(
        (same.swap_id, same.funding_txid) == (waiting.swap_id, waiting.funding_txid),
        "the swap that waited in the copy was funded again",
    )
    require((await look(daemon, sold.swap_id)).swap.state == CLAIMED, "the sold one is forgotten")
    await buyer.send(buyer.claim(paid, preimage))
    await until_final(daemon, paid.swap_id, CLAIMED)
    unpaid = (funded, waiting, later)
    await mine_to(daemon, max(s.refund_lock_height for s in unpaid))
    for swap in unpaid:
        await until_final(daemon, swap.swap_id, REFUNDED)
        await require_spends(daemon, swap, "refund", "refund")
    await until_available(daemon, before - 2 * AMOUNT)
    await require_exact(daemon)
    require(replica_of(daemon).exists(), "the lost replica was not made again")
    say("nothing was funded twice, the paid one is claimed, the others are refunded")
    daemon.check_log()


async def lose_replica(daemon: SellerDaemon, say: Say) -> None:
    """Delete the replica: the next start makes another one."""
    for path in files_of(replica_of(daemon)):
        path.unlink(missing_ok=True)
    say("the replica is deleted too")


async def order_again(
    daemon: SellerDaemon, buyer: HandBuyer, request: pb.CreateSwapRequest
) -> pb.Swap:
    """Send a request once more and mine what its funding needs."""
    async with mining(daemon.lab):
        return await buyer.create(request)


async def require_exact(daemon: SellerDaemon) -> None:
    """Require that the audit finds nothing."""
    printed = await run_program("lnliquid", "audit", "--config", str(daemon.config), "--json")
    report = json.loads(printed)
    require(report["exact"], f"the audit says {report['differences']}")
