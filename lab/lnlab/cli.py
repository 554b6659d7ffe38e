"""``lnlab``: start, look at and end a regtest lab from the command line.

Each command works on the lab in ``--dir`` and takes ``--json`` for output that programs read.
"""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lnlab import commands
from lnlab.commands import fail, show
from lnlab.demo import demo as run_demo
from lnlab.faucet import FaucetError
from lnlab.lab import LabDirectoryError, end_lab
from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.process import MissingProgramError
from lnlab.nodes.record import NoLabError
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError
from lnlab.programs import ProgramError
from lnlab.scenarios.sale import ScenarioError
from lnlab.wait import WaitTimeoutError

T = TypeVar("T")

EXPECTED_ERRORS = (
    FaucetError,
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

    Ctrl-C and SIGTERM cancel the work, which cleans up after itself.
    """

    async def until_sigterm() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(until_sigterm())
    except EXPECTED_ERRORS as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    except asyncio.CancelledError:
        fail("asked to stop", code=143)


@app.command()
def up(
    directory: Directory = DEFAULT_DIRECTORY,
    nodes: Annotated[
        commands.NodesKind, typer.Option(help="Nodes in one process, or real programs on PATH.")
    ] = commands.NodesKind.EMBEDDED,
    block_every: Annotated[
        float | None, typer.Option(min=0.05, help="Mine a block every so many seconds.")
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay, and end the lab on Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a fresh lab and print its endpoints.

    Example: `lnlab up --dir /tmp/lab --block-every 10`
    """
    run(commands.up(directory, nodes.value, block_every, foreground=foreground, as_json=as_json))


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


def main() -> None:
    """Run the command line (the ``lnlab`` script)."""
    app()
