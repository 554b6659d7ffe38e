"""Many callers, one piece of work: what group commit does for writes, for any like questions."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_BATCH = 256
"""Callers in one batch; bounds how long the first of them waits."""


class Gather(Generic[K, V]):
    """Works for many callers at once: `await gather(item)` is the outcome of this item.

    What comes while one batch is worked on goes into the next one together; nobody waits on a
    timer. `work` returns an outcome for each item, in order; one that is an exception is raised for
    its caller alone. When `work` itself raises, each item is tried once more alone, so that a bad
    one spoils nothing for the others: doing an item again must do no harm. A caller that is
    cancelled takes nothing back: its item is worked on all the same.
    """

    def __init__(self, work: Callable[[Sequence[K]], Awaitable[Sequence[V | Exception]]]) -> None:
        self._work = work
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: K) -> V:
        """The outcome for this item."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        batch: list[tuple[K, asyncio.Future[V]]] = []
        told: Sequence[V | BaseException]
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                try:
                    told = await self._outcomes([item for item, _ in batch])
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # the end of the program: for the callers to raise
                    told = [error] * len(batch)
                _tell(batch, told)
        finally:
            # Cancelled, as when the daemon stops: nobody may be left waiting.
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting, self._task = [], None

    async def _outcomes(self, items: Sequence[K]) -> Sequence[V | Exception]:
        try:
            return await self._work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        alone = await asyncio.gather(*(self._outcomes([item]) for item in items))
        return [outcome for [outcome] in alone]


def _tell(batch: Sequence[tuple[K, asyncio.Future[V]]], told: Sequence[V | BaseException]) -> None:
    for (_, future), outcome in zip(batch, told, strict=True):
        if future.done():  # its caller has gone
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
