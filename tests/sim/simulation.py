"""A simulation: a world, a seed, and so many steps; at the end all must come to a good end."""

import contextlib
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnliquid.domain.swap import State

from . import buyers
from .actions import WEIGHTS, Action, fund, watch
from .clockwork import HEALTH, Crash, SimLoop, Violation
from .coverage import Cell
from .rules import Row
from .truth import Truth
from .world import World, captured_log

CRASHES = 0.05
"""How likely the daemon dies somewhere within a step of its own work."""
OWN_WORK = ("watch", "fund", "busy", "create", "repeat", "poll", "withdraw")
REST_EVERY = 80
"""Steps between two rests, at which the store must agree with the world."""
MAX_TURNS = 40
QUIET_BLOCKS = (1, 1, 1, 1, 1, 1, 5, 10, 20, 40, 60, 56, 1, 1, 1)
"""Blocks between two rests: 200 in all. The last ones confirm what was signed at the rests."""
END_STEPS = 10**6
"""Steps from here on are the end's, so that a longer run begins like a shorter one."""


class Failed(AssertionError):
    """A simulation found something wrong; the text tells how to see it again.

    `kind` is the same for failures of one sort. `played` are the steps that were taken; `at_end`
    when it was found after them.
    """

    def __init__(
        self, text: str, seed: int, steps: int, kind: str, played: Sequence[int], at_end: bool
    ) -> None:
        super().__init__(text, seed, steps, kind, played, at_end)  # so that it can be pickled
        self.seed = seed
        self.steps = steps
        self.kind = kind
        self.played = played
        self.at_end = at_end

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Result:
    """What a simulation did. `digest` is equal for equal runs."""

    steps: int
    counts: Counter[str]
    swaps: Counter[str]
    digest: int
    trace: list[str]
    cells: Counter[Cell]


def simulate(
    seed: int, steps: int, only: frozenset[int] | None = None, *, with_end: bool = True
) -> Result:
    """Run one simulation in a fresh folder and event loop, or `only` these steps of it.

    `with_end`: bring everything to its end after them, as every test does.
    Raises `Failed`.
    """
    with folder_in_memory() as folder, captured_log() as log:
        loop = SimLoop()
        try:
            return loop.run_until_complete(
                _run(World(seed, folder, loop, log), steps, only, with_end)
            )
        finally:
            loop.close()


@contextlib.contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder in memory, where the system has one: syncing to a disk is not what is tested."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="sim-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def _run(world: World, steps: int, only: frozenset[int] | None, with_end: bool) -> Result:
    step = 0
    played: list[int] = []
    at_end = False
    try:
        world.start()
        world.deposit(400_000, 60_000)
        world.deposit(350_000, 45_000)
        world.ground.mine(world.settings.final_confs)
        for step in range(steps) if only is None else sorted(only):
            played.append(step)
            world.begin_step(step)
            await _step(world, step)
            if step % REST_EVERY == REST_EVERY - 1:
                await rest(world)
        at_end = True
        if with_end:
            await _end(world)
        swaps = Counter(State(row["state"]).name for row in world.rules.rows.values())
        for row in world.rules.rows.values():
            swaps["paid and not claimed"] += row["paid_unclaimed"]
        return Result(
            steps, world.counts, swaps, hash_of(world.trace), world.trace, world.coverage.cells
        )
    except Exception as error:
        kind = f"rule {error.rule}" if isinstance(error, Violation) else type(error).__name__
        text = _report(world, step, steps, error, None if only is None else played)
        raise Failed(text, world.seed, steps, kind, played, at_end) from error
    finally:
        await world.close()


def hash_of(trace: list[str]) -> int:
    """A number that two runs share when they did the same."""
    return zlib.crc32("\n".join(trace).encode())


def _report(
    world: World, step: int, steps: int, error: Exception, only: Sequence[int] | None
) -> str:
    kept = "" if only is None else f" --only {','.join(map(str, only))}"
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
            f"replay: python -m tests.sim --seed {world.seed} --steps {steps}{kept}",
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


async def rest(world: World, calm_turns: int = 2) -> None:
    """Lift every fault and let the daemon work until nothing changes; then compare (rule 5)."""
    world.note("    rest")
    world.quiet = True
    world.server.heal()
    world.node.trouble = 0.0
    world.node.wake()
    world.disk.empty()
    world.clock.offset_secs = 0
    world.ground.pool.miner_rate = world.ground.pool.relay_rate = 0
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
        if calm == calm_turns:
            break
    else:
        raise Violation(10, "the daemon does not come to rest though nothing happens any more")
    world.daemon.renew_seller()
    problem = await world.daemon.readiness.problem()
    # A price whose time is over, and an incident of just now, are for the operator to end.
    if problem is not None and not any(word in problem for word in ("price", "paused")):
        raise Violation(HEALTH, f"not ready though an order could be served: {problem}")
    truth = Truth(world.rules)
    truth.check()
    truth.owner_is_unique()
    truth.available_can_confirm(world.daemon.available())
    world.server.lied.clear()
    world.quiet = False


async def _end(world: World) -> None:
    """No more faults: every swap must end well (rule 10), and a fresh start must agree (rule 5)."""
    for turn in range(MAX_TURNS):
        world.begin_step(END_STEPS + turn)
        await rest(world, calm_turns=1)
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
    await quiet_blocks(world)
    before = {i: _essence(row) for i, row in world.rules.rows.items()}
    await world.crash()
    await rest(world)
    after = {i: _essence(row) for i, row in world.rules.rows.items()}
    if before != after:
        raise Violation(5, f"a fresh start says otherwise: {before} became {after}")


async def quiet_blocks(world: World) -> None:
    """An honest chain for a long time: no coin may be frozen after it (rule 7)."""
    for turn, count in enumerate(QUIET_BLOCKS):
        world.begin_step(END_STEPS + MAX_TURNS + turn)
        world.ground.mine(count)
        await rest(world, calm_turns=1)
    Truth(world.rules).nothing_is_frozen(world.daemon.available())


def _has_ended(row: Row) -> bool:
    """Final, or paid and not claimed: then it is for the operator."""
    return bool(row["finished"] or row["paid_unclaimed"])


def _essence(row: Row) -> tuple[object, ...]:
    keys = ("state", "finished", "funding_txid", "spend_txid", "paid_unclaimed", "invoice_mark")
    return tuple(row[key] for key in keys)
