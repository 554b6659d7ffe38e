"""A world in which the daemon is led to any of its crash points, and dies where it is told.

Nothing happens by chance. Each way to a point has two parts: what stands ready, made with the
daemon alive, and what then happens in the world, whether the daemon lives or not.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from lnliquid.domain import htlc
from lnliquid.domain.errors import SwapError
from lnliquid.domain.swap import State
from lnliquid.liquid.keys import RECEIVE
from lnliquid.store.tables import TxState

from . import buyers, foreign, withdrawals
from .actions import fund, watch
from .buyers import Deal, new_deal
from .clockwork import Chance, Crash, SimLoop
from .ground import (
    ASSET,
    DEPOSIT_FEE_SATS,
    LBTC,
    Deposit,
    Held,
    nothing_held,
    open_tx,
    parsed,
)
from .rules import Row
from .truth import Truth
from .world import LogLines, World

SEED = 18
"""Its settings: one confirmation for a funding, two are final, bumped after two blocks."""
LANES = 6
"""So many that two swaps need not share a chain."""
AMOUNT = 20_000
LONG_SECS = 301
"""Whatever was put aside for longest is tried again after this."""
MANY_COINS = 3 * LANES
"""With those that are there more than three times the lanes: then they are merged."""
BLOCK_SECS = 10
"""So short that no invoice expires before its lock height."""


class EvenChance(Chance):
    """Luck that is always the same: no news is lost, nothing waits, no fee estimate is given."""

    def number(self, *name: object) -> float:
        return 0.3


class Town(World):
    """A world with a story's own small verbs, and a place where the daemon dies."""

    def __init__(self, folder: Path, loop: SimLoop, log: LogLines) -> None:
        super().__init__(SEED, folder, loop, log)
        self.settings = self.settings.model_copy(
            update={"max_inflight_swaps": 1_000, "lanes": LANES}
        )
        self.chance = EvenChance(SEED)
        self.quiet = True
        self.dies_at: str | None = None

    # ---- the daemon

    def on_reach(self, point: str) -> None:
        """The daemon is at a crash point. Raises `Crash` at the one where it is to die."""
        if point == self.dies_at and not self.daemon.life.dead:
            self.daemon.life.dead = True
            raise Crash(point)

    async def turn(self) -> None:
        """The daemon does all that it can now; buyers whom it has not answered ask again."""
        await self.watch()
        await self.sell()
        for ordered in self.rules.books.withdrawals.unanswered():
            with contextlib.suppress(SwapError):  # not ready: the operator asks again later
                await withdrawals.send(self, ordered)
        self.daemon.life.require()
        self.check()

    async def pass_due(self, blocks: int) -> None:
        """Let swaps of earlier pairs come to their end that would come to it in so many blocks.

        Their refunds would keep coins from being merged or swept.
        """
        for _ in range(blocks):
            tip = self.ground.chain.tip_height
            if not any(
                tip - self.settings.final_confs <= (row["refund_lock_height"] or 0) <= tip + blocks
                for row in self.rules.rows.values()
                if not row["finished"]
            ):
                return
            self.mine()
            await self.turn()

    async def watch(self) -> None:
        """It looks at everything."""
        self.loop.seconds += LONG_SECS
        self.daemon.chain.resync()
        await self.settle()
        self.daemon.must_reload = True
        await watch(self)

    async def sell(self) -> None:
        """It answers the buyers and funds their swaps."""
        for deal in self.deals.values():
            if deal.swap_id is None:
                await self._ask(deal)
        await fund(self)

    async def _ask(self, deal: Deal) -> None:
        self.daemon.renew_seller()
        try:
            deal.swap_id = (await self.daemon.seller.create_swap(deal.request)).swap_id
        except SwapError:
            return  # not ready: the buyer asks again later

    async def dies(self, point: str, turns: int) -> int | None:
        """Work, a block after each turn, until it dies there. Returns the turn, None if never."""
        self.dies_at = point
        try:
            for turn in range(turns):
                try:
                    await self.turn()
                except Crash:
                    await self.daemon.bury()
                    self._daemon = None
                    return turn
                self.mine()
            return None
        finally:
            self.dies_at = None

    # ---- the chain

    def mine(self, count: int = 1, held: Held = nothing_held) -> None:
        """Blocks, with all of the mempool as a rule."""
        self.ground.mine(count, held, BLOCK_SECS)

    def mine_empty(self, count: int) -> None:
        """Blocks without any of it."""
        self.mine(count, lambda _txid: True)

    def mine_only(self, *txids: str) -> None:
        """A block with these and what they build on, if they are in the mempool."""
        package = self.ground.pool.ancestors([t for t in txids if t in self.ground.pool.entries])
        self.mine(1, lambda other: other not in package)

    def deposit_in_parts(self, parts: int) -> str:
        """The operator pays so many equal coins of each asset into the wallet."""
        asset, lbtc = 600_000 // parts, 240_000 // parts
        script = htlc.p2wpkh_script(
            self.keys.wallet_key(RECEIVE, len(self.ground.deposits)).key_hash
        )
        inputs = (
            self.ground.mint(ASSET, asset * parts),
            self.ground.mint(LBTC, lbtc * parts + DEPOSIT_FEE_SATS),
        )
        outputs = [(ASSET, asset, script), (LBTC, lbtc, script)] * parts
        raw = open_tx(inputs, outputs)
        txid = self.ground.send(raw)
        assert txid is not None
        self.ground.deposits.append(Deposit(txid, asset * parts, lbtc * parts, inputs, raw))
        return txid

    # ---- buyers

    def want(self) -> Deal:
        """One more buyer wants a swap; it asks in the next turn."""
        deal = new_deal(len(self.deals), AMOUNT, 1, careful=True, claims=True)
        self.deals[deal.request.request_id] = deal
        return deal

    def row(self, deal: Deal) -> Row:
        """What is stored of the swap."""
        self.rules.committed()
        return self.rules.rows[deal.swap_id or ""]

    def funding(self, deal: Deal) -> str:
        """The txid of its funding."""
        txid = self.row(deal)["funding_txid"]
        assert txid
        return str(txid)

    def inputs(self, deal: Deal) -> list[tuple[str, int]]:
        """The coins that its funding spends."""
        [own] = self.rules.ask("SELECT raw FROM own_tx WHERE txid = ?", self.funding(deal))
        return [txin.outpoint for txin in parsed(own["raw"]).inputs]

    def forget_spender(self, outpoint: tuple[str, int]) -> None:
        """The network forgets what spends a coin, unless that is in a block."""
        self.ground.forget(self.ground.pool.spenders.get(outpoint, ""))

    async def see(self, deal: Deal) -> None:
        """The buyer looks at its swap."""
        swap, _ = await self.daemon.seller.swap(deal.swap_id or "")
        deal.see(buyers.shown(swap))

    def pay_now(self, deal: Deal) -> None:
        """The buyer pays."""
        height = self.ground.chain.tip_height
        assert buyers.start_payment(deal, self.node, height, 5) == "offered"
        assert self.settle_payment(deal) == "paid"

    def claim(self, deal: Deal) -> None:
        """The buyer claims, unless it has."""
        raw = buyers.claim(deal, self.ground, "both", 200, final=True)
        txid = self.ground.send(raw) if raw else None
        if txid is not None:
            deal.claim_txids.append(txid)

    # ---- the end

    async def finish(self) -> None:
        """Everything comes to its end: claimed if paid, failed without a lock, else refunded."""
        for _ in range(3):
            await self.turn()
            self.mine()
        heights = [row["refund_lock_height"] or 0 for row in self.rules.rows.values()]
        self.mine(max(0, max(heights, default=0) - self.ground.chain.tip_height))
        for _ in range(4):
            await self.turn()
            await self.turn()
            for deal in self.deals.values():
                self.claim(deal)
            self.mine()
        await self.turn()
        truth = Truth(self.rules)
        truth.check()
        truth.owner_is_unique()
        truth.available_can_confirm(self.daemon.available())
        truth.nothing_is_frozen(self.daemon.available())
        abandoned = {
            own["txid"]
            for own in self.rules.ask("SELECT * FROM own_tx")
            if own["state"] == TxState.ABANDONED
        }
        for deal in self.deals.values():
            row = self.row(deal)
            unpaid = State.FAILED if row["funding_txid"] in abandoned else State.REFUNDED
            wanted = State.CLAIMED if deal.paid else unpaid
            assert State(row["state"]) is wanted, f"{deal.name} is {State(row['state']).name}"
            assert row["finished"], f"{deal.name} is not finished"


# ---- ways to the points

Ready = Callable[[Town], Awaitable[Deal | None]]
Event = Callable[[Town, Deal | None], None]


async def nothing(_town: Town) -> None:
    """Nothing needs to stand ready."""


async def funded(town: Town) -> Deal:
    """A swap whose funding was sent and is in no block."""
    deal = town.want()
    await town.sell()
    assert town.ground.find(town.funding(deal)) is not None
    return deal


async def payable(town: Town) -> Deal:
    """A swap that can be paid."""
    deal = await funded(town)
    town.mine_only(town.funding(deal))
    await town.watch()
    await town.see(deal)
    return deal


async def claimed(town: Town) -> Deal:
    """A swap that was paid, and whose claim is in no block."""
    deal = await payable(town)
    paid_and_claimed(town, deal)
    await town.watch()
    return deal


async def bumped(town: Town) -> Deal:
    """A swap whose funding was replaced."""
    deal = await funded(town)
    older = town.funding(deal)
    stuck(town, deal)
    await town.watch()
    assert town.funding(deal) != older
    return deal


async def refunded(town: Town) -> Deal:
    """A swap whose refund is in no block."""
    deal = await payable(town)
    due(town, deal)
    await town.watch()
    await town.watch()
    assert State(town.row(deal)["state"]) is State.REFUNDED
    return deal


def asked(town: Town, _deal: Deal | None) -> None:
    """A buyer asks."""
    town.want()


def confirmed(town: Town, deal: Deal | None) -> None:
    """Its funding gets into a block, alone."""
    assert deal is not None
    town.mine_only(town.funding(deal))


def paid_and_claimed(town: Town, deal: Deal | None) -> None:
    """It is paid and claimed at once."""
    assert deal is not None
    town.pay_now(deal)
    town.claim(deal)


def buried(town: Town, deal: Deal | None) -> None:
    """Its claim gets into a block, alone, and is buried."""
    assert deal is not None
    town.mine_only(deal.claim_txids[-1])
    town.mine_empty(town.settings.final_confs - 1)


def due(town: Town, deal: Deal | None) -> None:
    """Its lock height comes, in empty blocks."""
    assert deal is not None
    town.mine_empty(town.row(deal)["refund_lock_height"] - town.ground.chain.tip_height)


def stuck(town: Town, _deal: Deal | None) -> None:
    """So many empty blocks come that what waits is bumped."""
    town.mine_empty(town.settings.bump_after_blocks)


def older_version(town: Town, deal: Deal | None) -> None:
    """A miner takes the version of its funding that was replaced."""
    assert deal is not None
    [own] = town.rules.ask("SELECT replaces FROM own_tx WHERE txid = ?", town.funding(deal))
    [older] = town.rules.ask("SELECT raw FROM own_tx WHERE txid = ?", own["replaces"])
    assert town.ground.mine_version(older["raw"])


def forgotten(town: Town, deal: Deal | None) -> None:
    """The network forgets its funding."""
    assert deal is not None
    for outpoint in town.inputs(deal):
        town.forget_spender(outpoint)


def swept(town: Town, deal: Deal | None) -> None:
    """Another wallet with the same seed spends a coin of its funding, and that is buried.

    The operator pays in as much again, so that the stock lasts.
    """
    assert deal is not None
    confirmed_first = sorted(town.inputs(deal), key=lambda o: not town.ground.confirmations(o[0]))
    for outpoint in confirmed_first:
        town.forget_spender(outpoint)
        if foreign.sweep(town, outpoint):
            deposit = town.deposit_in_parts(1)
            town.mine_only(town.ground.pool.spenders[outpoint], deposit)
            town.mine_empty(town.settings.final_confs - 1)
            return
    raise AssertionError("no coin of it can be swept")


def withdrawn(town: Town, _deal: Deal | None) -> None:
    """The operator takes coins out."""
    town.rules.books.withdrawals.order(LBTC, 1_000)


def many_coins(town: Town, _deal: Deal | None) -> None:
    """The operator pays in many small coins, and they are buried."""
    town.deposit_in_parts(MANY_COINS)
    town.mine(town.settings.final_confs)


@dataclass(frozen=True)
class Way:
    """How the daemon is led to a point."""

    ready: Ready
    event: Event


ASK = Way(nothing, asked)
CONFIRM = Way(funded, confirmed)
PAY = Way(payable, paid_and_claimed)
BURY = Way(claimed, buried)
DUE = Way(payable, due)
STUCK_FUNDING = Way(funded, stuck)
STUCK_REFUND = Way(refunded, stuck)
OLDER = Way(bumped, older_version)
FORGET = Way(funded, forgotten)
SWEEP = Way(funded, swept)
MERGE = Way(nothing, many_coins)
WITHDRAW = Way(nothing, withdrawn)

WAYS = {
    "commit.ready": ASK,
    "commit.stored": ASK,
    "commit.copied": ASK,
    "create.checked": ASK,
    "create.reserved": ASK,
    "fund.planned": ASK,
    "fund.stored": ASK,
    "fund.sent": ASK,
    "lanes.planned": MERGE,
    "lanes.stored": MERGE,
    "lanes.sent": MERGE,
    "watch.read": CONFIRM,
    "watch.saved": CONFIRM,
    "invoice.made": CONFIRM,
    "invoice.stored": CONFIRM,
    "claim.saved": PAY,
    "finish.saved": BURY,
    "invoice.dropped": DUE,
    "refund.planned": DUE,
    "refund.stored": DUE,
    "refund.sent": DUE,
    "withdraw.planned": WITHDRAW,
    "withdraw.stored": WITHDRAW,
    "withdraw.sent": WITHDRAW,
    "bump.planned": STUCK_FUNDING,
    "bump.stored": STUCK_FUNDING,
    "bump.sent": STUCK_FUNDING,
    "own_tx.settled": OLDER,
    "own_tx.resent": FORGET,
    "own_tx.abandoned": SWEEP,
}
"""How each point is reached first."""
SECOND_WAYS = WAYS | {p: STUCK_REFUND for p in WAYS if p.startswith("bump.")}
"""And how after a first death: bumps of a funding come first, those of a refund second."""
