"""Time, chance and death, as the simulation decides them: no threads, no real clock."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

START_SECS = 1_800_000_000


class Crash(BaseException):
    """The daemon's process dies here. Not an `Exception`: nothing in the daemon may catch it."""


HEALTH = 0
"""No money rule: that health tells the truth."""


class Violation(AssertionError):
    """A money rule of the design (section 1) is broken; `rule` is its number."""

    def __init__(self, rule: int, what: str) -> None:
        super().__init__(f"rule {rule}: {what}")
        self.rule = rule


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only moves when told, and whose executors run at once."""

    seconds = 0.0

    def time(self) -> float:
        """Seconds of the simulation; timers run by it."""
        return self.seconds

    def run_in_executor(  # type: ignore[override]  # the arguments are passed on as they come
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Call the function now: a thread would make the order of things a matter of luck."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class SimClock:
    """The clock of the machine that the daemon runs on. `offset` is how wrong it is."""

    def __init__(self) -> None:
        self.true_secs = float(START_SECS)
        self.offset_secs = 0

    def now(self) -> int:
        """Unix seconds as the daemon reads them."""
        return int(self.true_secs) + self.offset_secs

    def true(self) -> int:
        """Unix seconds as the rest of the world reads them."""
        return int(self.true_secs)


class Chance:
    """Chance by name instead of by order: the same thing in the same step gets the same luck.

    So a replay stays the same when two things that are independent change places.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._step = -1
        self._times: Counter[tuple[object, ...]] = Counter()

    def begin(self, step: int) -> None:
        """A new step; names count from the beginning again."""
        self._step = step
        self._times.clear()

    def number(self, *name: object) -> float:
        """A number in [0, 1)."""
        nth = self._times[name]
        self._times[name] += 1
        text = f"{self._seed}/{self._step}/{name}/{nth}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def happens(self, probability: float, *name: object) -> bool:
        """True with this probability."""
        return probability > 0 and self.number(*name) < probability

    def below(self, count: int, *name: object) -> int:
        """A whole number from 0 up to, not including, `count`."""
        return int(self.number(*name) * count)


class Life:
    """One run of the daemon's process, from start to death. Its adapters all share it."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.dead = False
        self.dies_in: int | None = None
        """Pauses left to live, when death is planned."""

    async def pause(self, *where: object) -> None:
        """A place where others may run, and where the process may die. Raises `Crash`."""
        self.require()
        for _ in range(self._chance.below(3, "turns", *where)):
            await asyncio.sleep(0)
            self.require()
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.dead = True
                raise Crash(" ".join(map(str, where)))

    def require(self) -> None:
        """Raise `Crash` when the process is dead: what is left of it does nothing any more."""
        if self.dead:
            raise Crash("dead already")
