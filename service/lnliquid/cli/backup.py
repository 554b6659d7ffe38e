"""The command `lnliquid backup`. It works beside a running daemon and without one."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lnliquid.cli import console
from lnliquid.cli.options import ConfigOption, JsonOption, epilog
from lnliquid.clock import SystemClock
from lnliquid.config import load_settings
from lnliquid.domain.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, StoreFailure
from lnliquid.store.backup import Backup, take_backup
from lnliquid.threads import within

BACKUP_SECS = 3_600.0
"""Longer than any copy takes on a disk that answers."""

EPILOG = epilog(
    "backup /mnt/other-disk --config seller.toml --keep 14",
    codes={
        EXIT_OK: "done: the copy is complete, checked and on the disk",
        EXIT_FAILED: "no backup was made: the copy could not be written or read, or is damaged",
        EXIT_USAGE: "wrong usage or settings, no such directory",
    },
)


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    cli.command("backup", epilog=EPILOG, rich_help_panel="Operator")(backup)


def backup(
    directory: Annotated[
        Path, typer.Argument(help="Where the backup goes. It must exist: mount the disk first.")
    ],
    config: ConfigOption = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Then remove older backups there, all but this many."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the live database, check the copy, and put it there as a new file of mode 0600.

    The mnemonic is not in it. `lnliquid restore FILE` puts it in place.
    """
    with console.clean_errors(as_json):
        database = load_settings(config).database
        try:
            done = _taken(database, directory, keep)
        except StoreFailure as error:
            error.exit_code = EXIT_FAILED
            raise
    if database.stat().st_dev == done.path.stat().st_dev:
        console.say("note: it is on the same file system as the database and may die with it")
    if as_json:
        values = asdict(done) | {"path": str(done.path), "removed": [str(p) for p in done.removed]}
        console.show_json(values)
        return
    console.show(
        f"wrote {done.path}, {done.size_bytes} bytes, checked: {done.swaps} swaps, "
        f"last event {done.last_event}, schema {done.revision}"
    )
    for path in done.removed:
        console.show(f"removed {path}")


def _taken(database: Path, directory: Path, keep: int | None) -> Backup:
    """See `take_backup`. It does not wait for a disk that hangs: the WAL would grow meanwhile."""
    now = SystemClock().now()
    try:
        return within(BACKUP_SECS, lambda: take_backup(database, directory, now, keep), "backup")
    except TimeoutError:
        raise StoreFailure(
            f"no backup after {BACKUP_SECS / 60:g} minutes: does a disk hang? What is begun of it "
            f"is in {directory}, its name ends in .part"
        ) from None
