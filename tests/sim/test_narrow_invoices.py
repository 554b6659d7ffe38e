"""Stories of an invoice that a call which timed out left behind (money rules 3 and 4)."""

import pytest

from lnliquid.domain.swap import InvoiceMark, State

from .buyers import Deal
from .test_narrow import look, play, row_of, to_lock_height, until_funded
from .world import World


def can_be_paid(world: World, deal: Deal) -> bool:
    """True when a payment of this swap's hash would be taken."""
    return world.node.accepts(row_of(world, deal)["payment_hash"]) is not None


async def new_blocks(world: World, count: int = 1) -> None:
    """Mine, and let the daemon see it."""
    world.ground.mine(count, secs=10)
    world.daemon.chain.resync()
    await look(world)
    await look(world)


async def unlock(world: World) -> None:
    """A reorg that leaves the funding out, seen by the daemon."""
    world.ground.reorg(3, 1, lambda _txid: True, lambda _gone: None)
    world.daemon.chain.resync()
    await look(world)


@pytest.mark.parametrize("dies", [False, True], ids=["lives on", "restarts"])
def test_a_deletion_that_hung_in_a_reorg_leaves_no_hidden_invoice(dies: bool) -> None:
    """The swap is FUNDED again before Lightning answers: what can be paid is shown, or is gone."""

    async def story(world: World, deal: Deal) -> None:
        await until_funded(world, deal)
        world.node.hung = True
        await unlock(world)
        assert row_of(world, deal)["state"] == State.CREATED
        assert row_of(world, deal)["invoice_mark"] == InvoiceMark.CLOSED
        if dies:
            await world.crash()
        await new_blocks(world, 4)
        assert row_of(world, deal)["state"] == State.FUNDED
        world.node.restart()
        await new_blocks(world)
        row = row_of(world, deal)
        assert row["invoice_mark"] == InvoiceMark.ASKED, "made again, and shown"
        assert can_be_paid(world, deal)

    play(story)


def make_late(world: World, deal: Deal) -> None:
    """What a call of the daemon that hung does when the node gets to it."""
    swap_id = deal.swap_id or ""
    payload = {
        "label": swap_id,
        "amount_msat": row_of(world, deal)["total_price_msat"],
        "preimage": world.keys.preimage(row_of(world, deal)["key_index"], swap_id).hex(),
        "description": "late",
        "expiry": 3_600,
    }
    world.node.invoice(payload)
    assert can_be_paid(world, deal)


@pytest.mark.parametrize("hangs", [False, True], ids=["answers", "hangs"])
@pytest.mark.parametrize("dies", [False, True], ids=["lives on", "restarts"])
def test_no_refunded_swap_is_final_while_its_invoice_can_be_paid(dies: bool, hangs: bool) -> None:
    """Made between the refund and its burial, it is deleted, and until then the swap is watched."""

    async def story(world: World, deal: Deal) -> None:
        await new_blocks(world, 3)  # the buyer never looks, so that no payment can come
        to_lock_height(world, deal)
        await new_blocks(world)
        await new_blocks(world)
        assert row_of(world, deal)["state"] == State.REFUNDED
        make_late(world, deal)
        world.node.hung = hangs
        if dies:
            await world.crash()
        if hangs:
            await new_blocks(world, world.settings.final_confs)
            assert not row_of(world, deal)["finished"], "nobody knows what became of the invoice"
            world.node.restart()
        await new_blocks(world)
        assert not can_be_paid(world, deal)
        await new_blocks(world, world.settings.final_confs)
        assert row_of(world, deal)["finished"]

    play(story)
