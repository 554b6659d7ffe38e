"""`lnliquid top`: what it shows of a real operator's listener, its keys, and a daemon that goes."""

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from lnliquid.cli.top.app import Closable, Top
from lnliquid.cli.top.feed import Feed
from lnliquid.cli.top.panels import rounded
from lnliquid.cli.top.swaps import SwapsTable
from lnliquid.domain.swap import State
from lnliquid.grpc_client import NoAnswer
from lnliquid.watchers import chain_incidents

from ..builders import uuid_of
from ..seller_world import SellerWorld, until

SIZES = [(80, 24), (120, 40)]


@pytest.fixture
async def world(world: SellerWorld) -> SellerWorld:
    """With four swaps."""
    await world.sell(1)
    await world.pay_late(await world.sell(2))
    await world.sell(3)
    await world.reserve(4)
    return world


def shown(app: Top, name: str) -> str:
    """The text of a panel as it is on the screen."""
    panel = app.screen_stack[0].query_one(f"#{name}", Static)
    lines = panel.render_lines(panel.outer_size.region)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def rows(app: Top) -> list[str]:
    """Ids in the table of swaps, from top to bottom."""
    table = app.screen_stack[0].query_one(SwapsTable)
    return [str(row.key.value) for row in table.ordered_rows]


async def filled(app: Top) -> None:
    """Wait until the daemon's first answer is on the screen."""
    await until(lambda: bool(rows(app)), "the swaps are shown")


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_everything_is_on_one_screen(world: SellerWorld, size: tuple[int, int]) -> None:
    """Alarm, counts, nodes, lanes, swaps, events and deadlines, at 80x24 too."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test(size=size) as pilot:
        await filled(app)
        await pilot.pause()
        assert "1 PAID, NOT CLAIMED" in shown(app, "headline")
        assert "block 100" in shown(app, "headline")
        assert "created 1" in shown(app, "counts")
        assert "funded 3" in shown(app, "counts")
        assert "● electrum" in shown(app, "backends")
        assert "● lightning" in shown(app, "backends")
        assert "L-BTC" in shown(app, "inventory")
        assert "lanes" in shown(app, "inventory")
        assert "CREATED" in shown(app, "events")
        assert "the buyer pays" in shown(app, "deadlines")
        assert len(rows(app)) == 4
        for name in ("headline", "counts", "backends", "inventory", "events", "deadlines", "swaps"):
            region = app.query_one(f"#{name}").region
            assert region.height >= 1, name
            assert region.right <= size[0], name
            assert region.bottom <= size[1], name


async def test_what_happens_is_shown_without_a_key(world: SellerWorld) -> None:
    """A new swap comes in on top, its event too, and the cursor stays on its swap."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        await pilot.press("down")
        table = app.query_one(SwapsTable)
        selected = table.selected_swap()
        assert selected == rows(app)[1]
        new = await world.reserve(9)
        await until(lambda: rows(app)[0] == new.swap_id, "the new swap is on top")
        assert table.selected_swap() == selected
        assert new.swap_id[:8] in shown(app, "events")


async def test_the_filter_goes_round(world: SellerWorld) -> None:
    """All, unfinished, those that need the operator, and each state."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        counted = []
        for _ in range(8):
            counted.append(len(rows(app)))
            await pilot.press("f")
        #                 all, unfinished, need you, CREATED, FUNDED, CLAIMED, REFUNDED, FAILED
        assert counted == [4, 4, 1, 1, 3, 0, 0, 0]
        assert len(rows(app)) == 4


async def test_the_order_goes_round(world: SellerWorld) -> None:
    """Newest, next deadline, by state, largest."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        orders = []
        for _ in range(4):
            orders.append([int(row[-2:]) for row in rows(app)])
            await pilot.press("s")
        assert orders == [[4, 3, 2, 1], [1, 3, 4, 2], [4, 3, 2, 1], [4, 3, 2, 1]]
        await world.reserve(0)  # the smallest, and the newest
        await pilot.press("s", "s", "s")
        await until(lambda: len(rows(app)) == 5, "the new swap is shown")
        assert [int(row[-2:]) for row in rows(app)] == [4, 3, 2, 1, 0]


async def test_a_look_after_hanging_up_is_no_fault(world: SellerWorld) -> None:
    """The view was quit while it looked."""
    feed = Feed(world.address)
    await feed.close()
    for look in (feed.snapshot(), feed.inspect(uuid_of(1))):
        with pytest.raises(NoAnswer, match="closed"):
            await look


async def test_a_swap_is_found_by_a_part_of_its_id(world: SellerWorld) -> None:
    """As it is typed; Enter keeps it, Esc shows all again."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        wanted = next(row for row in rows(app) if row.endswith("3"))
        await pilot.press("slash", *"8000-000000000003")
        await until(lambda: rows(app) == [wanted], "only that one is shown")
        await pilot.press("enter")
        assert rows(app) == [wanted]
        await pilot.press("escape")
        await until(lambda: len(rows(app)) == 4, "all are shown again")


async def test_enter_shows_a_swap_whole_and_escape_closes_it(world: SellerWorld) -> None:
    """With what happened, what is awaited, by which block and who acts."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test(size=(100, 40)) as pilot:
        await filled(app)
        await pilot.press("down", "enter")
        await until(lambda: isinstance(app.screen, Closable), "the swap is shown")
        await pilot.pause()
        box = app.screen.query_one("#content", Static)
        lines = box.render_lines(box.outer_size.region)
        text = "\n".join("".join(s.text for s in line) for line in lines)
        assert rows(app)[1] in text
        assert "inventory reserved" in text
        assert "the buyer pays" in text
        assert "who acts" in text
        await pilot.press("escape")
        assert not isinstance(app.screen, Closable)


async def test_a_daemon_that_goes_is_said_and_one_that_comes_back_is_shown(
    world: SellerWorld,
) -> None:
    """The view stays open with what it had, dimmed, and goes on by itself."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        away = app.query_one("#away", Static)
        assert not away.display
        await world.shut()
        await until(lambda: "no daemon answers at" in shown(app, "away"), "it says that it is away")
        assert len(rows(app)) == 4
        swap = await world.reserve(7)  # happens while nobody can be asked
        await pilot.press("f", "s", "down")  # the keys go on working
        await world.open()
        await until(lambda: not away.display, "the daemon is back")
        assert swap.swap_id in rows(app)


async def test_a_daemon_that_was_never_there_is_waited_for(world: SellerWorld) -> None:
    """Opened before the daemon, it says so, and fills when it comes."""
    await world.shut()
    app = Top(world.address, every_secs=0.1)
    async with app.run_test():
        await until(lambda: app.query_one("#away").display, "it is said that there is none")
        assert rows(app) == []
        await world.open()
        await filled(app)
        assert not app.query_one("#away").display


async def test_nodes_that_are_down_are_named(world: SellerWorld) -> None:
    """Red, with the breaker's reason; the rest goes on."""
    world.break_nodes()
    app = Top(world.address, every_secs=0.1)
    async with app.run_test():
        await filled(app)
        assert "chain not reachable" in shown(app, "headline")
        assert "NOT READY" in shown(app, "headline")
        assert "the Liquid backend cannot be reached" in shown(app, "backends")
        assert len(rows(app)) == 4


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_chain_incident_is_told_with_its_reason(
    world: SellerWorld, is_paused: bool
) -> None:
    """Whether the operator has paused sales besides or not."""
    await world.operator.set_paused(is_paused)
    await world.database.write(lambda s: chain_incidents.pause(s, 55, 3))
    app = Top(world.address, every_secs=0.1)
    async with app.run_test(size=(160, 40)):
        await filled(app)
        assert "chain incident: blocks from height 55 were replaced" in shown(app, "headline")


async def test_help_and_quit(world: SellerWorld) -> None:
    """? explains the keys; q closes first the help, then the view."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        await pilot.press("question_mark")
        assert isinstance(app.screen, Closable)
        await pilot.press("q")
        assert not isinstance(app.screen, Closable)
        await pilot.press("q")
        await quit_done(app, pilot)
    assert app.return_code == 0


async def quit_done(app: Top, pilot: Pilot[None]) -> None:
    """Wait until the view has ended."""
    await until(lambda: not app.is_running, "the view ends")


async def test_final_swaps_are_left_out_of_the_unfinished(world: SellerWorld) -> None:
    """A swap that becomes final leaves that selection by itself."""
    app = Top(world.address, every_secs=0.1)
    async with app.run_test() as pilot:
        await filled(app)
        await pilot.press("f")
        waiting = next(row for row in rows(app) if row.endswith("4"))
        swap, _ = await world.seller.swap(waiting)
        await world.change(swap, cause="the inventory is gone", state=State.FAILED, finished=True)
        await until(lambda: waiting not in rows(app), "the failed swap has left")
        assert len(rows(app)) == 3


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0"),
        (1, "<.00001"),
        (1_120, "0.00001"),
        (99_999_994_800, "1,000"),
        (123456789, "1.23"),
    ],
)
def test_a_narrow_amount_is_read_without_exponents(amount: int, shown: str) -> None:
    """Seven characters at most below a thousand; a whole number keeps its zeros."""
    assert rounded(amount, 8) == shown
