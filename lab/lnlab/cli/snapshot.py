"""`lnlab snapshot`: keep the state of a lab with real nodes, and go back to it."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from lnlab import snapshot
from lnlab.cli.base import DEFAULT_DIRECTORY, AsJson, Directory, command, show
from lnlab.cli.up import Options, bring_up, print_lab, write_environment
from lnlab.lab import Kind, absolute
from lnlab.nodes import record

app = typer.Typer(
    no_args_is_help=True, help="Keep the state of a lab with real nodes, and go back to it."
)

Name = Annotated[str, typer.Argument(help="Name of the snapshot: letters, digits, . _ -")]


@app.command("save")
@command
async def save(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Stop the lab, copy its data to DIR.snapshots/NAME, let the lab go on.

    Example: `lnlab snapshot save funded`
    """
    path = absolute(directory)
    ran = (path / record.FILE_NAME).exists()
    kind, options = _kind_of(path), Options.load(path)
    place = snapshot.save(path, name, replace=force)
    text = f"saved {name} in {place}"
    if ran:
        lab, daemon = await bring_up(path, kind, options, fresh=False, console=_console())
        write_environment(lab, daemon)  # its ports are the same, if they were still free
        if daemon is not None:
            await daemon.close()
        await lab.close()
        text += "; the lab runs again"
    show(text, {"saved": name, "place": str(place), "running": ran}, as_json=as_json)


@app.command("load")
@command
async def load(
    name: Name, directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False
) -> None:
    """Replace the lab by a snapshot of it, and start it. What the lab held is lost.

    Example: `lnlab snapshot load funded`
    """
    path = absolute(directory)
    kind = cast(Kind, snapshot.load(path, name))
    options = Options.load(path)
    lab, daemon = await bring_up(path, kind, options, fresh=False, console=_console())
    try:
        await print_lab(lab, daemon, directory, options.block_every_secs, as_json=as_json)
    finally:
        if daemon is not None:
            await daemon.close()
        await lab.close()


@app.command("list")
@command
def listed(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """List the snapshots of the lab.

    Example: `lnlab snapshot list`
    """
    found = snapshot.names(absolute(directory))
    show("\n".join(found) or "no snapshots", {"snapshots": found}, as_json=as_json)


@app.command("remove")
@command
def remove(name: Name, directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Remove a snapshot.

    Example: `lnlab snapshot remove funded`
    """
    snapshot.remove(absolute(directory), name)
    show(f"removed {name}", {"removed": name}, as_json=as_json)


def _kind_of(path: Path) -> Kind:
    kind = record.stopped_kind(path)
    return cast(Kind, record.load(path).kind if kind is None else kind)


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)
