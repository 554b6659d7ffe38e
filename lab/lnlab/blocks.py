"""Mining while something else goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lnlab.lab import Lab


@asynccontextmanager
async def mining(lab: Lab, every_secs: float = 0.3) -> AsyncIterator[None]:
    """Mine a block every so often inside the `async with`; an error of mining ends it."""

    async def mine() -> None:
        while True:
            await asyncio.sleep(every_secs)
            await lab.mine()

    task = asyncio.create_task(mine())
    try:
        yield
    finally:
        if not task.done():
            task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
