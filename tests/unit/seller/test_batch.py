"""`seller.batch`: many callers, one piece of work."""

import asyncio
from collections.abc import Sequence

import pytest

from lnliquid.seller.batch import MAX_BATCH, Gather


class Work:
    """Doubles numbers, a batch at a time, when it is let; odd ones are refused, 13 breaks it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        """An outcome for each."""
        self.batches.append(list(numbers))
        await self.go_on.wait()
        if 13 in numbers:
            raise LookupError("13")
        return [ValueError(f"{n} is odd") if n % 2 else 2 * n for n in numbers]


async def turns(count: int = 5) -> None:
    """Let the others run a while."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_meanwhile_goes_into_the_next_batch() -> None:
    """The first goes alone and at once; those that come while it is worked on go together."""
    work = Work()
    gather = Gather(work)
    work.go_on.clear()
    first = asyncio.create_task(gather(2))
    await turns()
    others = [asyncio.create_task(gather(n)) for n in (4, 6, 8)]
    await turns()
    assert work.batches == [[2]]
    work.go_on.set()
    assert await asyncio.gather(first, *others) == [4, 8, 12, 16]
    assert work.batches == [[2], [4, 6, 8]]
    assert await gather(10) == 20


async def test_a_batch_is_bounded() -> None:
    """However many wait, the first of them waits for no more than a batch."""
    work = Work()
    gather = Gather(work)
    numbers = range(0, 2 * (2 * MAX_BATCH + 10), 2)
    assert await asyncio.gather(*map(gather, numbers)) == [2 * n for n in numbers]
    assert [len(batch) for batch in work.batches] == [MAX_BATCH, MAX_BATCH, 10]


async def test_an_outcome_that_is_an_exception_is_one_callers() -> None:
    """The neighbours get theirs."""
    outcomes = await asyncio.gather(*map(Gather(Work()), (2, 3, 4)), return_exceptions=True)
    assert outcomes[::2] == [4, 8]
    assert isinstance(outcomes[1], ValueError)


async def test_a_bad_item_spoils_nothing_for_the_others() -> None:
    """When the batch breaks each is tried alone, and only the bad one breaks."""
    work = Work()
    outcomes = await asyncio.gather(*map(Gather(work), (2, 13, 4)), return_exceptions=True)
    assert outcomes[::2] == [4, 8]
    assert isinstance(outcomes[1], LookupError)
    assert work.batches == [[2, 13, 4], [2], [13], [4]]


async def test_a_cancelled_caller_takes_nothing_back() -> None:
    """Its item is worked on, its neighbours are answered, and later callers too."""
    work = Work()
    gather = Gather(work)
    work.go_on.clear()
    tasks = [asyncio.create_task(gather(n)) for n in (2, 4)]
    await turns()
    late = asyncio.create_task(gather(6))
    await turns()
    for task in (tasks[0], late):
        task.cancel()
    work.go_on.set()
    assert await tasks[1] == 8
    assert await gather(8) == 16
    assert tasks[0].cancelled()
    assert late.cancelled()
    assert work.batches == [[2, 4], [6], [8]]


async def test_the_end_of_the_program_reaches_every_caller() -> None:
    """What is no `Exception` is not swallowed and leaves nobody waiting."""

    class End(BaseException):
        pass

    async def work(_numbers: Sequence[int]) -> list[int | Exception]:
        raise End

    gather = Gather(work)
    outcomes = await asyncio.gather(gather(1), gather(2), return_exceptions=True)
    assert [type(o) for o in outcomes] == [End, End]


async def test_nobody_is_left_waiting_when_the_work_is_cancelled() -> None:
    """As when the loop is closed: callers in the batch and behind it are cancelled."""
    work = Work()
    gather = Gather(work)
    work.go_on.clear()
    mine = asyncio.current_task()
    callers = [asyncio.create_task(gather(2))]
    await turns()
    callers.append(asyncio.create_task(gather(4)))
    await turns()
    [worker] = asyncio.all_tasks() - {mine, *callers}
    worker.cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(o) for o in outcomes] == [asyncio.CancelledError] * 2
    work.go_on.set()
    assert await gather(6) == 12
    with pytest.raises(ValueError, match="odd"):
        await gather(7)
