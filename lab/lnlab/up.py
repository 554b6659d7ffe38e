"""`lnlab up`: nodes, a funded seller daemon, and a file that makes the next command short."""

import asyncio
import shlex
import sys
from pathlib import Path

from rich.console import Console

from lnlab.buyer import Buyer
from lnlab.commands import as_lines, endpoint_rows, endpoints, show
from lnlab.daemon import NAME, TICKER, SellerDaemon
from lnlab.lab import Kind, Lab

DIED_CHECK_SECS = 0.5
ENV_FILE = "env"
AMOUNT = 250_000_000


async def up(
    directory: Path,
    kind: Kind,
    block_every_secs: float | None,
    *,
    with_seller: bool,
    proxies: bool,
    foreground: bool,
    as_json: bool,
) -> None:
    """Start a lab and print its endpoints and what to type next.

    With ``proxies`` the seller's daemon reaches its backends through them, for `lnlab fault`.
    In the foreground, stay until interrupted or until something dies, and end the lab then.
    """
    console = Console(stderr=True)
    with console.status(f"starting {kind} nodes in {directory} …") as progress:
        lab = await Lab.start(
            directory, kind=kind, block_every_secs=block_every_secs, proxies=proxies
        )
        daemon = None
        try:
            if with_seller:
                progress.update("starting the seller daemon with an inventory …")
                daemon = await SellerDaemon.create(lab, coins=4, through_proxies=proxies)
            await _tell(lab, daemon, directory, block_every_secs, as_json=as_json)
        except BaseException:
            await lab.stop()
            raise
    try:
        while foreground:
            lab.check_alive()
            if daemon is not None:
                daemon.check_alive()
            await asyncio.sleep(DIED_CHECK_SECS)
    finally:
        if daemon is not None:
            await daemon.close()
        if foreground:
            await lab.stop()
        else:
            await lab.close()


async def _tell(
    lab: Lab,
    daemon: SellerDaemon | None,
    directory: Path,
    block_every_secs: float | None,
    *,
    as_json: bool,
) -> None:
    height = (await lab.tip()).height
    data = endpoints(lab.directory, lab.nodes) | {"height": height, "pids": lab.pids}
    rows = endpoint_rows(lab.nodes)
    if daemon is not None:
        data |= {"seller": daemon.address, "asset_id": daemon.asset_id, "seller_pid": daemon.pid}
        rows += [
            ("Seller daemon", f"{daemon.address} (process {daemon.pid}, log: lnlab logs {NAME})"),
            (f"Asset {TICKER}", daemon.asset_id),
        ]
    environment = _write_environment(lab, daemon)
    text = [
        f"[bold green]The lab is up[/] in {directory}, height {height}.",
        as_lines(rows),
        "",
        "Next:",
        f"  [bold]source {environment}[/]   (the programs, and the options of the commands below)",
    ]
    if daemon is not None:
        text.append(f"  [bold]lnliquid buy --amount {AMOUNT} --confs 1[/]")
        if block_every_secs is None:
            text.append("  [bold]lnlab mine[/]   in another terminal, when it waits for a block")
    else:
        text.append("  [bold]lnlab status[/]")
    text.append("End: lnlab down")
    show("\n".join(text), data, as_json=as_json)


def _write_environment(lab: Lab, daemon: SellerDaemon | None) -> Path:
    """Write what the shell needs; returns the file."""
    values = {"LNLAB_DIR": str(lab.directory)}
    if daemon is not None:
        values |= Buyer(daemon).options
        values["LNLIQUID_OPERATOR"] = daemon.operator_address
    lines = [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    path = lab.directory / ENV_FILE
    path.write_text("\n".join(lines) + "\n")
    return path
