"""The database is lost, or an older copy was restored: every open swap comes back."""

import os
from pathlib import Path

import pytest

from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.actors.programs import ProgramError, run_program
from lnlab.scenarios import rescue

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def test_an_older_copy_is_brought_up_to_date(daemon: SellerDaemon) -> None:
    """A copy from before fundings, payments and claims is mended; nothing is funded twice."""
    await rescue.rescue_copy(daemon, print)


async def test_a_storm_survives_the_loss_of_the_database(
    daemon: SellerDaemon, lab_kind: str
) -> None:
    """100 swaps in all open states (20 on real nodes): unpaid come back, paid are claimed."""
    await rescue.rescue_crowd(daemon, print, 100 if lab_kind == "embedded" else 20)


async def refused(daemon: SellerDaemon, code: int, words: str, **settings: object) -> None:
    """Require that a rescue with these settings ends with this code and these words."""
    env = {f"LNLIQUID_{name.upper()}": str(value) for name, value in settings.items()}
    with pytest.raises(ProgramError) as told:
        await run_program(
            "lnliquid", "rescue", "--config", str(daemon.config), env={**os.environ, **env}
        )
    assert told.value.code == code
    assert words in told.value.output
    assert "Traceback" not in told.value.output


async def test_what_does_not_belong_together_is_refused(
    daemon: SellerDaemon, tmp_path: Path
) -> None:
    """A running daemon, another mnemonic, no journal, dead nodes: nothing is written."""
    await HandBuyer(daemon).order()
    await refused(daemon, 2, "another daemon runs")
    await daemon.stop()
    journal = Path(daemon.setting("database")).with_name("swaps.sqlite.rescue")
    fresh = tmp_path / "new" / "swaps.sqlite"
    there = {"database": fresh, "rescue_journal": journal}
    mnemonic = tmp_path / "mnemonic"
    await run_program("lnliquid", "init", "--mnemonic-file", str(mnemonic))
    await refused(daemon, 2, "another mnemonic", **there, mnemonic_file=mnemonic)
    await refused(daemon, 2, "not of the network", **there, network="liquidv1")
    await refused(daemon, 2, "no rescue journal", database=fresh, rescue_journal=tmp_path / "none")
    await refused(daemon, 3, "core-lightning", **there, lightning_rpc=tmp_path / "no-rpc")
    await refused(daemon, 3, "electrum", **there, electrum_url="tcp://127.0.0.1:1")
    assert not fresh.exists()
    fresh.with_name("swaps.sqlite-wal").write_bytes(b"left")
    await refused(daemon, 2, "move it away", **there)
    assert not fresh.exists()
    await daemon.start()
