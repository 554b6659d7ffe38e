"""`lnlab up`: nodes, a funded seller daemon, and a file that makes the next command short.

What runs already is left as it is; what was ended by `lnlab down` goes on if its nodes can.
"""

import asyncio
import json
import shlex
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import NAME, TICKER, SellerDaemon
from lnlab.cli.base import DEFAULT_DIRECTORY, AsJson, Directory, NodesKind, show
from lnlab.cli.lab import as_lines, endpoint_rows, endpoints
from lnlab.lab import Kind, Lab, LabDirectoryError, absolute, end_lab
from lnlab.lab_directory import starting
from lnlab.nodes import compose, record
from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.record import NoLabError, write_json

DIED_CHECK_SECS = 0.5
ENV_FILE = "env"
OPTIONS_FILE = "up.json"
AMOUNT = 250_000_000


class UpNodes(StrEnum):
    """Kinds of nodes that ``up`` takes."""

    EMBEDDED = "embedded"
    PROCESS = "process"
    COMPOSE = "compose"
    AUTO = "auto"


@dataclass(frozen=True)
class Options:
    """How a lab was asked for; kept in ``DIR/up.json`` to start it again alike."""

    block_every_secs: float | None = None
    with_seller: bool = True
    proxies: bool = False

    @classmethod
    def load(cls, directory: Path) -> "Options":
        """Return the options of the lab in ``directory``, the usual ones when there are none."""
        try:
            return cls(**json.loads((directory / OPTIONS_FILE).read_text()))
        except FileNotFoundError:
            return cls()


async def choose_kind(directory: Path) -> tuple[Kind, str]:
    """Return the kind of nodes for `--nodes auto`, and a sentence about it if it needs one.

    That of the lab that is there; else containers where they can start at once; else embedded.
    """
    for name in (record.FILE_NAME, record.STOPPED_NAME):
        try:
            kind = record.load(directory, name).kind
        except NoLabError:
            continue
        return cast(Kind, kind), ""
    reason = await compose.why_not(directory)
    if reason is None:
        return "compose", ""
    return "embedded", (
        f"embedded nodes, because containers cannot start at once ({reason}); "
        "`lnlab up --nodes compose` pulls and builds what it can"
    )


async def up(
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        UpNodes,
        typer.Option(
            help="In one process; real programs on PATH; in containers; auto: containers if they "
            "can start at once, else embedded."
        ),
    ] = UpNodes.EMBEDDED,
    block_every: Annotated[
        float | None, typer.Option(min=0.05, help="Mine a block every so many seconds.")
    ] = None,
    seller: Annotated[
        bool, typer.Option("--seller/--no-seller", help="Start a funded seller daemon too.")
    ] = True,
    proxies: Annotated[
        bool, typer.Option("--proxies", help="Put the proxies of `lnlab fault` before the nodes.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where a lab was ended and could go on.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay, and end the lab on Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a lab with a seller daemon; print every endpoint and what to type next.

    One that runs is left as it is. One that `lnlab down` ended goes on, if its nodes are real ones.

    Example: `lnlab up --dir /tmp/lab --block-every 10`
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    path = absolute(directory)
    options = Options(block_every_secs=block_every, with_seller=seller, proxies=proxies)
    kind: Kind
    if nodes is not UpNodes.AUTO:
        kind = NodesKind(nodes.value).value
    else:
        kind, remark = await choose_kind(path)
        if remark:
            console.print(remark, markup=False)
    lab, daemon = await bring_up(path, kind, options, fresh=fresh, console=console)
    try:
        await print_lab(lab, daemon, directory, options.block_every_secs, as_json=as_json)
        while foreground:
            lab.check_alive()
            if daemon is not None:
                daemon.check_alive()
            await asyncio.sleep(DIED_CHECK_SECS)
    finally:
        if daemon is not None:
            await daemon.close()
        await lab.close()
        if foreground:
            end_lab(path, can_go_on=True)


async def bring_up(
    path: Path, kind: Kind, options: Options, *, fresh: bool, console: Console
) -> tuple[Lab, SellerDaemon | None]:
    """Return the lab in ``path`` and its seller: as they run, going on, or new with ``fresh``.

    Raises LabDirectoryError when a lab with other nodes runs there.
    """
    with starting(path):
        running = None if fresh else await _attached(path, kind)
        if running is not None:
            daemon = await _seller(running, options) if options.with_seller else None
            return running, daemon
        resume = not fresh and record.stopped_kind(path) == kind
        verb = "going on with" if resume else "starting"

        def tell(line: str) -> None:
            console.print(line, style="dim", markup=False)

        with console.status(f"{verb} {kind} nodes in {path} …") as progress:
            lab = await Lab.start(
                path,
                kind=kind,
                block_every_secs=options.block_every_secs,
                proxies=options.proxies,
                resume=resume,
                tell=tell,
            )
            try:
                daemon = None
                if options.with_seller:
                    progress.update("starting the seller daemon with an inventory …")
                    daemon = await _seller(lab, options)
                    tell(f"{NAME}: ready ({daemon.where})")
                write_json(path / OPTIONS_FILE, asdict(options))
            except BaseException:
                await lab.close()
                end_lab(path, can_go_on=resume)
                raise
        return lab, daemon


async def _attached(path: Path, kind: Kind) -> Lab | None:
    """The lab that runs in ``path``; None when there is none, or one that is dead in part."""
    try:
        lab = await Lab.attach(path)
    except NoLabError:
        return None
    except NodeDiedError:
        if record.load(path).kind != kind or kind == "embedded":
            raise
        end_lab(path, can_go_on=True)
        return None
    if lab.nodes.kind != kind:
        await lab.close()
        raise LabDirectoryError(
            f"a lab with {lab.nodes.kind} nodes is running in {path}: end it with `lnlab down`"
        )
    return lab


async def _seller(lab: Lab, options: Options) -> SellerDaemon:
    """The lab's seller daemon, started if it does not run, made if there is none yet."""
    daemon = SellerDaemon(lab, through_proxies=options.proxies or bool(lab.nodes.proxied))
    if not daemon.config.exists():
        await daemon.close()
        return await SellerDaemon.create(lab, coins=4, through_proxies=options.proxies)
    await daemon.reopen()
    return daemon


async def print_lab(
    lab: Lab,
    daemon: SellerDaemon | None,
    directory: Path,
    block_every_secs: float | None,
    *,
    as_json: bool,
) -> None:
    """Print the endpoints of a lab and what to type next; write them to its file for the shell."""
    height = (await lab.tip()).height
    data = endpoints(lab.directory, lab.nodes) | {"height": height, "pids": lab.pids}
    rows = endpoint_rows(lab.nodes)
    if daemon is not None:
        data |= {"seller": daemon.address, "asset_id": daemon.asset_id}
        data |= {"seller_pid": daemon.pid, "seller_runs_as": daemon.where}
        rows += [
            ("Seller daemon", f"{daemon.address} ({daemon.where}, log: lnlab logs {NAME})"),
            (f"Asset {TICKER}", daemon.asset_id),
        ]
    environment = write_environment(lab, daemon)
    text = [
        f"[bold green]The lab is up[/] in {directory}, height {height}, {lab.nodes.kind} nodes.",
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


def write_environment(lab: Lab, daemon: SellerDaemon | None) -> Path:
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
