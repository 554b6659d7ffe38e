"""Single stories of chain incidents (money rule 6), in the manner of `test_narrow`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lnlab.nodes.embedded.txmodel import Tx
from lnliquid.domain.swap import InvoiceMark, State
from lnliquid.store.tables import Purpose

from . import buyers
from .buyers import Deal
from .clockwork import SimLoop
from .ground import nothing_held, parsed
from .simulation import rest
from .test_narrow import look, pay, play, refunds_signed, row_of, to_lock_height, until_funded
from .world import LogLines, World

both_ways = pytest.mark.parametrize("is_down", [False, True], ids=["running", "down"])
"""While the daemon runs, and while it does not."""


class Heard(World):
    """A world that keeps what the log said, and what the daemon sent, by txid."""

    def __init__(self, seed: int, folder: Path, loop: SimLoop, log: LogLines) -> None:
        super().__init__(seed, folder, loop, log)
        self.heard: list[str] = []
        self.sent: list[str] = []

    def check(self) -> None:
        """Every money rule, now."""
        self.heard += self.log.lines
        super().check()

    def _guard(self, check: str, *arguments: Any) -> None:
        if check == "broadcasting":
            self.sent.append(parsed(*arguments).txid)
        super()._guard(check, *arguments)


async def blocks_come(world: World, count: int) -> None:
    """So many blocks, and the daemon hears of them."""
    world.ground.mine(count)
    await hear(world)


async def hear(world: World) -> None:
    """The daemon sees the chain as it is, and acts on what it has seen."""
    for _ in range(3):
        world.daemon.chain.resync()
        await look(world)


async def claimed_for_good(world: World, deal: Deal) -> str:
    """Sell the swap to the end; returns the txid of its claim."""
    await until_funded(world, deal)
    pay(world, deal)
    txid = await claim(world, deal)
    await blocks_come(world, world.settings.final_confs)
    assert row_of(world, deal)["finished"]
    return txid


async def claim(world: World, deal: Deal) -> str:
    """The buyer looks where the outputs are now, and claims both."""
    swap, _ = await world.daemon.seller.swap(deal.swap_id or "")
    deal.see(buyers.shown(swap))
    raw = buyers.claim(deal, world.ground, "both", 200, final=True)
    assert raw is not None
    txid = world.ground.send(raw)
    assert txid is not None
    return txid


async def refunded_for_good(world: World, deal: Deal) -> str:
    """Let the swap end unpaid; returns the txid of its refund."""
    await until_funded(world, deal)
    to_lock_height(world, deal)
    await hear(world)
    await blocks_come(world, world.settings.final_confs)
    row = row_of(world, deal)
    assert row["finished"]
    assert row["state"] == State.REFUNDED
    return str(row["spend_txid"])


async def fork(
    world: World, depth: int, is_down: bool, between: Callable[[list[Tx]], None]
) -> None:
    """So many blocks are replaced by one more; a lost transaction is not resent."""
    if is_down:
        await world.daemon.bury()
    assert world.ground.reorg(depth, 1, nothing_held, between) == depth
    if is_down:
        world.start()
    await hear(world)


def depth_of(world: World, txid: str) -> int:
    """How many blocks must be replaced to take this transaction's."""
    return world.ground.confirmations(txid)


async def problem(world: World) -> str | None:
    """Why the daemon takes no new swap, asked afresh."""
    world.daemon.renew_seller()
    return await world.daemon.readiness.problem()


async def require_incident(world: World, deal: Deal, height: int) -> None:
    """Sales stop with a reason; the swap is named in the log, the event log and the outlook."""
    said = f"blocks from height {height} were replaced"
    reason = f"paused after a chain incident: {said}, 1 finished swap reopened"
    assert await problem(world) == reason
    swap, events = await world.daemon.seller.swap(deal.swap_id or "")
    assert [e.cause for e in events if e.cause.startswith("reopened")] == [f"reopened: {said}"]
    assert isinstance(world, Heard)
    assert [line for line in world.heard if swap.swap_id in line and '"error"' in line]


@both_ways
@pytest.mark.parametrize("deeper", [0, 1, 20])
def test_a_final_claim_that_vanished_is_reopened(is_down: bool, deeper: int) -> None:
    """It is FUNDED, paid and not final again, never refunded; sales stop until they are resumed."""

    async def story(world: World, deal: Deal) -> None:
        gone = await claimed_for_good(world, deal)
        await blocks_come(world, deeper)
        depth = depth_of(world, gone)
        height = world.ground.chain.tip_height - depth + 1
        await fork(world, depth, is_down, lambda _: world.ground.forget(gone))
        row = row_of(world, deal)
        assert (row["state"], row["finished"]) == (State.FUNDED, 0)
        assert row["invoice_mark"] == InvoiceMark.PAID
        await require_incident(world, deal, height)
        to_lock_height(world, deal)
        await hear(world)
        assert row_of(world, deal)["paid_unclaimed"]
        assert refunds_signed(world) == 0
        await claim(world, deal)
        await blocks_come(world, world.settings.final_confs)
        row = row_of(world, deal)
        assert (row["state"], row["finished"]) == (State.CLAIMED, 1)
        await world.crash()
        await hear(world)
        assert "chain incident" in (await problem(world) or ""), "lifted by a restart"
        await world.daemon.operator.set_paused(True)
        assert "chain incident" in (await problem(world) or ""), "hidden by the operator's pause"
        await world.daemon.operator.set_paused(False)
        assert await problem(world) is None
        await rest(world)

    play(story, Heard)


@both_ways
def test_a_final_refund_that_vanished_is_sent_again(is_down: bool) -> None:
    """The same bytes, however deep the fork, and no other refund is signed."""

    async def story(world: World, deal: Deal) -> None:
        gone = await refunded_for_good(world, deal)
        await blocks_come(world, 20)  # deeper than what is looked at again by itself
        depth = depth_of(world, gone)
        height = world.ground.chain.tip_height - depth + 1
        assert isinstance(world, Heard)
        world.sent.clear()
        await fork(world, depth, is_down, lambda _: world.ground.forget(gone))
        assert world.sent[0] == gone
        refunds = world.rules.ask(
            "SELECT replaces FROM own_tx WHERE purpose = ?", int(Purpose.REFUND)
        )
        assert [r["replaces"] for r in refunds].count(None) == 1, "any other is a replacement"
        await require_incident(world, deal, height)
        await blocks_come(world, world.settings.final_confs + 1)
        row = row_of(world, deal)
        assert (row["state"], row["finished"]) == (State.REFUNDED, 1)
        await rest(world)

    play(story, Heard)


@both_ways
def test_a_funding_that_vanished_under_a_final_swap_is_sent_again(is_down: bool) -> None:
    """Funding and claim are gone, from chain and mempool: CREATED, and all of it comes back."""

    async def story(world: World, deal: Deal) -> None:
        gone = await claimed_for_good(world, deal)
        await blocks_come(world, 20)
        funding = row_of(world, deal)["funding_txid"]
        depth = depth_of(world, funding)
        assert isinstance(world, Heard)
        world.sent.clear()
        await fork(world, depth, is_down, lambda _: world.ground.forget(funding))
        assert row_of(world, deal)["state"] == State.CREATED
        assert world.sent[0] == funding
        assert world.ground.find(gone) is None
        assert "chain incident" in (await problem(world) or "")
        await blocks_come(world, 3)
        await claim(world, deal)
        await blocks_come(world, world.settings.final_confs)
        row = row_of(world, deal)
        assert (row["state"], row["finished"]) == (State.CLAIMED, 1)
        await rest(world)

    play(story, Heard)


@both_ways
def test_what_the_new_chain_has_too_becomes_final_again(is_down: bool) -> None:
    """The same claim in another block: reopened all the same, and final by itself."""

    async def story(world: World, deal: Deal) -> None:
        await claimed_for_good(world, deal)
        await fork(world, world.settings.final_confs, is_down, lambda _: None)
        assert "1 finished swap reopened" in (await problem(world) or "")
        await blocks_come(world, world.settings.final_confs)
        assert row_of(world, deal)["finished"]
        _, events = await world.daemon.seller.swap(deal.swap_id or "")
        told = [e.cause for e in events if e.from_state is e.to_state]
        assert [cause.partition(":")[0] for cause in told] == [
            "claim final",
            "reopened",
            "claim final",
        ]
        await rest(world)

    play(story, Heard)


@both_ways
def test_a_fork_above_what_is_final_is_no_incident(is_down: bool) -> None:
    """One block short of the claim's: nothing is reopened and sales go on."""

    async def story(world: World, deal: Deal) -> None:
        gone = await claimed_for_good(world, deal)
        await blocks_come(world, 20)
        await fork(world, depth_of(world, gone) - 1, is_down, lambda _: None)
        assert row_of(world, deal)["finished"]
        assert await problem(world) is None
        await rest(world)

    play(story, Heard)


@both_ways
def test_a_deep_fork_takes_the_wallets_coins(is_down: bool) -> None:
    """A deposit that was spent long ago vanishes: what was made of it counts no more."""

    async def story(world: World, deal: Deal) -> None:
        await claimed_for_good(world, deal)
        await blocks_come(world, 30)
        [deposit] = world.ground.deposits
        depth = depth_of(world, deposit.txid)
        await fork(world, depth, is_down, lambda _: world.ground.forget(deposit.txid))
        assert "chain incident" in (await problem(world) or "")
        assert deposit.txid not in {o.txid for o in world.daemon.available()}
        assert world.ground.find(deposit.txid) is not None, "the daemon kept it and sends it again"
        await rest(world)
        await blocks_come(world, 3)
        assert row_of(world, deal)["state"] == State.FUNDED
        await rest(world)

    play(story, Heard)


@both_ways
def test_a_fork_below_everything_remembered_has_all_that_is_final_looked_at(is_down: bool) -> None:
    """Where it forked cannot be told, so everything final is reopened, and the reason says so."""

    async def story(world: World, deal: Deal) -> None:
        gone = await claimed_for_good(world, deal)
        tip = world.ground.chain.tip_height
        world.rules.store.execute("DELETE FROM block WHERE height < ?", (tip,))
        world.rules.store.commit()
        depth = depth_of(world, gone)
        await fork(world, depth, is_down, lambda _: world.ground.forget(gone))
        assert row_of(world, deal)["state"] == State.FUNDED
        reason = "more blocks than the daemon remembers were replaced, 1 finished swap reopened"
        assert reason in (await problem(world) or "")
        await rest(world)

    play(story, Heard)
