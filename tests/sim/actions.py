"""What may happen in a step: buyers, blocks, faults, and the daemon's own work, each by name."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from lnlab.nodes.embedded.txmodel import Tx
from lnliquid.domain.errors import BackendError, RequestConflict, StoreFailure, SwapError
from lnliquid.liquid.coin_selection import MustWait
from lnliquid.store.coins import CoinsGone
from lnliquid.watchers.chain_view import TipMoved

from . import buyers, faults, foreign, withdrawals
from .buyers import Deal, new_deal
from .clockwork import Crash, Violation
from .ground import ASSET, nothing_held, parsed
from .world import World

Action = Callable[[World], Awaitable[str]]

EXPECTED = (BackendError, StoreFailure, TipMoved, MustWait, CoinsGone, SwapError)
"""What the daemon's loops take as the way of the world; anything else is a defect."""
MAX_DEALS = 60
USUAL_REORG = 6
MOST_REORG = 16
"""Blocks."""
MOST_SWEPT = 100_000
"""Units; so that there is something left to sell."""


async def attempt(work: Coroutine[Any, Any, str]) -> str:
    """Let the daemon do something; what may go wrong becomes the outcome's text."""
    try:
        return await work
    except EXPECTED as error:
        return type(error).__name__
    except (Crash, Violation):
        raise
    except Exception as error:
        raise Violation(10, f"the daemon fails with {type(error).__name__}: {error}") from error


# ---- the daemon's own work


async def watch(world: World) -> str:
    """A round of the watcher, by a notice or by the slow timer."""

    async def work() -> str:
        await world.daemon.watch(world.chance.happens(0.3, "slow timer"))
        return "done"

    return await attempt(work())


async def fund(world: World) -> str:
    """The funder is woken."""

    async def work() -> str:
        await world.daemon.fund()
        return "done"

    return await attempt(work())


async def busy(world: World) -> str:
    """Everything at once: the watcher, the funder, two creations and a look."""
    names = ("watch", "fund", "create", "create", "poll")
    works = [watch(world), fund(world), create(world), create(world), poll(world)]
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Crash):
            raise result
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return ", ".join(f"{n}: {r}" for n, r in zip(names, results, strict=True))


async def crash(_world: World) -> str:
    """The power goes."""
    raise Crash("between two steps")


async def withdraw(world: World) -> str:
    """The operator takes coins out, or asks for it again."""
    return await attempt(withdrawals.ask(world))


async def reprice(world: World) -> str:
    """The operator sets another price, for ever or for a while, or clears it."""
    usual = world.settings.price_msat_per_asset_unit
    msat = world.rng.choice((0, usual, usual * world.rng.randrange(50, 150) // 100))
    secs = world.rng.choice((0, 600, 7_200))

    async def work() -> str:
        price = await world.daemon.operator.set_price(ASSET, msat, secs)
        return f"{price.msat_per_unit} until {price.valid_until}"

    return await attempt(work())


# ---- buyers


async def create(world: World) -> str:
    """A new buyer asks."""
    refused = [d for d in world.deals.values() if d.swap_id is None]
    if refused and (len(refused) > 2 or len(world.deals) >= MAX_DEALS):
        deal = refused[world.chance.below(len(refused), "who tries again")]
        return f"{deal.name} again: {await attempt(_ask(world, deal))}"
    if len(world.deals) >= MAX_DEALS:
        return "enough"
    rng, number = world.rng, len(world.deals)
    deal = new_deal(
        number,
        rng.randrange(5_000, 150_000),
        rng.randrange(1, 4),
        careful=rng.random() < 0.6,
        claims=rng.random() < 0.85,
        late=rng.random() < 0.15,
    )
    world.deals[deal.request.request_id] = deal
    return f"{deal.name}: {await attempt(_ask(world, deal))}"


async def repeat(world: World) -> str:
    """A buyer asks again with the same id: the same swap, for ever (rule 8)."""
    deal = _some_deal(world)
    return f"{deal.name}: {await attempt(_ask(world, deal))}" if deal else "nobody"


async def _ask(world: World, deal: Deal) -> str:
    swap = await world.daemon.seller.create_swap(deal.request)
    if deal.swap_id not in (None, swap.swap_id) or swap.request_id != deal.request.request_id:
        raise Violation(8, f"{deal.name} got another swap for the same request id")
    deal.swap_id = swap.swap_id
    deal.see(buyers.shown(swap))
    return swap.state.name


async def conflict(world: World) -> str:
    """A buyer uses an id again with other parameters: an error (rule 8)."""
    deal = _some_deal(world)
    if deal is None or deal.swap_id is None:
        return "nobody"
    other = replace(deal.request, asset_amount=deal.request.asset_amount + 1)

    async def work() -> str:
        try:
            await world.daemon.seller.create_swap(other)
        except RequestConflict:
            return "conflict"
        raise Violation(8, f"{deal.name} changed its parameters and got an answer")

    return await attempt(work())


def _some_deal(world: World) -> Deal | None:
    return world.rng.choice([*world.deals.values()]) if world.deals else None


async def poll(world: World) -> str:
    """Buyers look at their swaps: mostly at those of which there is something new to see."""
    seen = 0
    for deal in [*world.deals.values()]:
        if deal.swap_id is None or world.chance.happens(0.55, "does not look", deal.number):
            continue
        row = world.rules.rows.get(deal.swap_id)
        if row is deal.row_seen and not world.chance.happens(0.1, "looks anyway", deal.number):
            continue

        async def work(deal: Deal = deal, row: object = row) -> str:
            swap, _ = await world.daemon.seller.swap(deal.swap_id or "")
            deal.see(buyers.shown(swap))
            deal.row_seen = row
            return "seen"

        seen += await attempt(work()) == "seen"
    return f"{seen} seen"


async def pay(world: World) -> str:
    """Buyers who have an invoice pay, or let it be; most look once more before."""
    if world.chance.happens(0.8, "look first"):
        await poll(world)
    for deal in world.deals.values():
        if world.chance.happens(0.6, "pays", deal.number):
            world.pay(deal, "    ", hold=world.chance.happens(0.4, "holds", deal.number))
    return ""


async def settle(world: World) -> str:
    """Held payments are taken or go back."""
    told = []
    for deal in world.deals.values():
        if deal.holding_until is not None and world.chance.happens(0.6, "settles", deal.number):
            told.append(f"{deal.name} {world.settle_payment(deal)}")
    return ", ".join(told)


async def claim(world: World) -> str:
    """A buyer who paid claims."""
    world.claim_one("    ")
    return ""


# ---- the chain and time


async def mine(world: World) -> str:
    """A block, with all of the mempool, some of it, or none."""
    luck = world.rng.random()
    held = nothing_held if luck < 0.7 else world.some_held if luck < 0.9 else lambda _txid: True
    world.ground.mine(1, held)
    return f"height {world.ground.chain.tip_height}"


async def mine_many(world: World) -> str:
    """Time goes by; lock heights are reached."""
    world.ground.mine(world.rng.randrange(3, 26))
    return f"height {world.ground.chain.tip_height}"


async def reorg(world: World) -> str:
    """The last blocks are replaced."""
    most = MOST_REORG if world.rng.random() < 0.1 else USUAL_REORG
    done = world.reorg(world.rng.randrange(1, most + 1), world.rng.randrange(2))
    return f"{done} deep, height {world.ground.chain.tip_height}"


async def deposit(world: World) -> str:
    """The operator pays in."""
    if len(world.ground.deposits) >= 12:
        return "enough"
    asset, lbtc = world.rng.randrange(100_000, 500_000), world.rng.randrange(10_000, 60_000)
    return f"{asset} and {lbtc} sat: {world.deposit(asset, lbtc) is not None}"


async def mempool_forgets(world: World) -> str:
    """The network forgets an unconfirmed transaction."""
    waiting = world.ground.chain.mempool_txids()
    if not waiting:
        return "nothing"
    world.ground.forget(world.rng.choice(waiting))
    return "one"


async def version_mined(world: World) -> str:
    """A miner who kept another version of a transaction of ours mines that one."""
    rows = world.rules.ask("SELECT txid, raw, replaces FROM own_tx ORDER BY rowid")
    replaced = {row["replaces"] for row in rows}
    versions = [
        row
        for row in rows
        if (row["replaces"] or row["txid"] in replaced) and world.ground.find(row["txid"]) is None
    ]
    if not versions:
        return "none"
    raw = world.rng.choice(versions[-6:])["raw"]
    depth = max(
        (
            world.ground.confirmations(spender.txid)
            for i in parsed(raw).inputs
            if (spender := world.ground.spender(*i.outpoint)) is not None
        ),
        default=0,
    )
    if depth >= world.settings.final_confs:
        return "too late"
    world.coverage.everywhere("version mined")
    done = world.ground.reorg_to(depth, raw) if depth else world.ground.mine_version(raw)
    return f"{'done' if done else 'refused'}, {depth} deep"


async def deposit_undone(world: World) -> str:
    """A sender replaces its deposit, in the mempool or by a reorg as deep as is needed."""
    able = [
        (deposit, world.ground.confirmations(deposit.txid))
        for deposit in world.ground.deposits
        if world.ground.find(deposit.txid) is not None
    ]
    able = [(deposit, depth) for deposit, depth in able if depth < world.settings.final_confs]
    if not able:
        return "none"
    deposit, depth = world.rng.choice(able)
    if not depth:
        return f"in the mempool: {foreign.undo(world, deposit)}"
    world.coverage.everywhere("shallow reorg")

    def between(_gone: list[Tx]) -> None:
        foreign.undo(world, deposit)

    world.ground.reorg(depth, 0, nothing_held, between)
    return f"{depth} deep"


async def foreign_sweep(world: World) -> str:
    """Another wallet with the same seed spends a coin that nothing of ours is built on."""
    coins = [
        (coin.txid, coin.vout)
        for scripthash in world.rules.books.wallet.scripts.values()
        for coin in world.ground.chain.unspent(scripthash)
        if coin.asset == ASSET and coin.value < MOST_SWEPT
    ]
    return str(foreign.sweep(world, world.rng.choice(coins))) if coins else "none"


async def foreign_refund(world: World) -> str:
    """Somebody with the seed refunds past the daemon."""
    return foreign.refund(world)


async def wait(world: World) -> str:
    """Some time goes by without a block."""
    secs = world.rng.randrange(5, 200)
    world.pass_time(secs)
    return f"{secs} s"


async def operator(world: World) -> str:
    """The operator pauses, resumes, or orders the refund of what was paid and not claimed."""
    stuck = [row for row in world.rules.rows.values() if row["paid_unclaimed"]]

    async def work() -> str:
        if stuck and world.rng.random() < 0.5:
            row = world.rng.choice(stuck)
            await world.daemon.operator.refund(row["swap_id"], "the buyer is gone")
            return f"refund of swap {row['key_index']} ordered"
        pause = world.rng.random() < 0.2
        await world.daemon.operator.set_paused(pause)
        return "paused" if pause else "resumed"

    return await attempt(work())


WEIGHTS: dict[Action, int] = {
    watch: 260,
    busy: 60,
    fund: 50,
    crash: 7,
    create: 60,
    repeat: 15,
    conflict: 6,
    poll: 25,
    pay: 110,
    settle: 40,
    claim: 60,
    mine: 130,
    mine_many: 12,
    reorg: 16,
    deposit: 12,
    mempool_forgets: 6,
    foreign_refund: 8,
    foreign_sweep: 3,
    version_mined: 25,
    deposit_undone: 8,
    faults.fees_rise: 12,
    wait: 15,
    faults.clock_jumps: 6,
    faults.server_fault: 25,
    faults.lightning_fault: 18,
    faults.disk_fault: 4,
    faults.recovery: 60,
    faults.late_news: 25,
    faults.paid_news: 15,
    operator: 14,
    withdraw: 14,
    reprice: 8,
}
"""How often each action comes, against the others."""


def leave_out(names: Iterable[str]) -> None:
    """Never choose these actions from now on."""
    for action in WEIGHTS:
        if action.__name__ in names:
            WEIGHTS[action] = 0
