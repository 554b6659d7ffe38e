"""Opening a database: migrations, pragmas, file modes, and files that are not ours."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlmodel import SQLModel

from lnliquid.domain.errors import RequestConflict, SettingsError
from lnliquid.store import coins, schema, swaps, tables, transactions
from lnliquid.store.database import Database, Transaction

from ..builders import (
    ASSET,
    POLICY_ASSET,
    StillClock,
    count_rows,
    make_request,
    new_swap,
    stock,
    txid_of,
)

TABLES = {
    "swap", "reserved_outpoint", "coin", "own_tx", "event", "cursor",
    "identity", "block", "withdrawal", "price",
    "alembic_version",
}  # fmt: skip


SAFE = ("journal_mode", "synchronous", "foreign_keys", "temp_store", "busy_timeout")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that was made and closed."""
    made = tmp_path / "new folder" / "seller.sqlite"
    Database(made, StillClock()).close()
    return made


def test_the_migrations_make_the_tables_that_the_code_declares(path: Path) -> None:
    """Alembic finds no difference, indexes and columns compared."""
    assert tables.SwapRow.metadata is SQLModel.metadata
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_tables_and_checks_exist(path: Path) -> None:
    """What Alembic does not compare: names of tables, checks and the partial index."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        made = {name: " ".join(sql.split()) for name, sql in rows}
    assert set(made) >= TABLES
    index = made["uq_reserved_outpoint_live"]
    assert index.startswith("CREATE UNIQUE INDEX")
    assert index.endswith("ON reserved_outpoint (txid, vout) WHERE live IS 1")
    assert "CHECK (asset_amount > 0)" in made["swap"]
    assert "CHECK (state BETWEEN 1 AND 5)" in made["swap"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE swap SET state = 6",
        "UPDATE swap SET asset_amount = 0",
        "INSERT INTO event VALUES (1, 'no such swap', NULL, 1, '', NULL, NULL, 0)",
    ],
)
def test_the_file_itself_refuses_nonsense(path: Path, damage: str) -> None:
    """Checks and foreign keys hold for any program that turns them on."""
    columns = (
        "swap_id, request_id, key_index, state, asset_id, asset_amount, subsidy_sats, "
        "total_price_msat, max_total_price_msat, min_funding_confs, max_ln_cltv_blocks, "
        "buyer_claim_address, buyer_key_hash, seller_key_hash, payment_hash, created_at, "
        "fee_share_sats, paid_unclaimed, finished, invoice_mark"
    )
    values = "'s', 'q', 0, 1, 'a', 1, 1, 1, 1, 1, 1, 'b', x'', x'', x'', 0, 0, 0, 0, 0"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"INSERT INTO swap ({columns}) VALUES ({values})")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(damage)


async def test_connections_are_safe(path: Path) -> None:
    """For writer and readers alike: WAL, synchronous FULL, foreign keys, temporary data in memory
    (savepoints spill there, and a full directory would stop large writes), and a wait for locks.
    """
    database = Database(path, StillClock())
    try:
        for run in (database.read, database.write):
            shown = [
                await run(lambda s: s.scalar(text(f"PRAGMA {name}")))  # noqa: B023
                for name in SAFE
            ]
            assert shown[:4] == ["wal", 2, 1, 2]
            assert shown[4] > 0
    finally:
        database.close()


def modes_in(folder: Path) -> dict[str, int]:
    """Mode of each file."""
    return {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    """The database, its WAL and its shared memory: mode 0600 while it is open and after."""
    path = tmp_path / "seller.sqlite"
    database = Database(path, StillClock())
    try:
        await stock(database)
        modes = modes_in(tmp_path)
    finally:
        database.close()
    assert modes == dict.fromkeys(
        ("seller.sqlite", "seller.sqlite-wal", "seller.sqlite-shm"), 0o600
    )
    assert modes_in(tmp_path)["seller.sqlite"] == 0o600


async def test_opening_again_keeps_everything(tmp_path: Path) -> None:
    """Migrations that ran are not run again, and no row is lost."""
    path = tmp_path / "seller.sqlite"
    seen = []
    for _ in range(2):
        database = Database(path, StillClock())
        try:
            await stock(database)
            seen.append(await database.read(count_rows))
        finally:
            database.close()
    assert seen[0] == seen[1]
    assert seen[0]["coin"] == 2


def test_the_file_of_each_migration_is_named_by_its_revision() -> None:
    """What is known, and what is the newest, is read off the names, without loading Alembic."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    scripts = ScriptDirectory.from_config(config)
    assert {script.revision for script in scripts.walk_revisions()} == schema.known_revisions()
    assert scripts.get_current_head() == max(schema.known_revisions())


def test_a_database_of_an_older_program_is_brought_up_to_date(path: Path) -> None:
    """A file that Alembic has not seen, or one that it noted nothing in, gets every migration."""
    for left in ("alembic_version", "nothing"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            for name in TABLES - {left}:
                connection.execute(f"DROP TABLE {name}")
            if left == "alembic_version":
                connection.execute("DELETE FROM alembic_version")
            connection.commit()
        Database(path, StillClock()).close()
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            assert {name for (name,) in rows} >= TABLES


def test_an_older_database_keeps_its_rows(tmp_path: Path) -> None:
    """The indexes of what is live come to a file of the first schema, over what is in it."""
    path = tmp_path / "older.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for txid in ("a", "b"):
            connection.execute(
                text(
                    "INSERT INTO reserved_outpoint (txid, vout, owner_txid, live) "
                    "VALUES (:t, 0, 'o', 1)"
                ),
                {"t": txid},
            )
    engine.dispose()
    Database(path, StillClock()).close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT txid, live FROM reserved_outpoint").fetchall()
        assert rows == [("a", 1), ("b", 1)]
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(
                "INSERT INTO reserved_outpoint (txid, vout, owner_txid, live) VALUES ('a',0,'p',1)"
            )


def test_a_database_of_a_newer_program_is_refused_and_left_alone(path: Path) -> None:
    """The message names the file, both schemas and the remedy; nothing is written."""
    with closing(sqlite3.connect(path)) as connection:
        [(known,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(SettingsError) as caught:
        Database(path, StillClock())
    told = str(caught.value)
    assert str(path) in told
    assert "newer program" in told
    assert "9999" in told
    assert known in told
    assert "Traceback" not in told
    assert path.read_bytes() == before


def test_a_database_with_two_revisions_is_refused(path: Path) -> None:
    """Somebody merged two by hand; which tables are in it cannot be said."""
    with closing(sqlite3.connect(path)) as connection:
        [(known,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    with pytest.raises(SettingsError, match=f"{known}, 9999"):
        Database(path, StillClock())


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A mistyped path must not cost the operator a file."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but something dear to somebody\n" * 40)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=r"notes\.txt cannot be used: file is not a database"):
        Database(path, StillClock())
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A directory in its place, or a file where a directory should be."""
    with pytest.raises(SettingsError, match="cannot be opened: Is a directory"):
        Database(tmp_path, StillClock())
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be opened"):
        Database(tmp_path / "file" / "seller.sqlite", StillClock())


def test_a_database_that_others_can_read_is_closed_to_them(path: Path) -> None:
    """Restored from a backup with the usual umask, for instance."""
    path.chmod(0o644)
    Database(path, StillClock()).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def at_revision(path: Path, revision: str) -> None:
    """An empty database as an older program left it."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


async def test_transactions_that_replaced_others_become_families(tmp_path: Path) -> None:
    """Each is named by its first version, in whichever order rows lie; nothing else changes."""
    path = tmp_path / "seller.sqlite"
    at_revision(path, "0001")
    replaced = {"a": None, "c": "b", "b": "a", "d": "a", "x": None, "y": "x", "alone": None}
    insert = (
        "INSERT INTO own_tx (txid, purpose, raw, state, fee_sats, vsize, created_at, "
        "signed_height, height, replaces) VALUES (?, 1, ?, 4, 49, 483, 7, 100, 101, ?)"
    )
    with closing(sqlite3.connect(path)) as connection:
        for txid, older in replaced.items():
            connection.execute(insert, (txid, txid.encode(), older))
        before = connection.execute("SELECT * FROM own_tx ORDER BY rowid").fetchall()
        connection.commit()
    database = Database(path, StillClock())
    try:
        rows = await database.read(lambda s: s.execute(text("SELECT * FROM own_tx")).all())
        stored = {row.txid: row.family for row in rows}
        assert stored == {
            "a": "a", "b": "a", "c": "a", "d": "a", "x": "x", "y": "x", "alone": "alone",
        }  # fmt: skip
        assert [tuple(row)[: len(before[0])] for row in rows] == before
        assert await database.read(
            lambda s: [row.txid for row in transactions.versions(s, "a")]
        ) == [
            "a",
            "c",
            "b",
            "d",
        ]
        count = "SELECT count(*) FROM pragma_foreign_key_check"
        assert await database.read(lambda s: s.scalar(text(count))) == 0
    finally:
        database.close()


async def test_a_database_of_schema_0005_keeps_its_requests_and_what_is_reserved(
    tmp_path: Path,
) -> None:
    """Made by the program of that time: swap 0 has a funding, 1 failed, 2 and 3 wait.

    Of its two confirmed transactions the second could not be read.
    """
    path = tmp_path / "seller.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "database_0005.sql").read_text())
        [(amount, lbtc_sats)] = connection.execute(
            "SELECT sum(asset_amount), sum(lbtc_sats) FROM reservation"
        )
    unread = txid_of(42)
    database = Database(path, StillClock())

    def look(session: Transaction) -> None:
        assert [swap.key_index for swap in swaps.waiting(session, 9)] == [2, 3]
        assert coins.reservable(session, ASSET) == 10_000 - amount
        assert coins.reservable_lbtc(session, POLICY_ASSET) == 100_000 - lbtc_sats
        for number in range(4):
            swap, is_new = swaps.create(session, new_swap(make_request(number)))
            assert (swap.key_index, is_new) == (number, False)
            with pytest.raises(RequestConflict):
                swaps.create(session, new_swap(make_request(number, asset_amount=7)))
        assert transactions.unread_txids(session) == {unread}
        assert [row.txid for row in transactions.moving(session, above_height=1_000)] == [unread]
        names = set(session.scalars(text("SELECT name FROM cursor")))
        assert names == {"buried_height", "next_swap_index"}

    try:
        await database.write(look)
    finally:
        database.close()
