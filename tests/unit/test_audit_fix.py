"""`lnliquid audit --fix`: what no money hangs on is mended, and nothing else is touched."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlmodel import col

from lnliquid.errors import SettingsError
from lnliquid.operator_commands import mend
from lnliquid.seller.audit_fixes import fixes_of
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.process import only_process
from lnliquid.store.replica import COMMITS
from lnliquid.store.sqlite import Database, Transaction, read_file
from lnliquid.store.survey import StoreFacts, survey
from lnliquid.store.tables import EventRow, OwnTxRow, Purpose, RequestRow, ReservationRow

from .builders import StillClock, make_request, make_swap, migrated, new_swap, plan_funding, stock
from .test_audit import DEPOSITS


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with two waiting swaps, one failed, and a stored transaction of ours."""
    database = Database(migrated(tmp_path / "seller.sqlite"), StillClock())
    await stock(database)
    signed = plan_funding([make_swap(9)], DEPOSITS).signed

    def fill(session: Transaction) -> None:
        for number in range(3):
            swap, _ = swap_store.create(session, new_swap(make_request(number)))
        swap_store.fail_waiting(session, swap, "a test")
        own_tx_store.add(
            session,
            txid=signed.txid,
            raw=signed.raw,
            purpose=Purpose.FUNDING,
            fee_sats=signed.fee_sats,
            vsize=signed.vsize,
            signed_height=1,
        )

    await database.write(fill)
    database.close()
    return tmp_path / "seller.sqlite"


def look(path: Path) -> StoreFacts:
    """All tables; commits are counted, and are not compared."""
    facts = read_file(path, survey)
    return replace(facts, cursors=tuple(c for c in facts.cursors if c[0] != COMMITS))


async def break_it(path: Path, *statements: object) -> None:
    """Change rows behind the program's back."""
    database = Database(path, StillClock())

    def work(session: Transaction) -> None:
        for statement in statements:
            session.execute(statement)  # type: ignore[call-overload]

    await database.write(work)
    database.close()


def test_a_sound_store_needs_nothing(path: Path) -> None:
    """And is left exactly as it is."""
    before = look(path)
    assert fixes_of(before) == ()
    assert mend(path) == ()
    assert look(path) == before


BROKEN = {
    "a reservation that a waiting swap lacks": delete(ReservationRow),
    "a reservation of another amount": update(ReservationRow).values(asset_amount=1),
    "an event log that is cut": delete(EventRow).where(col(EventRow.to_state) == 5),
    "no event at all": delete(EventRow),
    "a request that is missing": delete(RequestRow),
    "another fee": update(OwnTxRow).values(fee_sats=1),
}
"""What is broken; each is mended to exactly what was there, but for the new events' numbers."""


async def test_a_reservation_of_a_failed_swap_is_removed(path: Path) -> None:
    """The amounts can be sold again; the two waiting swaps keep theirs."""
    before = look(path)
    failed = next(s for s in before.swaps if s.finished)
    database = Database(path, StillClock())

    def plant(session: Transaction) -> None:
        session.add(
            ReservationRow(
                swap_id=failed.swap_id, asset_id=failed.asset_id, asset_amount=5, lbtc_sats=5
            )
        )

    await database.write(plant)
    database.close()
    assert [fix.text for fix in await asyncio.to_thread(mend, path)] == [
        f"remove the reservation of swap {failed.swap_id}, which waits for no funding"
    ]
    assert look(path) == before


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_is_mended(path: Path, name: str) -> None:
    """As it was before, and a second time there is nothing left to do."""
    before = look(path)
    await break_it(path, BROKEN[name])
    assert look(path) != before
    fixes = await asyncio.to_thread(mend, path)
    assert fixes
    assert look(path) == before
    assert fixes_of(look(path)) == ()


def test_a_running_daemon_keeps_fix_out(path: Path) -> None:
    """Two writers would take each other's rows for their own."""
    with only_process(path), pytest.raises(SettingsError, match="another daemon runs"):
        mend(path)


def test_a_mistyped_path_makes_no_database(tmp_path: Path) -> None:
    """It is refused like any other audit of what is not there."""
    with pytest.raises(SettingsError, match="there is no database"):
        mend(tmp_path / "nothing.sqlite")
    assert list(tmp_path.iterdir()) == []
