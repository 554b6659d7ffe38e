"""Single stories in the simulated world, for what random schedules come across too seldom.

Nothing happens in them by chance but what the story says; the money rules are checked throughout.
"""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lnliquid.domain.swap import State
from lnliquid.store.tables import Purpose
from lnliquid.watchers import observe

from . import buyers, foreign
from .actions import fund, watch
from .buyers import Deal, new_deal
from .clockwork import SimLoop
from .rules import Row
from .simulation import rest
from .world import World, captured_log

SEED = 1
TRIES = 20
TEN_YEARS_SECS = 10 * 365 * 86_400
LONG_SECS = 301
"""Whatever was put aside for longest is tried again after this."""

Story = Callable[[World, Deal], Awaitable[None]]


class LateClaim(World):
    """A world in which the buyer's claim can be made to come just before the daemon's next read."""

    claimant: Deal | None = None

    def _chain_meddle(self, method: str) -> None:
        if method == "histories" and self.claimant is not None:
            claimant, self.claimant = self.claimant, None
            raw = buyers.claim(claimant, self.ground, "both", 200, final=True)
            assert raw is not None
            assert self.ground.send(raw) is not None


def play(story: Story, kind: type[World] = World) -> None:
    """Run a story whose swap is created and funded, its funding unconfirmed."""

    async def begin(world: World) -> None:
        await look(world)
        deal = new_deal(0, 20_000, 1, careful=True, claims=True)
        world.deals[deal.request.request_id] = deal
        deal.swap_id = (await world.daemon.seller.create_swap(deal.request)).swap_id
        await fund(world)
        await look(world)
        await story(world, deal)

    play_from_deposit(begin, kind)


def play_from_deposit(story: Callable[[World], Awaitable[None]], kind: type[World]) -> None:
    """Run a story that begins with a deposit that is buried, and not seen yet."""
    with tempfile.TemporaryDirectory() as folder, captured_log() as log:
        loop = SimLoop()
        try:
            loop.run_until_complete(_play(kind(SEED, Path(folder), loop, log), story))
        finally:
            loop.close()


async def _play(world: World, story: Callable[[World], Awaitable[None]]) -> None:
    try:
        world.quiet = True
        world.start()
        world.deposit(400_000, 60_000)
        world.ground.mine(world.settings.final_confs)
        await story(world)
        world.check()
    finally:
        await world.close()


async def look(world: World) -> None:
    """Let the watcher look again by itself, as its slow timer makes it, after a long while."""
    world.loop.seconds += LONG_SECS
    await world.settle()
    world.daemon.must_reload = True
    await watch(world)
    await world.settle()
    world.check()


async def until_funded(world: World, deal: Deal) -> None:
    """Confirm the funding and let the buyer see the invoice."""
    world.ground.mine(3)
    world.daemon.chain.resync()
    await look(world)
    await look(world)
    swap, _ = await world.daemon.seller.swap(deal.swap_id or "")
    deal.see(buyers.shown(swap))


def row_of(world: World, deal: Deal) -> Row:
    """What is stored of the swap."""
    world.rules.committed()
    return world.rules.rows[deal.swap_id or ""]


def everything_held(_txid: str) -> bool:
    """A miner who leaves everything out."""
    return True


def refunds_signed(world: World) -> int:
    """How many refunds are stored."""
    return len(world.rules.ask("SELECT txid FROM own_tx WHERE purpose = ?", int(Purpose.REFUND)))


def to_lock_height(world: World, deal: Deal, early: int = 0) -> None:
    """Mine until a refund is possible, or to so many blocks before that; no invoice expires."""
    height = row_of(world, deal)["refund_lock_height"] - early
    world.ground.mine(max(0, height - world.ground.chain.tip_height), secs=10)


def pay(world: World, deal: Deal) -> None:
    """The buyer pays, and the daemon hears of it."""
    assert buyers.start_payment(deal, world.node, world.ground.chain.tip_height, 5) == "offered"
    assert world.settle_payment(deal) == "paid"


def test_a_block_is_read_although_no_notification_tells_of_it() -> None:
    """A funding's block is found by the tip alone, in a round that a mere notice began."""

    async def story(world: World, deal: Deal) -> None:
        world.server.up = False  # so that the notification of the block is lost
        world.ground.mine(3)
        world.server.up = True
        world.daemon.must_reload = False
        await world.daemon.watch(reload_all=False)
        assert row_of(world, deal)["state"] == State.FUNDED

    play(story)


def test_a_claim_at_the_last_moment_stops_an_ordered_refund() -> None:
    """The gate reads the chain again: what was seen before is not what is, whoever said so."""

    async def story(world: World, deal: Deal) -> None:
        assert isinstance(world, LateClaim)
        await until_funded(world, deal)
        pay(world, deal)
        to_lock_height(world, deal)
        world.daemon.chain.resync()
        await look(world)
        assert row_of(world, deal)["paid_unclaimed"]
        await world.daemon.operator.refund(deal.swap_id or "", "the buyer is gone")
        world.claimant = deal
        await world.daemon.watch(reload_all=False)
        assert world.claimant is None, "the daemon read the chain once more"
        assert refunds_signed(world) == 0
        world.daemon.chain.resync()
        await look(world)
        assert row_of(world, deal)["state"] == State.CLAIMED

    play(story, LateClaim)


def test_a_refund_that_somebody_else_made_is_one() -> None:
    """By its witness, though its txid is in no record: made elsewhere with the same seed."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        to_lock_height(world, deal, early=1)
        await look(world)  # too late to be paid: the invoice is deleted
        world.ground.mine(1)
        assert foreign.refund(world) == "swap 0"
        world.daemon.chain.resync()
        await look(world)
        assert refunds_signed(world) == 0
        assert row_of(world, deal)["state"] == State.REFUNDED

    play(story)


def test_a_swap_is_never_given_up_however_often_it_cannot_be_read() -> None:
    """Put aside again and again, it is refunded as soon as the server gives its script."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        swap, _ = await world.daemon.seller.swap(deal.swap_id or "")
        world.server.refused.add(observe.output_script(swap))
        to_lock_height(world, deal)
        for _ in range(TRIES):
            await look(world)
        assert refunds_signed(world) == 0
        world.server.refused.clear()
        for _ in range(3):
            await look(world)
        assert refunds_signed(world) == 1

    play(story)


def test_an_invoice_is_made_however_often_lightning_refused_to() -> None:
    """A full disk under Lightning, say: each refusal delays the next try, none is the last."""

    async def story(world: World, deal: Deal) -> None:
        world.node.trouble = 1.0
        world.ground.mine(3)
        world.daemon.chain.resync()
        for _ in range(TRIES):
            await look(world)
        assert row_of(world, deal)["bolt11"] is None
        world.node.trouble = 0.0
        for _ in range(3):
            await look(world)
        assert row_of(world, deal)["bolt11"] is not None

    play(story)


def test_a_forgotten_refund_is_sent_again_before_a_block_comes() -> None:
    """It was seen in the mempool under this very tip; the daemon looks again all the same."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        world.ground.mine(row_of(world, deal)["refund_lock_height"])
        world.daemon.chain.resync()
        for _ in range(3):
            await look(world)
        assert row_of(world, deal)["state"] == State.REFUNDED
        [txid] = world.ground.chain.mempool_txids()
        world.ground.forget(txid)
        await rest(world)
        assert world.ground.find(txid) is not None

    play(story)


def test_stored_bytes_are_sent_for_as_long_as_they_do_not_confirm() -> None:
    """The network forgets a funding again and again; each time it gets the same bytes again."""

    async def story(world: World, deal: Deal) -> None:
        txid = row_of(world, deal)["funding_txid"]
        world.ground.mine(1, everything_held)
        for _ in range(TRIES):
            world.ground.forget(txid)
            # Another block as high as the last: no reason for a higher fee.
            world.ground.reorg(1, 0, everything_held, lambda _gone: None)
            await look(world)
            assert world.ground.find(txid) is not None
        await until_funded(world, deal)
        assert row_of(world, deal)["state"] == State.FUNDED

    play(story)


@pytest.mark.parametrize("offset_secs", [TEN_YEARS_SECS, -TEN_YEARS_SECS, 7_200, -7_200])
def test_a_clock_that_jumps_decides_nothing(offset_secs: int) -> None:
    """An open swap stays payable and is not refunded before its height, and is at its height."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        for offset in (offset_secs, 0, offset_secs):
            world.clock.offset_secs = offset
            await look(world)
            assert row_of(world, deal)["state"] == State.FUNDED
            record = world.node.book.with_label(deal.swap_id or "")
            assert record is not None
            assert record.status == "unpaid"
            assert refunds_signed(world) == 0
        to_lock_height(world, deal)
        for _ in range(3):
            await look(world)
        assert refunds_signed(world) == 1
        world.ground.mine(5)
        world.daemon.chain.resync()
        await look(world)
        assert row_of(world, deal)["finished"]

    play(story)


@pytest.mark.parametrize("offset_secs", [TEN_YEARS_SECS, -TEN_YEARS_SECS])
def test_what_was_paid_is_claimed_whatever_the_clock_says(offset_secs: int) -> None:
    """The clock jumps after the payment: neither a refund nor a forgotten payment."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        pay(world, deal)
        world.clock.offset_secs = offset_secs
        to_lock_height(world, deal)
        await look(world)
        assert refunds_signed(world) == 0
        assert row_of(world, deal)["paid_unclaimed"]
        raw = buyers.claim(deal, world.ground, "both", 200, final=True)
        assert raw is not None
        assert world.ground.send(raw) is not None
        world.ground.mine(5)
        world.daemon.chain.resync()
        await look(world)
        assert row_of(world, deal)["state"] == State.CLAIMED
        assert row_of(world, deal)["finished"]

    play(story)
