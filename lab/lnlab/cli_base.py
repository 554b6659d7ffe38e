"""What all commands of ``lnlab`` share: their options, and how work is run and ended."""

import asyncio
import secrets
import signal
import tempfile
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lnlab.commands import fail
from lnlab.faucet import FaucetError
from lnlab.faults import FaultError
from lnlab.lab import LabDirectoryError
from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.compose_project import ComposeError
from lnlab.nodes.process import MissingProgramError
from lnlab.nodes.record import NoLabError
from lnlab.nodes.rpc import NodeRpcError, NodeUnreachableError
from lnlab.programs import ProgramError
from lnlab.scenarios.sale import ScenarioError
from lnlab.snapshot import SnapshotError
from lnlab.wait import WaitTimeoutError

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

Directory = Annotated[
    Path, typer.Option("--dir", help="Directory of the lab.", envvar="LNLAB_DIR", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
DEFAULT_DIRECTORY = Path(".lab")
EXIT_FAULT = 70
"""EX_SOFTWARE of sysexits.h."""


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
    except Exception as error:
        log_id = secrets.token_hex(4)
        path = Path(tempfile.gettempdir()) / f"lnlab-fault-{log_id}.log"
        path.write_text(traceback.format_exc())
        fail(
            f"a fault of the lab ({type(error).__name__}), log id {log_id}; please report {path}",
            code=EXIT_FAULT,
        )
