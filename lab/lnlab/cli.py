"""``lnlab``: start, look at and end a regtest lab from the command line.

Each command works on the lab in ``--dir`` and takes ``--json`` for output that programs read.
"""

from enum import StrEnum
from typing import Annotated

import typer

from lnlab import commands, shell_command, snapshot_cli, trouble_commands
from lnlab.cli_base import DEFAULT_DIRECTORY, EXPECTED_ERRORS, AsJson, Directory, run
from lnlab.commands import fail, show
from lnlab.demo import demo as run_demo
from lnlab.lab import end_lab
from lnlab.nodes.record import stopped_kind
from lnlab.up import Options
from lnlab.up import up as run_up

app = typer.Typer(
    help="A regtest lab: Liquid chain, Electrum server and two Lightning nodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class UpNodes(StrEnum):
    """Kinds of nodes that ``up`` takes."""

    EMBEDDED = "embedded"
    PROCESS = "process"
    COMPOSE = "compose"
    AUTO = "auto"


@app.command()
def up(
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
    """Have a lab with a seller daemon; print every endpoint and what to type next.

    One that runs is left as it is. One that `lnlab down` ended goes on, if its nodes are real ones.

    Example: `lnlab up --dir /tmp/lab --block-every 10`
    """
    run(
        run_up(
            directory,
            None if nodes is UpNodes.AUTO else commands.NodesKind(nodes.value).value,
            Options(block_every_secs=block_every, with_seller=seller, proxies=proxies),
            fresh=fresh,
            foreground=foreground,
            as_json=as_json,
        )
    )


@app.command()
def down(
    directory: Directory = DEFAULT_DIRECTORY,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove its data and logs too.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the lab, whatever state it is in. Doing it again does nothing.

    Data and logs stay; with real nodes `lnlab up` goes on from there.

    Example: `lnlab down --wipe`
    """
    try:
        ended = end_lab(directory, can_go_on=not wipe)
    except EXPECTED_ERRORS as error:
        fail(str(error))
    text = f"ended {', '.join(ended)}" if ended else f"no lab was running in {directory}"
    if wipe:
        if commands.wipe_directory(directory):
            text += "; its data and logs are removed"
    elif stopped_kind(directory) is not None:
        text += "; `lnlab up` goes on with it, `lnlab down --wipe` removes it"
    show(text, {"ended": ended, "wiped": wipe}, as_json=as_json)


@app.command()
def status(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Say what runs, where it listens and how high the chain is. Exit code 1 if not all runs.

    Example: `lnlab status --json`
    """
    run(commands.status(directory, as_json=as_json))


@app.command()
def mine(
    blocks: Annotated[int, typer.Argument(min=1, max=10_000, help="How many.")] = 1,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Mine blocks and wait until the Electrum server has them.

    Example: `lnlab mine 6`
    """
    run(commands.mine(directory, blocks, as_json=as_json))


@app.command()
def faucet(
    address: Annotated[str, typer.Argument(help="Unblinded regtest address (ert1…).")],
    amount: Annotated[int, typer.Argument(min=1, help="In the asset's smallest units.")],
    asset: Annotated[
        str, typer.Option(help="`lbtc`, an asset id, or a ticker; a new ticker is issued.")
    ] = "lbtc",
    no_mine: Annotated[bool, typer.Option("--no-mine", help="Leave it unconfirmed.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Pay coins to an address and mine a block.

    Example: `lnlab faucet ert1q… 100000 --asset DEMO`
    """
    run(commands.faucet(directory, address, amount, asset, mine=not no_mine, as_json=as_json))


@app.command()
def reorg(
    depth: Annotated[int, typer.Argument(min=1, max=100, help="Newest blocks to replace.")],
    blocks: Annotated[
        int | None, typer.Option(min=1, help="New blocks; one more than the old if left out.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Txid to leave out of the new blocks; repeatable.")
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Replace the newest blocks by others; what they held goes back to the mempool.

    Example: `lnlab reorg 3 --blocks 4`
    """
    run(trouble_commands.reorg(directory, depth, blocks, drop or [], as_json=as_json))


@app.command()
def fault(
    place: Annotated[str, typer.Argument(help="electrum, lightning, buyer-lightning; or status.")],
    what: Annotated[
        str,
        typer.Argument(
            help="none, refuse, hang, delay, cut; electrum: drop, duplicate, lag, behind; "
            "lightning: hold, release, fail (payments)."
        ),
    ] = "none",
    secs: Annotated[float, typer.Option(min=0, help="Of a delay.")] = 1.0,
    count: Annotated[int, typer.Option(min=1, help="Payments to fail.")] = 1,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Make a backend misbehave, in a lab started with `lnlab up --proxies`.

    Example: `lnlab fault electrum hang`
    """
    run(trouble_commands.fault(directory, place, what, secs, count, as_json=as_json))


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="Process; all of them if left out.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of each.")] = 20,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Print the last log lines of the lab's processes, running or dead.

    Example: `lnlab logs nodes -n 50`
    """
    try:
        commands.logs(directory, name, lines, as_json=as_json)
    except EXPECTED_ERRORS as error:
        fail(str(error))


@app.command()
def shell(
    service: Annotated[
        str | None, typer.Argument(help="Container; without it, a shell for the whole lab.")
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Open a shell in a container of the lab, or one with the lab's variables and programs.

    Example: `lnlab shell elementsd`
    """
    try:
        shell_command.shell(directory, service)
    except EXPECTED_ERRORS as error:
        fail(str(error))


app.add_typer(snapshot_cli.app, name="snapshot")


@app.command()
def demo(
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind,
        typer.Option(help="In one process, real programs on PATH, or containers."),
    ] = commands.NodesKind.EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Start a lab and the seller, sell an asset over Lightning, show every step, end the lab.

    Example: `lnlab demo --nodes process`
    """
    result = run(run_demo(directory, nodes.value))
    if as_json:
        show("", result, as_json=True)


@app.command()
def storm(
    swaps: Annotated[int, typer.Option(min=1, help="Distinct requests.")] = 200,
    clients: Annotated[
        int, typer.Option(min=0, help="Buyers at once; 0: as many as there are calls.")
    ] = 0,
    duplicate_rate: Annotated[
        float, typer.Option(min=0, max=5, help="Further calls that repeat a request id.")
    ] = 0.2,
    kill_every: Annotated[
        float | None,
        typer.Option(min=0.5, help="Kill the daemon whenever it was up for so many seconds."),
    ] = None,
    inventory_for: Annotated[
        int | None, typer.Option(min=1, help="Stock for this many swaps; enough if left out.")
    ] = None,
    lanes: Annotated[int, typer.Option(min=1, max=20, help="Coin pairs of the seller.")] = 4,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Give up after so many seconds.")] = 300,
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind,
        typer.Option(help="In one process, real programs on PATH, or containers."),
    ] = commands.NodesKind.EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Start a lab and a seller, let very many buyers loose on it, check everything, end the lab.

    Example: `lnlab storm --swaps 1000 --duplicate-rate 0.2 --kill-every 2`
    """
    # Loaded by the commands that play scenarios alone, as below.
    from lnlab.scenarios.storm_parts import StormPlan
    from lnlab.storm_command import run_storm

    plan = StormPlan(
        swaps=swaps,
        clients=clients,
        duplicate_rate=duplicate_rate,
        kill_every_secs=kill_every,
        inventory_for=inventory_for,
        lanes=lanes,
        seed=seed,
        timeout_secs=timeout,
    )
    run(run_storm(directory, nodes.value, plan, as_json=as_json))


scenario_app = typer.Typer(no_args_is_help=True, help="Play whole flows with their checks.")
app.add_typer(scenario_app, name="scenario")


@scenario_app.command("list")
def scenario_list(as_json: AsJson = False) -> None:
    """List the scenarios and what each shows.

    Example: `lnlab scenario list`
    """
    from lnlab import scenario_command

    scenario_command.list_scenarios(as_json=as_json)


@scenario_app.command("run")
def scenario_run(
    names: Annotated[list[str] | None, typer.Argument(help="All of them if left out.")] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind,
        typer.Option(help="In one process, real programs on PATH, or containers."),
    ] = commands.NodesKind.EMBEDDED,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Start a lab and a seller, play scenarios, end the lab. Exit code 1 when one fails.

    After each one every node is checked and the audit must balance. When one fails its lab's data
    and logs are kept.

    Example: `lnlab scenario run refund late-payment --nodes process`
    """
    from lnlab import scenario_command

    run(scenario_command.run_scenarios(directory, names or [], nodes.value, seed, as_json=as_json))


def main() -> None:
    """Run the command line (the ``lnlab`` script)."""
    app()
