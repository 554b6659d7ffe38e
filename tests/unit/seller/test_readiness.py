"""Readiness when store or replica cannot be written, and when no channel can receive."""

import asyncio
import resource
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from lnlab.wait import wait_for
from lnliquid.config import Settings
from lnliquid.domain.errors import StoreFailure
from lnliquid.seller.operator import Operator
from lnliquid.seller.readiness import WRITE_PROBES, Readiness
from lnliquid.store import coins as coin_store
from lnliquid.store.database import Database, Transaction
from lnliquid.watchers import chain_incidents
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

from ..builders import SELLER, StillClock, migrated, settings_values
from ..fakes import FakeChain, FakeLightning


class Place:
    """A database, its replica, and backends that are well."""

    def __init__(self, folder: Path) -> None:
        (folder / "disk").mkdir()
        replica = folder / "disk" / "replica"
        self.settings = Settings(**settings_values(folder, replica=replica))
        self.clock = StillClock()
        self.database = Database(migrated(self.settings.database), self.clock, replica)
        self.lightning = FakeLightning()
        self.chain = FakeChain()
        self.inventory = Inventory(self.database, self.chain, SELLER)
        self.inventory.synced = True

    def readiness(self, locks: Callable[[], str | None] = lambda: None) -> Readiness:
        """One that has asked nobody yet. `locks`: what is wrong with the files that are locked."""
        return Readiness(
            self.database,
            self.chain,
            self.lightning,
            self.inventory,
            self.settings,
            self.clock,
            locks,
        )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Everything is well."""
    place = Place(tmp_path)
    yield place
    place.database.close()


def much(session: Transaction) -> None:
    """More than there is room for."""
    session.execute(text("INSERT INTO cursor SELECT hex(randomblob(500000)), 1"))


async def test_a_large_write_that_fails_refuses_new_swaps_until_there_is_room(
    place: Place,
) -> None:
    """Small writes succeed meanwhile; the large one is tried again by itself, as no order comes."""
    wal = place.settings.database.with_name(place.settings.database.name + "-wal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = wal.stat().st_size + 200_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(StoreFailure):
            await place.database.write(much)
        for _ in range(3):
            problem = await place.readiness().problem()
            assert (problem or "").startswith("the store cannot be written: ")
        assert await place.database.read(lambda s: coin_store.cursor(s, WRITE_PROBES)) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await place.readiness().problem() is None
    assert not place.database.failed


class HangingPaths(Readiness):
    """A disk that does not answer a look at it."""

    held = threading.Event()

    def _probe_paths(self) -> str | None:
        self.held.wait(30)
        return None


async def test_a_disk_that_hangs_is_told_in_time(place: Place) -> None:
    """No look at it is waited for, nor is another one begun; when it answers, sales go on."""
    readiness = HangingPaths(
        place.database, place.chain, place.lightning, place.inventory, place.settings, place.clock
    )
    asked = []
    try:
        for _ in range(3):
            async with asyncio.timeout(6):
                assert await readiness.problem() == "the disk of the database does not answer"
            asked.append([t for t in threading.enumerate() if t.name == "readiness"])
        assert [len(threads) for threads in asked] == [1, 1, 1]
    finally:
        readiness.held.set()

    async def is_well() -> bool:
        return await readiness.problem() is None

    await wait_for(is_well, timeout_secs=10, message="sales go on")


async def test_a_store_that_stands_still_is_told_in_time(place: Place) -> None:
    """A commit that does not end, and reads that do not."""
    held = threading.Event()
    writing = asyncio.create_task(place.database.write(lambda _s: held.wait(30), kind="hangs"))
    reading: list[asyncio.Task[object]] = []
    try:
        await wait_for(lambda: place.database.stalled_secs, timeout_secs=10, message="it stalls")
        problem = await place.readiness().problem()
        assert problem is not None
        assert "a commit does not end" in problem
        reading = [
            asyncio.create_task(place.database.read(lambda _s: held.wait(30))) for _ in range(2)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(8):
            problem = await place.readiness().problem()
        assert problem == "the store cannot be read: its disk does not answer"
    finally:
        held.set()
        await asyncio.gather(writing, *reading)
    assert await place.readiness().problem() is None


async def test_a_lightning_node_that_hangs_is_told_in_time(place: Place) -> None:
    """The call itself may last longer; it is not made anew meanwhile."""
    readiness = place.readiness()
    place.lightning.hangs.clear()
    for _ in range(2):
        async with asyncio.timeout(7):
            problem = await readiness.problem()
        assert problem == "the Lightning node does not answer within 5 s"
    assert place.lightning.asked == 1
    place.lightning.hangs.set()

    async def is_well() -> bool:
        return await readiness.problem() is None

    await wait_for(is_well, timeout_secs=10, message="sales go on")


async def test_a_lightning_node_that_is_behind_refuses_new_swaps(place: Place) -> None:
    """By its own word, or by its height on the chain that both nodes follow."""
    place.chain.height = 4_100
    place.lightning.height = 100
    assert "more than 20 blocks behind" in (await place.readiness().problem() or "")
    place.lightning.height = 4_090
    assert await place.readiness().problem() is None
    place.lightning.sync_problem = "Still loading latest blocks from bitcoind."
    problem = await place.readiness().problem()
    assert problem == (
        "the Lightning node is not synced: Still loading latest blocks from bitcoind."
    )


async def test_work_that_fails_again_and_again_refuses_new_swaps(place: Place) -> None:
    """Three times in a row for one reason; its success, or the end of what failed, clears it."""
    work, readiness = place.inventory.work, place.readiness()
    for height in (7, 8):
        work.failed("funding", f"no change at height {height}")
    assert await readiness.problem() is None
    work.failed("funding", "another reason")
    for height in (9, 10):
        work.failed("funding", f"no change at height {height}")
    assert await readiness.problem() is None
    work.failed("funding", "no change at height 11")
    told = "funding fails again and again: no change at height 9"
    assert await readiness.problem() == told
    work.done("refunding")
    assert await readiness.problem() == told
    work.done("funding")
    assert await readiness.problem() is None
    for swap in ("a", "b", "a"):
        work.failed("refunding", "no coins", swap)
    work.forget("a")
    assert await readiness.problem() == "refunding fails again and again: no coins"
    work.forget("b")
    assert await readiness.problem() is None


async def test_a_replica_that_cannot_be_written_refuses_new_swaps(place: Place) -> None:
    """It is noticed before the first order, and so is that it can be written again."""
    assert await place.readiness().problem() is None
    folder = place.settings.replica_path.parent
    folder.rename(folder.with_name("away"))

    async def told() -> str:
        return await place.readiness().problem() or ""

    await wait_for(lambda: place.database.replica_problem, timeout_secs=10, message="it is noticed")
    assert (await told()).startswith("the replica of the database fails")
    folder.with_name("away").rename(folder)
    await wait_for(
        lambda: place.database.replica_problem is None, timeout_secs=10, message="it is well"
    )
    assert await told() == ""


async def test_a_disk_that_takes_no_byte_is_noticed_before_the_first_order(place: Place) -> None:
    """Store and journal; the daemon has written nothing since it started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        problem = await place.readiness().problem()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (problem or "").startswith("the store cannot be written: ")
    assert await place.readiness().problem() is None


async def test_files_that_are_out_of_place_refuse_new_swaps(place: Place) -> None:
    """The database by name at once; locks at the next look."""
    problem = await place.readiness(lambda: "the lock is gone").problem()
    assert problem == "the lock is gone"
    readiness = place.readiness()
    assert await readiness.problem() is None
    place.settings.database.unlink()
    assert "was deleted while the daemon ran" in (await readiness.problem() or "")


async def test_a_look_at_the_paths_leaves_the_locks_of_sqlite(place: Place) -> None:
    """Closing any descriptor of the file would end them, and another process could write."""
    await place.readiness().problem()
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0);"
        "c.execute('PRAGMA locking_mode = EXCLUSIVE'); c.execute('PRAGMA journal_mode = DELETE')"
    )
    arguments = [sys.executable, "-c", program, str(place.settings.database)]
    done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True)
    assert "database is locked" in done.stderr


async def test_each_pause_has_its_reason_and_one_resume_lifts_them(place: Place) -> None:
    """The operator's own pause does not lift that of a chain incident, nor hide it."""
    operator = Operator(place.database, SELLER, place.settings, Notices())
    await operator.set_paused(True)
    assert await place.readiness().problem() == "the operator has paused new swaps"
    await place.database.write(lambda s: chain_incidents.pause(s, 55, 3))
    told = (
        "paused after a chain incident: blocks from height 55 were replaced, "
        "3 finished swaps reopened"
    )
    assert await place.readiness().problem() == told
    await operator.set_paused(True)
    assert await place.readiness().problem() == told
    await operator.set_paused(False)
    assert await place.readiness().problem() is None


async def test_channels_that_can_receive_nothing_refuse_new_swaps(place: Place) -> None:
    """As just after a start of Lightning, before its peers are there."""
    place.lightning.receivable = 0
    assert await place.readiness().problem() == "no Lightning channel can receive anything now"
    place.lightning.receivable = 1
    assert await place.readiness().problem() is None


@pytest.mark.parametrize(
    ("option", "unsafe", "safe"),
    [
        ("invoices-onchain-fallback", True, None),
        ("autoclean-paidinvoices-age", 86_400, 30 * 86_400),
        ("autoclean-expiredinvoices-age", 1, 0),
    ],
)
async def test_an_option_of_lightning_that_is_not_safe_refuses_new_swaps(
    place: Place, option: str, unsafe: int, safe: int | None
) -> None:
    """The reason names it and says what to do; without it, or otherwise set, there is none."""
    place.lightning.set_options = {"cltv-final": 10, option: unsafe}
    problem = await place.readiness().problem()
    assert problem is not None
    assert option in problem
    assert "; remove it" in problem or "; set it to" in problem
    place.lightning.set_options = {} if safe is None else {option: safe}
    assert await place.readiness().problem() is None
