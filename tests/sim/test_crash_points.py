"""Each crash point, and then each in the recovery from it, by table.

One world for each first point: for each second one the daemon dies at the first, the world goes on
without it, it is started on what the disk holds, dies at the second, and is started again. The
money rules are checked at every commit, broadcast and turn; in the end every swap has ended.
"""

import os

import pytest

from lnliquid import crashpoints
from lnliquid.crashpoints import POINTS

from .clockwork import SimLoop
from .simulation import folder_in_memory
from .town import ASK, DUE, FORGET, LANES, MERGE, OLDER, SECOND_WAYS, WAYS, Town
from .world import captured_log

EVERY_PAIR = "LNLIQUID_EVERY_CRASH_PAIR"
"""Set, each point is followed by each: seven minutes of processor time, and not half of that."""
TURNS = 6
"""At most so many until a point is reached: lanes wait until nothing is unconfirmed."""


def test_every_point_has_a_way() -> None:
    """A new point needs its row in the table."""
    assert tuple(WAYS) == POINTS


@pytest.mark.parametrize("first", POINTS)
def test_killed_at_and_again_in_recovery(first: str) -> None:
    """The daemon dies at this point, and in the recovery from it at each point."""
    with folder_in_memory() as folder, captured_log() as log:
        loop = SimLoop()
        try:
            town = Town(folder, loop, log)
            with crashpoints.observed(town.on_reach):
                turns = loop.run_until_complete(_play(town, first))
        except BaseException as error:
            error.add_note("\n".join([*town.trace, *log.recent]))
            raise
        finally:
            loop.close()
    assert turns.keys() == {*_seconds(first)}


def _seconds(first: str) -> list[str]:
    """The points of the recovery from this one: every other one, all of them by night."""
    if os.environ.get(EVERY_PAIR):
        return [*POINTS]
    return [p for n, p in enumerate(POINTS) if n % 2 == POINTS.index(first) % 2]


async def _play(town: Town, first: str) -> dict[str, int]:
    """For each second point, the turn after the first start in which it was reached."""
    try:
        town.start()
        town.deposit_in_parts(LANES)
        town.mine(town.settings.final_confs)
        await town.turn()
        turns = {second: await _pair(town, first, second) for second in _seconds(first)}
        await town.finish()
        return turns
    finally:
        await town.close()


async def _pair(town: Town, first: str, second: str) -> int:
    way, then = WAYS[first], SECOND_WAYS[second]
    town.note(f"{first}, then {second}")
    if second in ("lanes.planned", "own_tx.abandoned"):
        await town.pass_due(4 * TURNS)
        town.mine(town.settings.final_confs)  # what there is can be merged or swept
        await town.turn()
    # What the way to the first point would undo is made after that death.
    is_ready = then is ASK or (way not in (MERGE, DUE, OLDER) and then not in (FORGET, OLDER))
    later = await then.ready(town) if is_ready else None
    if way is OLDER:  # nothing that it builds on may have versions of its own
        town.mine()
        await town.turn()
    now = await way.ready(town)
    way.event(town, now)
    assert await town.dies(first, TURNS) is not None, f"{first} is not reached"
    if is_ready:
        then.event(town, later)
        town.start()
    else:
        town.start()
        await town.turn()  # it is ready after its first round
        town.mine()
        await town.turn()
        then.event(town, await then.ready(town))
    turn = await town.dies(second, TURNS)
    assert turn is not None, f"{second} is not reached after {first}"
    town.note(f"    in turn {turn}")
    town.start()
    await town.turn()
    town.mine()
    await town.turn()
    return turn
