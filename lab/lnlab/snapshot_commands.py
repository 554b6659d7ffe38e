"""What `lnlab snapshot` does and prints; ``lnlab.cli`` adds it to the command line."""

from pathlib import Path
from typing import cast

from rich.console import Console

from lnlab import snapshot
from lnlab.commands import show
from lnlab.lab import Kind, absolute
from lnlab.nodes import record
from lnlab.up import Options, bring_up, print_lab, write_environment


async def save(directory: Path, name: str, *, replace: bool, as_json: bool) -> None:
    """Take a snapshot; a lab that ran goes on afterwards."""
    path = absolute(directory)
    ran = (path / record.FILE_NAME).exists()
    kind, options = _kind_of(path), Options.load(path)
    place = snapshot.save(path, name, replace=replace)
    text = f"saved {name} in {place}"
    if ran:
        lab, daemon = await bring_up(path, kind, options, fresh=False, console=_console())
        write_environment(lab, daemon)  # its ports are the same, if they were still free
        if daemon is not None:
            await daemon.close()
        await lab.close()
        text += "; the lab runs again"
    show(text, {"saved": name, "place": str(place), "running": ran}, as_json=as_json)


async def load(directory: Path, name: str, *, as_json: bool) -> None:
    """Put a snapshot back and start it."""
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


def listed(directory: Path, *, as_json: bool) -> None:
    """Print the names of the snapshots."""
    found = snapshot.names(absolute(directory))
    show("\n".join(found) or "no snapshots", {"snapshots": found}, as_json=as_json)


def remove(directory: Path, name: str, *, as_json: bool) -> None:
    """Remove a snapshot."""
    snapshot.remove(absolute(directory), name)
    show(f"removed {name}", {"removed": name}, as_json=as_json)


def _kind_of(path: Path) -> Kind:
    kind = record.stopped_kind(path)
    return cast(Kind, record.load(path).kind if kind is None else kind)


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)
