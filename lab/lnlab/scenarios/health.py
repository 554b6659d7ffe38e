"""A judge of health: sampled once a second, it must tell the truth all the while."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from lnlab.actors.daemon import SellerDaemon
from lnlab.scenarios.sale import require

SAMPLE_SECS = 1.0
NOTICE_SECS = 10.0
"""Trouble may be there for so long before health says so: a deadline, and a look at it."""
RECOVERY_SECS = 20.0
"""And so long after its end before health says that all is well."""


@dataclass
class Health:
    """What was told, and when an order could not have been served."""

    samples: list[tuple[float, bool]] = field(default_factory=list)
    """When it was asked, of a monotonic clock, and whether it said ready."""
    troubles: list[tuple[float, float, str]] = field(default_factory=list)
    """Beginning, end and name of each time in which no order could be served."""

    @contextmanager
    def trouble(self, name: str) -> Iterator[None]:
        """Inside, an order could not be funded, paid or refunded."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.troubles.append((began, time.monotonic(), name))

    def judge(self) -> None:
        """Require that ready was said when an order could be served, and only then."""
        require(bool(self.samples), "health was never asked")
        for at, ready in self.samples:
            for began, ended, name in self.troubles:
                late = at - began
                require(
                    not (ready and began + NOTICE_SECS < at < ended),
                    f"health said ready {late:.0f} s after {name} began",
                )
            is_excused = any(b <= at <= e + RECOVERY_SECS for b, e, _ in self.troubles)
            require(ready or is_excused, "health said not ready while orders could be served")


@asynccontextmanager
async def judged_health(daemon: SellerDaemon) -> AsyncIterator[Health]:
    """Sample health inside the `async with`, and judge it at the end."""
    health = Health()

    async def sample() -> None:
        while True:
            asked_at = time.monotonic()
            ready = await daemon.is_ready()
            if daemon.is_running():
                health.samples.append((asked_at, ready))
            await asyncio.sleep(SAMPLE_SECS)

    task = asyncio.create_task(sample())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    health.judge()
