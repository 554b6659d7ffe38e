"""The database is lost, or an older copy was put in its place: every open swap comes back."""

import asyncio
import contextlib
import json
import os
import random
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.mining import mining
from lnlab.actors.programs import ProgramError, run_program
from lnlab.scenarios import loss
from lnlab.scenarios.steps import available, look, until_available
from lnliquid.crashpoints import POINTS, VARIABLE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def test_an_older_copy_is_refused_and_the_replica_restored(daemon: SellerDaemon) -> None:
    """A copy from before fundings, payments and claims; nothing is funded twice."""
    await loss.older_copy(daemon, print)


async def test_a_storm_survives_the_loss_of_the_database(
    daemon: SellerDaemon, lab_kind: str
) -> None:
    """100 swaps in all open states (20 on real nodes): unpaid come back, paid are claimed."""
    await loss.crowd_survives(daemon, print, 100 if lab_kind == "embedded" else 20)


async def refused(daemon: SellerDaemon, words: str, *arguments: str, **settings: object) -> None:
    """Require that a restore with these settings ends with exit code 2 and these words."""
    env = {f"LNLIQUID_{name.upper()}": str(value) for name, value in settings.items()}
    command = ("lnliquid", "restore", "--config", str(daemon.config), *arguments)
    with pytest.raises(ProgramError) as told:
        await run_program(*command, env={**os.environ, **env})
    assert told.value.code == 2
    assert words in " ".join(told.value.output.split())
    assert "Traceback" not in told.value.output


async def take_backup(daemon: SellerDaemon, directory: Path) -> Path:
    """`lnliquid backup`."""
    command = ("lnliquid", "backup", str(directory), "--config", str(daemon.config), "--json")
    return Path(json.loads(await run_program(*command))["path"])


async def test_what_is_not_newer_is_not_restored(daemon: SellerDaemon, tmp_path: Path) -> None:
    """A running daemon, nothing newer, no such file, a backup that is older: nothing is changed."""
    buyer = HandBuyer(daemon)
    await buyer.order()
    await refused(daemon, "another daemon runs")
    backup = await take_backup(daemon, tmp_path)
    await buyer.order()
    await daemon.stop()
    database = loss.database_of(daemon)
    before = database.read_bytes()
    await refused(daemon, "holds all that")
    await refused(daemon, "is no database of this program", str(tmp_path / "none"))
    await refused(daemon, "is older than", str(backup))
    fresh = {"database": tmp_path / "new" / "swaps.sqlite", "replica": tmp_path / "none"}
    await refused(daemon, "nothing here tells how old", str(backup), **fresh)
    assert database.read_bytes() == before
    await daemon.start()


async def test_a_backup_that_was_only_copied_is_not_started(
    daemon: SellerDaemon, tmp_path: Path
) -> None:
    """With `restore` and a word for the danger it is; what was sold since is forgotten then."""
    buyer = HandBuyer(daemon)
    known = await buyer.order()
    backup = await take_backup(daemon, tmp_path)
    await daemon.stop()
    database = loss.database_of(daemon)
    kept = {
        p: p.read_bytes()
        for f in (database, loss.replica_of(daemon))
        for p in loss.files_of(f)
        if p.exists()
    }
    for path in kept:
        path.unlink()
    database.write_bytes(backup.read_bytes())
    await loss.require_refused(daemon, "is a backup that was not put in place")
    database.unlink()
    done = await loss.restore(daemon, str(backup), "--accept-older")
    assert done["source"] == str(backup)
    await daemon.start()
    assert (await look(daemon, known.swap_id)).swap.swap_id == known.swap_id
    await daemon.stop()
    for file in (database, loss.replica_of(daemon)):
        for path in loss.files_of(file):
            path.unlink(missing_ok=True)
    for path, content in kept.items():
        path.write_bytes(content)
    await daemon.start()


@pytest.mark.parametrize("point", [p for p in POINTS if p.startswith("commit.")])
async def test_killed_around_a_commit_and_one_file_lost(daemon: SellerDaemon, point: str) -> None:
    """Dead before, between or after the two commits, with one file lost: the sale goes on.

    Which commit of a start, and which file, is another one in each run.
    """
    number, lost = random.randint(3, 30), random.choice(["database", "replica"])
    buyer, request_id = Buyer(daemon, f"{point}-{lost}"), str(uuid.uuid4())
    await daemon.restart()
    before = await available(daemon)

    async def buy() -> None:
        await buyer.buy(700, max_price_msat=10**12, request_id=request_id)

    async with mining(daemon.lab):
        await daemon.kill()
        await daemon.launch({VARIABLE: f"{point}:{number}"})
        async with asyncio.TaskGroup() as tasks:
            buying = tasks.create_task(_until_bought(buy))
            await daemon.lab.wait_for(
                lambda: buying.done() or not daemon.is_running(),
                timeout_secs=60,
                message="a crash, or the end",
            )
            await daemon.kill()
            buying.cancel()
        if lost == "database":
            for path in loss.files_of(loss.database_of(daemon)):
                path.unlink(missing_ok=True)
            await loss.restore(daemon)
        else:
            await loss.lose_replica(daemon, print)
        await daemon.start()
        await buy()
        await until_available(daemon, before - 700)
    await loss.require_exact(daemon)


async def _until_bought(buy: Callable[[], Awaitable[None]]) -> None:
    """Try until it works: a daemon that starts is not there yet."""
    while True:
        with contextlib.suppress(ProgramError):
            return await buy()
