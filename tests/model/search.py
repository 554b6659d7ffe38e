"""Breadth-first over all that can happen, from a few beginnings, each state once.

The first broken rule that it meets has the shortest way to it, in moves from the beginning.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lnliquid.domain.swap import IllegalTransition
from lnliquid.store.tables import Purpose

from . import laws
from .moves import at_peace, moves, quiet
from .rules import Rules
from .world import Sale, View, World, new_swap

DEPTHS = {1: 6, 2: 4}
"""How deep the tests search, by the number of swaps."""
MUTANT_DEPTH = 6
QUIET_BLOCKS = 40
ROUND, CHECK = "the watcher makes its round", "own transactions are looked at"
BLOCK = "a block with the whole mempool"
LOCKED = ("the funder signs", BLOCK, CHECK, ROUND)
PAID = (*LOCKED, "buyer 0 pays")
ENDING = (*LOCKED, BLOCK, BLOCK, ROUND, BLOCK)
BEGINNINGS = {
    "nothing is signed": (),
    "the funding is sent": ("the funder signs",),
    "an invoice is shown": LOCKED,
    "it is paid": PAID,
    "the lock height is reached": ENDING,
    "a refund is sent": (*ENDING, ROUND),
    "the older funding confirms late": (
        "the funder signs",
        "F1(K1:0)@4 is bumped",
        *["a block with nothing"] * 4,
        "a block with F1(K1:0)@4",
        CHECK,
        ROUND,
    ),
    "paid and not claimed": (*PAID, ROUND, BLOCK, BLOCK, BLOCK, ROUND),
}
"""Ways, each of moves that the model itself offers, to where a search begins."""


@dataclass
class CounterExample:
    """A broken rule, and the moves that lead to it."""

    problem: str
    moves: list[str]

    def __str__(self) -> str:
        lines = [f"{n:3}. {move}" for n, move in enumerate(self.moves, 1)]
        return "\n".join((self.problem, *lines))


@dataclass
class Found:
    """What a search came to. `depths`: new states by moves from the beginning."""

    states: int = 0
    transitions: int = 0
    quiet_states: int = 0
    depths: Counter[int] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    """What records, transactions and moves there were, by how many states."""
    checks: Counter[str] = field(default_factory=Counter)
    secs: float = 0.0
    counter_example: CounterExample | None = None
    is_whole: bool = True
    """False when it was cut by its number of states."""

    def __str__(self) -> str:
        depths = ", ".join(f"{n} at {depth}" for depth, n in sorted(self.depths.items()))
        checks = ", ".join(f"rule {rule}: {n:,}" for rule, n in sorted(self.checks.items()))
        cut = "" if self.is_whole else " (cut)"
        lines = [
            f"{self.states:,} states{cut}, {self.transitions:,} moves, {self.secs:.1f} s of "
            f"processor time; {self.quiet_states:,} more on the way to rest",
            f"new states by moves from a beginning: {depths}",
            f"looks at {checks}",
        ]
        return "\n".join([*lines, str(self.counter_example or "no rule is broken")])


class Search:
    """One search. Parts that are known to end well are not walked again."""

    def __init__(self, rules: Rules, *, swaps: int = 1, blocks: int = 8, **world: int) -> None:
        """`world`: fields of `World`, such as `faults`."""
        sales = tuple(Sale(new_swap(nth)) for nth in range(swaps))
        first = World(View(0), sales, faults=2, limit=blocks)
        self._first = first._replace(**world)  # type: ignore[arg-type]
        self._rules = rules.remembering(self._first.final_confs)
        self._ends: set[World] = set()
        self._from: dict[World, tuple[World, str] | None] = {}
        self.found = Found()

    def run(self, depth: int, most: int | None = None) -> Found:
        """Search to this depth from each beginning; `most` states in all, when given."""
        began, before = time.process_time(), Counter(laws.CHECKS)
        try:
            self._search(depth, most)
        finally:
            self.found.states = len(self._from)
            self.found.quiet_states = len(self._ends)
            self.found.secs = time.process_time() - began
            self.found.checks = laws.CHECKS - before
        return self.found

    def _search(self, depth: int, most: int | None) -> None:
        level: list[World] = []
        for way in BEGINNINGS.values():
            world = self._begin(way)
            if self.found.counter_example:
                return
            if world is not None and world not in level:
                level.append(world)
        for at in range(depth):
            after: list[World] = []
            for world in level:
                if most is not None and len(self._from) >= most:
                    self.found.is_whole = False
                    return
                for new in self._expand(world):
                    after.append(new)
                if self.found.counter_example:
                    return
            self.found.depths[at + 1] = len(after)
            level = after

    def _begin(self, way: tuple[str, ...]) -> World | None:
        """Where this way leads; None when the rules do not let it be gone."""
        world = self._first
        self._from.setdefault(world, None)
        for name in way:
            self._try(world, "", lambda w=world: laws.always(w))  # type: ignore[misc]
            found = dict(self._moves(world))
            if self.found.counter_example or name not in found:
                return None
            if found[name] not in self._from:
                self._from[found[name]] = (world, name)
            world = found[name]
        return world

    def _try(self, world: World, move: str, step: Callable[[], object]) -> bool:
        try:
            step()
        except (laws.Broken, IllegalTransition) as error:
            way = self._way(world) + ([move] if move else [])
            self.found.counter_example = CounterExample(str(error), way)
            return False
        return True

    def _moves(self, world: World) -> Iterator[tuple[str, World]]:
        offered = moves(self._rules, world)
        while True:
            try:
                move = next(offered, None)
            except (laws.Broken, IllegalTransition) as error:
                way = [*self._way(world), "(then the daemon goes on)"]
                self.found.counter_example = CounterExample(str(error), way)
                return
            if move is None:
                return
            yield move

    def _expand(self, world: World) -> Iterator[World]:
        for name, after in self._moves(world):
            self.found.transitions += 1
            if after in self._from:
                continue
            self._from[after] = (world, name)
            self.found.reached.update(_features(name, after))
            if not self._try(after, "", lambda w=after: laws.always(w)):  # type: ignore[misc]
                return
            if not self._ends_well(after):
                return
            yield after

    def _ends_well(self, world: World) -> bool:
        """True when all is well after a quiet and honest time (rule 10)."""
        here, way = at_peace(world), 0
        walked: list[World] = []
        while here not in self._ends:
            walked.append(here)
            before = here

            def step() -> None:
                nonlocal here
                here = quiet(self._rules, before)  # noqa: B023
                laws.always(here)
                if _at_rest(before, here) or way >= QUIET_BLOCKS:  # noqa: B023
                    laws.ended(here)

            if not self._try(world, f"(then {way} quiet blocks)", step):
                return False
            if _at_rest(before, here):
                break
            way += 1
        self._ends.update(walked)
        return True

    def _way(self, world: World) -> list[str]:
        names = []
        here = self._from.get(world)
        while here is not None:
            world, name = here
            names.append(name)
            here = self._from[world]
        return names[::-1]


def _features(move: str, world: World) -> set[str]:
    """What is to be counted of a state, and of the move that led to it."""
    records = (f"{s.swap.state.name} {s.swap.invoice_mark.name}" for s in world.sales)
    final = (f"{s.swap.state.name} final" for s in world.sales if s.swap.finished)
    own = (f"{t.purpose.name} {t.rank} {t.state.name}" for t in world.txs if t.purpose and t.state)
    fundings = len([v for v in world.families().values() if v[0].purpose is Purpose.FUNDING])
    kind = " ".join(word for word in move.split() if "(" not in word and ")" not in word)
    return {*records, *final, *own, f"{fundings} fundings", kind}


def _at_rest(before: World, after: World) -> bool:
    """Only the chain grew, beyond all that anything waits for."""
    top = max([h for _, h in after.chain.blocks], default=0)
    locks = [s.swap.refund_lock_height or 0 for s in after.sales]
    return (
        before.chain.tip > max([top + after.final_confs + 1, *locks])
        and before._replace(chain=after.chain) == after
        and before.chain._replace(tip=after.chain.tip) == after.chain
    )
