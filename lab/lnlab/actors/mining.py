"""Mining while something else goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lnlab.lab import Lab

BURYING_BLOCKS = 3
"""Mined after the last block that held something: what it held is then final."""


@asynccontextmanager
async def mining(lab: Lab, every_secs: float = 0.3, *, steady: bool = False) -> AsyncIterator[None]:
    """Inside the `async with`, confirm and bury what is sent, a block every so often.

    Nothing is mined while the mempool stays empty: on a slow machine blocks would pass by while
    programs start, and lock heights come before anybody could act. With `steady` blocks come all
    the same, for a daemon that tells by them that the chain lives. An error of mining ends it.
    """

    async def mine() -> None:
        left = BURYING_BLOCKS
        while True:
            await asyncio.sleep(every_secs)
            if await lab.rpc.call("getrawmempool"):
                left = BURYING_BLOCKS + 1
            if left or steady:
                await lab.mine()
                left = max(0, left - 1)

    task = asyncio.create_task(mine())
    try:
        yield
    finally:
        if not task.done():
            task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
