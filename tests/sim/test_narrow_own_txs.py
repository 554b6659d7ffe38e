"""Single stories of our own transactions, in the manner of `test_narrow`."""

import pytest

from lnliquid.domain.swap import State
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store.tables import Purpose, TxState

from .actions import fund
from .buyers import Deal, new_deal
from .test_narrow import look, play, row_of
from .world import World


async def blocks(world: World, count: int) -> None:
    """So many blocks, all of them heard of, one after the other."""
    for _ in range(count):
        world.ground.mine(1)
        world.daemon.chain.resync()
        await look(world)
        await look(world)


def states(world: World) -> list[TxState]:
    """Of our transactions, in the order in which they were signed."""
    query = "SELECT state FROM own_tx WHERE purpose != ? ORDER BY rowid"
    return [TxState(r["state"]) for r in world.rules.ask(query, int(Purpose.DEPOSIT))]


def output_scripts(world: World, deal: Deal) -> list[bytes]:
    """The scripts that the funding of a swap pays to, but the fee."""
    found = world.ground.find(row_of(world, deal)["funding_txid"])
    assert found is not None
    return [o.script_pubkey for o in parse_transaction(found[0].raw).outputs if not o.is_fee]


async def order(world: World, number: int) -> Deal:
    """One more buyer asks for a swap."""
    deal = new_deal(number, 20_000, 1, careful=True, claims=True)
    world.deals[deal.request.request_id] = deal
    deal.swap_id = (await world.daemon.seller.create_swap(deal.request)).swap_id
    return deal


def test_a_confirmed_funding_that_cannot_be_read_is_not_replaced() -> None:
    """Every script of it was flooded; the swaps would point to what never comes to be."""

    async def story(world: World, deal: Deal) -> None:
        world.server.refused.update(output_scripts(world, deal))
        await blocks(world, world.settings.bump_after_blocks + 3)
        assert states(world) == [TxState.ACCEPTED]
        world.server.refused.clear()
        await blocks(world, 1)
        assert states(world) == [TxState.CONFIRMED]
        assert row_of(world, deal)["state"] == State.FUNDED

    play(story)


@pytest.mark.parametrize("flooded", [{0, 1}, {0, 1, 4, 5}])
def test_a_flooded_script_holds_up_its_own_swap_only(flooded: set[int]) -> None:
    """The other swap of that funding becomes payable, also when the change is flooded too."""

    async def story(world: World, _deal: Deal) -> None:
        flooder, other = await order(world, 1), await order(world, 2)
        await fund(world)
        await look(world)
        scripts = output_scripts(world, other)  # a pair for each swap, change of each asset
        assert len(scripts) == 6
        world.server.refused.update(scripts[n] for n in flooded)
        await blocks(world, world.settings.bump_after_blocks + 3)
        assert states(world) == [TxState.CONFIRMED] * 2
        assert row_of(world, flooder)["state"] == State.CREATED
        assert row_of(world, other)["state"] == State.FUNDED
        assert row_of(world, other)["bolt11"] is not None

    play(story)
