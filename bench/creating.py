"""CreateSwap a second, from the request to the funding in the mempool."""

import asyncio
import time
from pathlib import Path

from bench.figures import Figure
from bench.world import World, world

AT_ONCE = 500
ONE_BY_ONE = 20
ROUNDS = 3
LANES = 4
WAIT_SECS = 60.0


async def measure(folder: Path) -> list[Figure]:
    """Many at once against a mutex around each swap, in turns."""
    at_once = mutex = 0.0
    for number in range(ROUNDS):
        many = folder / f"many{number}"
        async with world(many, lanes=LANES, create_wait_secs=WAIT_SECS) as seller:
            at_once += await create_at_once(seller)
        async with world(folder / f"mutex{number}", lanes=LANES) as seller:
            mutex += await create_under_a_mutex(seller)
    return [
        Figure(
            f"CreateSwap, {AT_ONCE} at once",
            "/s",
            ROUNDS * AT_ONCE / at_once,
            ROUNDS * ONE_BY_ONE / mutex,
            "create, fund and send under a mutex",
            20,
        )
    ]


async def create_at_once(seller: World) -> float:
    """Seconds until all fundings are sent; the callers wait on for their invoices meanwhile."""
    funding = asyncio.create_task(seller.funder.run())
    began = time.perf_counter()
    buyers = [
        asyncio.create_task(seller.seller.create_swap(seller.request(number)))
        for number in range(AT_ONCE)
    ]
    await seller.all_sent(AT_ONCE)
    took = time.perf_counter() - began
    for task in (funding, *buyers):
        task.cancel()
    await asyncio.gather(funding, *buyers, return_exceptions=True)
    return took


async def create_under_a_mutex(seller: World) -> float:
    """Seconds for the same work when each swap is created, funded and sent before the next."""
    mutex = asyncio.Lock()

    async def create(number: int) -> None:
        async with mutex:
            await seller.seller.create_swap(seller.request(number))
            assert await seller.funder.fund_waiting() == 1

    began = time.perf_counter()
    await asyncio.gather(*(create(number) for number in range(ONE_BY_ONE)))
    took = time.perf_counter() - began
    assert await seller.all_sent(ONE_BY_ONE) == ONE_BY_ONE
    return took
