"""A simulation: a world, a seed, and so many steps; at the end all must come to a good end."""

import contextlib
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lnliquid.swap import State

from . import buyers
from .actions import WEIGHTS, Action, fund, watch
from .clockwork import Crash, SimLoop, Violation
from .rules import Row
from .truth import Truth
from .world import World, captured_log

CRASHES = 0.05
"""How likely the daemon dies somewhere within a step of its own work."""
OWN_WORK = ("watch", "fund", "busy", "create", "repeat", "poll")
REST_EVERY = 80
"""Steps between two rests, at which the store must agree with the world."""
MAX_TURNS = 40
END_STEPS = 10**6
"""Steps from here on are the end's, so that a longer run begins like a shorter one."""


class Failed(AssertionError):
    """A simulation found something wrong; the text tells how to see it again."""


@dataclass(frozen=True)
class Result:
    """What a simulation did. `digest` is equal for equal runs."""

    steps: int
    counts: Counter[str]
    swaps: Counter[str]
    digest: int
    trace: list[str]


def simulate(seed: int, steps: int) -> Result:
    """Run one simulation in a fresh folder and event loop. Raises `Failed`."""
    with _folder() as folder, captured_log() as log:
        loop = SimLoop()
        try:
            return loop.run_until_complete(_run(World(seed, folder, loop, log), steps))
        finally:
            loop.close()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory, where the system has one: syncing to a disk is not what is tested."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="sim-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def _run(world: World, steps: int) -> Result:
    step = 0
    try:
        world.start()
        world.deposit(400_000, 60_000)
        world.deposit(350_000, 45_000)
        world.ground.mine(2)
        for step in range(steps):
            world.begin_step(step)
            await _step(world, step)
            if step % REST_EVERY == REST_EVERY - 1:
                await rest(world)
        await _end(world)
        swaps = Counter(State(row["state"]).name for row in world.rules.rows.values())
        for row in world.rules.rows.values():
            swaps["paid and not claimed"] += row["paid_unclaimed"]
        return Result(steps, world.counts, swaps, hash_of(world.trace), world.trace)
    except Exception as error:
        raise Failed(_report(world, step, steps, error)) from error
    finally:
        await world.close()


def hash_of(trace: list[str]) -> int:
    """A number that two runs share when they did the same."""
    return zlib.crc32("\n".join(trace).encode())


def _report(world: World, step: int, steps: int, error: Exception) -> str:
    lines = [
        *world.trace,
        "",
        "last log lines:",
        *world.log.recent,
        "",
        *Truth(world.rules).survey(),
    ]
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"seed {world.seed}, step {step}: {type(error).__name__}: {error}",
            f"replay: python -m tests.sim --seed {world.seed} --steps {steps}",
        ]
    )


async def _step(world: World, step: int) -> None:
    action = _choose(world)
    name = action.__name__
    world.counts[name] += 1
    if name in OWN_WORK and world.chance.happens(CRASHES, "dies"):
        world.daemon.life.dies_in = world.chance.below(14, "dies in")
    at = len(world.trace)
    try:
        outcome = await action(world)
        await world.settle()
        world.daemon.life.require()
    except Crash as death:
        outcome = f"the daemon dies at {death}"
        world.counts["death"] += 1
        await world.crash()
    world.daemon.life.dies_in = None
    world.trace.insert(at, f"{step}: {name} {outcome}")
    world.check()


def _choose(world: World) -> Action:
    [action] = world.rng.choices([*WEIGHTS], [*WEIGHTS.values()])
    return action


async def rest(world: World) -> None:
    """Lift every fault and let the daemon work until nothing changes; then compare (rule 5)."""
    world.note("    rest")
    world.quiet = True
    world.server.heal()
    world.node.trouble = 0.0
    world.node.wake()
    world.disk.full = False
    world.clock.offset_secs = 0
    world.ground.send_deposits_again()
    await world.daemon.operator.set_paused(False)  # a chain incident paused sales, perhaps
    calm = 0
    for turn in range(MAX_TURNS):
        world.chance.begin(-1 - turn)
        world.loop.seconds += 301  # whatever was put aside is tried again
        world.daemon.chain.deliver_late()
        world.daemon.chain.resync()
        world.node.paid.set()
        await world.settle()
        stamp = world.rules.stamp()
        world.daemon.must_reload = True
        await fund(world)
        await watch(world)
        await world.settle()
        world.check()
        calm = calm + 1 if world.rules.stamp() == stamp else 0
        if calm == 2:
            break
    else:
        raise Violation(10, "the daemon does not come to rest though nothing happens any more")
    truth = Truth(world.rules)
    truth.check()
    truth.owner_is_unique()
    world.quiet = False


async def _end(world: World) -> None:
    """No more faults: every swap must end well (rule 10), and a fresh start must agree (rule 5)."""
    for turn in range(MAX_TURNS):
        world.begin_step(END_STEPS + turn)
        await rest(world)
        waiting = [row for row in world.rules.rows.values() if not _has_ended(row)]
        if not waiting:
            break
        for deal in world.deals.values():
            if deal.holding_until is not None:
                world.settle_payment(deal)
            raw = buyers.claim(deal, world.ground, "both", 200, final=True)
            if raw and deal.claims:
                world.ground.send(raw)
        world.ground.mine(1 + turn // 4)
        world.check()
    else:
        left = [(r["key_index"], State(r["state"]).name, r["invoice_mark"]) for r in waiting]
        raise Violation(10, f"swaps that never end (index, state, invoice mark): {left}")
    before = {i: _essence(row) for i, row in world.rules.rows.items()}
    await world.crash()
    await rest(world)
    after = {i: _essence(row) for i, row in world.rules.rows.items()}
    if before != after:
        raise Violation(5, f"a fresh start says otherwise: {before} became {after}")


def _has_ended(row: Row) -> bool:
    """Final, or paid and not claimed: then it is for the operator."""
    return bool(row["finished"] or row["paid_unclaimed"])


def _essence(row: Row) -> tuple[object, ...]:
    keys = ("state", "finished", "funding_txid", "spend_txid", "paid_unclaimed", "invoice_mark")
    return tuple(row[key] for key in keys)
