"""The command `lnliquid backup`. It works beside a running daemon and without one."""

import time
from pathlib import Path
from typing import Annotated

import typer

from lnliquid.buyer import terminal
from lnliquid.errors import StoreFailure
from lnliquid.operator_options import ConfigOption, JsonOption
from lnliquid.settings import load_settings
from lnliquid.store.backup import Backup, take_backup

EXIT_FAILED = 1
EPILOG = """\b
Example:
  lnliquid backup /mnt/other-disk --config seller.toml --keep 14

\b
Exit codes:
  0  done: the copy is complete, checked and on the disk
  1  no backup was made: the copy could not be written or read, or is damaged
  2  wrong usage or settings, no such directory"""


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
    with terminal.clean_errors(as_json):
        database = load_settings(config).database
        try:
            done = take_backup(database, directory, int(time.time()), keep)
        except StoreFailure as error:
            terminal.say(str(error), style="red")
            if as_json:
                terminal.show_json({"error": str(error), "exit_code": EXIT_FAILED})
            raise typer.Exit(EXIT_FAILED) from None
    if database.stat().st_dev == done.path.stat().st_dev:
        terminal.say("note: it is on the same file system as the database and may die with it")
    if as_json:
        terminal.show_json(as_values(done))
    else:
        _show(done)


def as_values(done: Backup) -> dict[str, object]:
    """The backup as JSON."""
    return {
        "path": str(done.path),
        "size_bytes": done.size_bytes,
        "revision": done.revision,
        "swaps": done.swaps,
        "last_event": done.last_event,
        "removed": [str(path) for path in done.removed],
    }


def _show(done: Backup) -> None:
    terminal.show(
        f"wrote {done.path}, {done.size_bytes} bytes, checked: {done.swaps} swaps, "
        f"last event {done.last_event}, schema {done.revision}"
    )
    for path in done.removed:
        terminal.show(f"removed {path}")
