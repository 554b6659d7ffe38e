"""What the ``lnlab`` commands do and print; ``lnlab.cli`` only declares their options."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

import typer
from embit.script import address_to_scriptpubkey
from rich.console import Console
from rich.markup import escape

from lnlab.lab import Lab, absolute
from lnlab.lab_directory import MARKER, save_container_logs
from lnlab.lab_directory import wipe as wipe_files
from lnlab.nodes import record
from lnlab.nodes.children import is_alive, log_tail
from lnlab.nodes.compose import NODES
from lnlab.nodes.electrum import ElectrumCallError, electrum_call
from lnlab.nodes.record import POLICY_ASSET, NodesRecord
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError

ISSUE_UNITS = 1_000_000 * 100_000_000
"""How much of a new ticker the faucet issues, in smallest units."""


class NodesKind(StrEnum):
    """Kinds of nodes that ``up`` starts."""

    EMBEDDED = "embedded"
    PROCESS = "process"
    COMPOSE = "compose"


def show(text: object, data: dict[str, Any], *, as_json: bool) -> None:
    """Print ``data`` as JSON, or else ``text`` (anything rich prints)."""
    if as_json:
        typer.echo(json.dumps(data))
    else:
        Console(highlight=False, soft_wrap=True).print(text)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Print ``message`` to standard error and end the program."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"error: {message}", style="red", markup=False
    )
    raise typer.Exit(code)


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


async def status(directory: Path, *, as_json: bool) -> None:
    """Print processes, endpoints, chain and faucet; exit code 1 unless all of it works."""
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


async def mine(directory: Path, blocks: int, *, as_json: bool) -> None:
    """Mine blocks and print the new height."""
    async with await Lab.attach(directory) as lab:
        hashes = await lab.mine(blocks)
        tip = await lab.tip()
    text = f"mined {blocks}, height is now {tip.height}"
    show(text, {"blocks": hashes, "height": tip.height}, as_json=as_json)


async def faucet(
    directory: Path, address: str, amount: int, asset: str, *, mine: bool, as_json: bool
) -> None:
    """Pay ``amount`` smallest units of ``asset`` to ``address``; print the txid."""
    script = script_of(address)
    async with await Lab.attach(directory) as lab:
        asset_id = await asset_id_of(lab, asset)
        txid = await lab.faucet.fund(script, [(asset_id, amount)])
        if mine:
            await lab.mine()
    confirmed = "confirmed" if mine else "not confirmed yet"
    show(
        f"paid {amount} of {asset} to {address}: {txid} ({confirmed})",
        {"txid": txid, "vout": 0, "asset": asset_id, "amount": amount, "mined": mine},
        as_json=as_json,
    )


async def asset_id_of(lab: Lab, name: str) -> str:
    """Return the asset id for ``lbtc``, an id or a ticker; a new ticker is issued and mined."""
    if name.lower() in ("lbtc", "l-btc"):
        return POLICY_ASSET
    if len(name) == 64:
        return name.lower()
    known = lab.faucet.assets().get(name)
    if known is None:
        known = await lab.faucet.issue(name, ISSUE_UNITS)
        await lab.mine()
    return known


def script_of(address: str) -> bytes:
    """Return an address's script. Raises ValueError for anything but ``ert1…``."""
    try:
        if not address.startswith("ert1"):
            raise ValueError
        return bytes(address_to_scriptpubkey(address).data)
    except Exception:  # embit raises whatever its decoder meets
        raise ValueError(
            f"{address} is no unblinded address of this chain: it should start with ert1"
        ) from None


def logs(directory: Path, name: str | None, lines: int, *, as_json: bool) -> None:
    """Print the ends of the lab's log files. Raises NoLabError when there are none of that name."""
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
