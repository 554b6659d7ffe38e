"""What the commands of ``lnlab`` share: options, printing, and how work is run and ended."""

import asyncio
import functools
import inspect
import json
import os
import secrets
import signal
import tempfile
import traceback
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from lnlab.actors.faucet import FaucetError
from lnlab.actors.programs import ProgramError
from lnlab.faults.orders import FaultError
from lnlab.lab import LabDirectoryError
from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.compose_project import ComposeError
from lnlab.nodes.process import MissingProgramError
from lnlab.nodes.record import NoLabError
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError
from lnlab.scenarios.sale import ScenarioError
from lnlab.snapshot import SnapshotError
from lnlab.wait import WaitTimeoutError

P = ParamSpec("P")
T = TypeVar("T")

EXPECTED_ERRORS = (
    ComposeError,
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
    SnapshotError,
    WaitTimeoutError,
    ValueError,
)
"""What goes wrong in ways a user understands: one message and exit code 1, no traceback."""


class NodesKind(StrEnum):
    """Kinds of nodes that ``up`` starts."""

    EMBEDDED = "embedded"
    PROCESS = "process"
    COMPOSE = "compose"


Directory = Annotated[
    Path, typer.Option("--dir", help="Directory of the lab.", envvar="LNLAB_DIR", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Nodes = Annotated[
    NodesKind, typer.Option(help="In one process, real programs on PATH, or containers.")
]
Seed = Annotated[int, typer.Option(help="Random seed.")]
DEFAULT_DIRECTORY = Path(".lab")
EXIT_HOST = 5
"""The system refused something: disk full, output closed."""
EXIT_FAULT = 70
"""EX_SOFTWARE of sysexits.h."""


def refusal(error: OSError | MemoryError) -> str:
    """What the system refused, in a sentence."""
    if isinstance(error, MemoryError):
        return "this machine refused: no memory is left"
    reason = str(error) if error.errno is None else os.strerror(error.errno)
    where = f" ({error.filename})" if isinstance(error.filename, str) else ""
    return f"this machine refused: {reason}{where}"


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


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; expected errors end the program with a message and exit code 1.

    A fault of the lab itself ends it with 70; the traceback is in a file that the message names.

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
    except typer.Exit:  # the work has told what is wrong
        raise
    except EXPECTED_ERRORS as error:
        fail(str(error))
    except asyncio.CancelledError:
        number = asked[0] if asked else signal.SIGTERM
        what = "interrupted" if number is signal.SIGINT else "asked to stop"
        fail(what, code=128 + number)
    except (OSError, MemoryError) as error:
        fail(refusal(error), code=EXIT_HOST)
    except Exception as error:
        log_id = secrets.token_hex(4)
        path = Path(tempfile.gettempdir()) / f"lnlab-fault-{log_id}.log"
        where = f"please report {path}"
        try:
            path.write_text(traceback.format_exc())
        except OSError:
            where = "no file takes the details"
        fail(
            f"a fault of the lab ({type(error).__name__}), log id {log_id}; {where}",
            code=EXIT_FAULT,
        )


def command(work: Callable[P, object]) -> Callable[P, object]:
    """Make a function, async or not, a command: its errors end the program as ``run`` says."""

    @functools.wraps(work)
    def done(*args: P.args, **kwargs: P.kwargs) -> object:
        async def in_loop() -> object:
            result = work(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return run(in_loop())

    return done
