"""``lnlab snapshot``: declares the options of its commands."""

from typing import Annotated

import typer

from lnlab import snapshot_commands
from lnlab.cli_base import DEFAULT_DIRECTORY, EXPECTED_ERRORS, AsJson, Directory, run
from lnlab.commands import fail

app = typer.Typer(
    no_args_is_help=True, help="Keep the state of a lab with real nodes, and go back to it."
)

Name = Annotated[str, typer.Argument(help="Of the snapshot: letters, digits, . _ -")]


@app.command("save")
def save(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Stop the lab, copy its data to DIR.snapshots/NAME, let the lab go on.

    Example: `lnlab snapshot save funded`
    """
    run(snapshot_commands.save(directory, name, replace=force, as_json=as_json))


@app.command("load")
def load(name: Name, directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Replace the lab by a snapshot of it, and start it. What the lab held is lost.

    Example: `lnlab snapshot load funded`
    """
    run(snapshot_commands.load(directory, name, as_json=as_json))


@app.command("list")
def listed(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """List the snapshots of the lab.

    Example: `lnlab snapshot list`
    """
    snapshot_commands.listed(directory, as_json=as_json)


@app.command("remove")
def remove(name: Name, directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Remove a snapshot.

    Example: `lnlab snapshot remove funded`
    """
    try:
        snapshot_commands.remove(directory, name, as_json=as_json)
    except EXPECTED_ERRORS as error:
        fail(str(error))
