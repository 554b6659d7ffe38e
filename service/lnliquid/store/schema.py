"""The schema of a database file: which migration it is at, and how it is brought up to date."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from sqlalchemy import Connection, Engine

from lnliquid.domain.errors import SettingsError


def migrate(engine: Engine, path: Path) -> None:
    """Run the migrations that the file has not seen. Raises `SettingsError`."""
    known = known_revisions()
    with engine.connect() as connection:
        current = current_revision(connection)
    if current == max(known):
        return
    if current is not None and current not in known:
        raise SettingsError(
            (
                f"database {path} was written by a newer program (its schema is {current}, "
                f"the newest known here is {max(known)}); start the newer program, or restore "
                "a backup that belongs to this one",
            )
        )
    _upgrade(engine, path)


def _upgrade(engine: Engine, path: Path) -> None:
    # Alembic takes a quarter of a second to load, and most starts have nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(migrations()))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError((f"database {path} cannot be migrated: {error}",)) from None


def migrations() -> Traversable:
    """The folder of the migrations."""
    return files("lnliquid.store") / "migrations"


def known_revisions() -> set[str]:
    """Each migration's file is named by its revision: `0001_initial_tables.py`."""
    names = (file.name for file in (migrations() / "versions").iterdir())
    return {name.partition("_")[0] for name in names if name.endswith(".py")}


def current_revision(connection: Connection) -> str | None:
    """What Alembic noted in the file, None in one that it has not seen."""
    noted = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.exec_driver_sql(noted).first() is None:
        return None
    revisions = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars()
    # More than one is no work of ours; together they are none that is known.
    return ", ".join(sorted(revisions)) or None
