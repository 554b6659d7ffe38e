"""Readiness when store or replica cannot be written, and when no channel can receive."""

import asyncio
import io
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from lnlab.wait import wait_for
from lnliquid.config import Settings
from lnliquid.daemon import LogWriter
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
        self.database = Database(migrated(self.settings.database), StillClock(), replica)
        self.lightning = FakeLightning()
        chain = FakeChain()
        self._chain, self._inventory = chain, Inventory(self.database, chain, SELLER)
        self._inventory.synced = True

    def readiness(self) -> Readiness:
        """One that has asked nobody yet."""
        return Readiness(
            self.database,
            self._chain,
            self.lightning,
            self._inventory,
            self.settings,
        )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Everything is well."""
    place = Place(tmp_path)
    yield place
    place.database.close()


def limit_to_now(session: Transaction) -> None:
    """Let the file not grow any more, as on a full disk."""
    pages = session.execute(text("PRAGMA page_count")).scalar_one()
    session.execute(text(f"PRAGMA max_page_count = {pages}"))


def much(session: Transaction) -> None:
    """More than fits into the pages that there are."""
    session.execute(text("CREATE TABLE much (x BLOB)"))
    session.execute(text("INSERT INTO much VALUES (randomblob(1000000))"))


async def test_a_commit_that_fails_refuses_new_swaps_until_one_succeeds(place: Place) -> None:
    """The store is tried by itself, with a write of its own, as nobody else may write then."""
    await place.database.write(limit_to_now)
    assert await place.readiness().problem() is None
    with pytest.raises(StoreFailure, match="full"):
        await place.database.write(much)
    assert place.database.failed
    readiness = place.readiness()
    assert await readiness.problem() is None, "a small write fits, so the store works again"
    assert not place.database.failed
    assert await place.database.read(lambda s: coin_store.cursor(s, WRITE_PROBES)) == 1


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
    assert problem == "the store cannot be written"
    assert await place.readiness().problem() is None


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_database_that_was_taken_away_is_noticed(place: Place, is_replaced: bool) -> None:
    """SQLite goes on writing into a file that has no name, and all of it would be lost."""
    path = place.settings.database
    if is_replaced:
        shutil.copyfile(path, path.with_name("backup"))
        path.with_name("backup").replace(path)
    else:
        path.unlink()
    problem = await place.readiness().problem()
    assert problem == "the database file was deleted or replaced while the daemon ran"


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


class FullDisk(io.StringIO):
    """A file that cannot be written."""

    def write(self, text: str) -> int:
        """Fail as the system does."""
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_raises_nothing() -> None:
    """A full disk under the log must not end what logs."""
    log = LogWriter(FullDisk())
    log.info("a line")
    log.error("another")
