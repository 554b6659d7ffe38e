"""The command `lnliquid restore`: the replica or a backup in the place of a lost database."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lnliquid.cli import console
from lnliquid.cli.options import ConfigOption, JsonOption
from lnliquid.clock import SystemClock
from lnliquid.config import load_settings
from lnliquid.domain.errors import EXIT_FAILED, StoreFailure
from lnliquid.store.restore import restore as put_in_place
from lnliquid.store.single_instance import only_process

EPILOG = """\b
Example:
  lnliquid restore --config seller.toml
  lnliquid restore /mnt/other-disk/seller-20260101T000000Z.sqlite --config seller.toml

\b
Exit codes:
  0  done: the daemon can be started
  1  it could not be copied; nothing was changed
  2  wrong usage or settings, the daemon runs, or the file is not the newest copy"""


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    cli.command("restore", epilog=EPILOG, rich_help_panel="Operator")(restore)


def restore(
    source: Annotated[
        Path | None, typer.Argument(help="A backup; without it, the replica of the settings.")
    ] = None,
    config: ConfigOption = None,
    accept_older: Annotated[
        bool,
        typer.Option(
            "--accept-older",
            help="Also a copy that is older than what there was. Swaps made since are forgotten: "
            "what is locked for them is not refunded by this daemon.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the replica or a backup in the place of the database, while the daemon is stopped.

    What was there is kept under another name.
    """
    with console.clean_errors(as_json):
        settings = load_settings(config)
        try:
            with only_process(settings.database, settings.mnemonic_file):
                done = put_in_place(
                    settings.database,
                    settings.replica_path,
                    source,
                    SystemClock().now(),
                    accept_older=accept_older,
                )
        except StoreFailure as error:
            console.say(str(error), style="red")
            if as_json:
                console.show_json({"error": str(error), "exit_code": EXIT_FAILED})
            raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        values = asdict(done)
        values["kept"] = [str(path) for path in done.kept]
        console.show_json(values | {"database": str(done.database), "source": str(done.source)})
        return
    console.show(f"restored {done.database} from {done.source}, {done.commits} commits")
    for path in done.kept:
        console.show(f"kept what was there as {path}")
    console.show(
        "next: start the daemon, which reads chain and Lightning and takes in what happened since; "
        "then run `lnliquid audit`"
    )
