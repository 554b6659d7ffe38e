"""``lnlab``: start, look at and end a regtest lab from the command line.

Each command works on the lab in ``--dir`` and takes ``--json`` for output that programs read.
"""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lnlab import commands, trouble_commands
from lnlab.commands import fail, show
from lnlab.demo import demo as run_demo
from lnlab.faucet import FaucetError
from lnlab.faults import FaultError
from lnlab.lab import LabDirectoryError, end_lab
from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.process import MissingProgramError
from lnlab.nodes.record import NoLabError
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError
from lnlab.programs import ProgramError
from lnlab.scenarios.sale import ScenarioError
from lnlab.scenarios.storm_parts import StormPlan
from lnlab.storm_command import run_storm
from lnlab.up import up as run_up
from lnlab.wait import WaitTimeoutError

T = TypeVar("T")

EXPECTED_ERRORS = (
    FaucetError,
    FaultError,
    LabDirectoryError,
    MissingProgramError,
    NoLabError,
    NodeDiedError,
    NodeRpcError,
    NodeUnreachableError,
    ProgramError,
    ScenarioError,
    WaitTimeoutError,
    ValueError,
)
"""What goes wrong in ways a user understands: one message and exit code 1, no traceback."""

app = typer.Typer(
    help="A regtest lab: Liquid chain, Electrum server and two Lightning nodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Directory = Annotated[
    Path, typer.Option("--dir", help="Directory of the lab.", envvar="LNLAB_DIR", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
DEFAULT_DIRECTORY = Path(".lab")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; expected errors end the program with a message and exit code 1.

    Ctrl-C and SIGTERM cancel the work, which cleans up after itself. SIGINT is asked for by name:
    a shell that starts a command in the background has it ignored.
    """
    asked: list[signal.Signals] = []

    async def until_asked() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            asked.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await work

    try:
        return asyncio.run(until_asked())
    except EXPECTED_ERRORS as error:
        fail(str(error))
    except asyncio.CancelledError:
        number = asked[0] if asked else signal.SIGTERM
        what = "interrupted" if number is signal.SIGINT else "asked to stop"
        fail(what, code=128 + number)


@app.command()
def up(
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind, typer.Option(help="Nodes in one process, or real programs on PATH.")
    ] = commands.NodesKind.EMBEDDED,
    block_every: Annotated[
        float | None, typer.Option(min=0.05, help="Mine a block every so many seconds.")
    ] = None,
    seller: Annotated[
        bool, typer.Option("--seller/--no-seller", help="Start a funded seller daemon too.")
    ] = True,
    proxies: Annotated[
        bool, typer.Option("--proxies", help="Put the proxies of `lnlab fault` before the nodes.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay, and end the lab on Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a fresh lab with a seller daemon; print every endpoint and what to type next.

    Example: `lnlab up --dir /tmp/lab --block-every 10`
    """
    run(
        run_up(
            directory,
            nodes.value,
            block_every,
            with_seller=seller,
            proxies=proxies,
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

    Example: `lnlab down --wipe`
    """
    ended = end_lab(directory)
    if wipe:
        commands.wipe_directory(directory)
    text = f"ended {', '.join(ended)}" if ended else f"no lab was running in {directory}"
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
            help="none, refuse, hang, delay, cut; electrum: drop, duplicate, lag; "
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
def demo(
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind, typer.Option(help="Nodes in one process, or real programs on PATH.")
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
        commands.NodesKind, typer.Option(help="Nodes in one process, or real programs on PATH.")
    ] = commands.NodesKind.EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Start a lab and a seller, let very many buyers loose on it, check everything, end the lab.

    Example: `lnlab storm --swaps 1000 --duplicate-rate 0.2 --kill-every 2`
    """
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
    trouble_commands.list_scenarios(as_json=as_json)


@scenario_app.command("run")
def scenario_run(
    names: Annotated[list[str] | None, typer.Argument(help="All of them if left out.")] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind, typer.Option(help="Nodes in one process, or real programs on PATH.")
    ] = commands.NodesKind.EMBEDDED,
    as_json: AsJson = False,
) -> None:
    """Start a lab and a seller, play scenarios, end the lab. Exit code 1 when one fails.

    Example: `lnlab scenario run refund late-payment --nodes process`
    """
    run(trouble_commands.run_scenarios(directory, names or [], nodes.value, as_json=as_json))


def main() -> None:
    """Run the command line (the ``lnlab`` script)."""
    app()
