"""A lab as a whole: `lnlab down`, `status` and `logs`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lnlab.cli.base import DEFAULT_DIRECTORY, AsJson, Directory, show
from lnlab.lab import Lab, absolute, end_lab
from lnlab.lab_directory import MARKER, save_container_logs
from lnlab.lab_directory import wipe as wipe_files
from lnlab.nodes import record
from lnlab.nodes.children import is_alive, log_tail
from lnlab.nodes.compose import NODES
from lnlab.nodes.electrum import ElectrumCallError, electrum_call
from lnlab.nodes.record import NodesRecord, stopped_kind
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError


def endpoints(directory: Path, nodes: NodesRecord) -> dict[str, Any]:
    """Return what a user needs in order to reach the nodes."""
    return {
        "dir": str(directory),
        "kind": nodes.kind,
        "network": nodes.network,
        "electrum_url": nodes.electrum_url,
        "rpc_url": nodes.rpc_url,
        "rpc_user": nodes.rpc_user,
        "rpc_password": nodes.rpc_password,
        "lightning": nodes.lightning,
        "policy_asset": nodes.policy_asset,
        "proxied": nodes.proxied,
    }


def endpoint_rows(nodes: NodesRecord) -> list[tuple[str, str]]:
    """Return the endpoints as (what, where)."""
    return [
        ("Electrum server", nodes.electrum_url),
        ("elementsd RPC", f"{nodes.rpc_url} ({nodes.rpc_user}:{nodes.rpc_password})"),
        *((f"Lightning ({name})", path) for name, path in nodes.lightning.items()),
        ("L-BTC asset", nodes.policy_asset),
        *((f"By proxy: {name}", where) for name, where in nodes.proxied.items()),
    ]


def as_lines(rows: list[tuple[str, str]]) -> str:
    """Return rows as aligned lines; long values stay whole, for copying."""
    return "\n".join(f"{what:<26} {where}" for what, where in rows)


def wipe_directory(directory: Path) -> bool:
    """Remove a lab's directory with its data; one that is not a lab's is left alone: False."""
    if not (directory / MARKER).exists():
        return False
    wipe_files(directory)
    directory.rmdir()
    return True


def down(
    directory: Directory = DEFAULT_DIRECTORY,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove its data and logs too.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the lab, whatever state it is in. Doing it again does nothing.

    Data and logs stay; with real nodes `lnlab up` goes on from there.

    Example: `lnlab down --wipe`
    """
    ended = end_lab(directory, can_go_on=not wipe)
    text = f"ended {', '.join(ended)}" if ended else f"no lab was running in {directory}"
    if wipe:
        if wipe_directory(directory):
            text += "; its data and logs are removed"
    elif stopped_kind(directory) is not None:
        text += "; `lnlab up` goes on with it, `lnlab down --wipe` removes it"
    show(text, {"ended": ended, "wiped": wipe}, as_json=as_json)


async def status(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Say what runs, where it listens and how high the chain is. Exit code 1 if not all runs.

    Example: `lnlab status --json`
    """
    nodes = record.load(absolute(directory))
    alive = {process.name: is_alive(process) for process in nodes.processes}
    data: dict[str, Any] = endpoints(absolute(directory), nodes) | {"running": alive}
    rows = endpoint_rows(nodes)
    lab = Lab(absolute(directory), nodes)
    containers = {} if lab.containers is None else lab.containers.states()
    data["containers"] = {name: f"{one.status} {one.health}" for name, one in containers.items()}
    try:
        tip = await lab.tip()
        electrum_tip = await electrum_call(lab.electrum_url, "blockchain.headers.subscribe")
        data |= {"height": tip.height, "tip": tip.block_hash, "assets": lab.faucet.assets()}
        rows.append(("Height", f"{tip.height} (Electrum server: {electrum_tip['height']})"))
        for ticker, asset in lab.faucet.assets().items():
            rows.append((f"Asset {ticker}", asset))
    except (NodeRpcError, NodeUnreachableError, ElectrumCallError, OSError) as error:
        data["problem"] = str(error)
        rows.append(("Problem", f"[red]{escape(str(error))}[/]"))
    finally:
        await lab.close()
    for process in nodes.processes:
        state = "running" if alive[process.name] else "[red]not running[/], see lnlab logs"
        rows.append((f"Process {process.name}", f"{state} (pid {process.pid})"))
    for service, one in containers.items():
        alive[service] = one.status == "running"
        state = f"{one.status}, {one.health}" if one.health else one.status
        rows.append((f"Container {service}", f"{state if alive[service] else f'[red]{state}[/]'}"))
    if lab.containers is not None and (gone := [name for name in NODES if name not in containers]):
        data["problem"] = f"containers are gone: {', '.join(gone)}"
        rows.append(("Problem", f"[red]{data['problem']}[/]"))
    data["ok"] = all(alive.values()) and "problem" not in data
    show(as_lines(rows), data, as_json=as_json)
    if not data["ok"]:
        raise typer.Exit(1)


def logs(
    name: Annotated[str | None, typer.Argument(help="Process; all of them if left out.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of each.")] = 20,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Print the last log lines of the lab's processes, running or dead.

    Example: `lnlab logs nodes -n 50`
    """
    save_container_logs(directory)
    found = {path.stem: path for path in sorted(directory.glob("*.log"))}
    chosen = found if name is None else {key: found[key] for key in found if key == name}
    if not chosen:
        have = ", ".join(found) or "none"
        raise record.NoLabError(f"no log {name or ''} in {directory}; there are: {have}")
    if as_json:
        typer.echo(json.dumps({key: log_tail(path, lines) for key, path in chosen.items()}))
        return
    for key, path in chosen.items():
        typer.echo(f"==> {key} ({path})\n{log_tail(path, lines)}\n")
