"""No message is a traceback, "unknown" or "internal" without a log id: every kind is walked.

Each error class of the program goes the way it would go in earnest: through a command, and, where a
daemon may meet it while it answers, through a real gRPC server.
"""

import inspect
import io
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import typer
from structlog.testing import LogCapture
from typer.testing import CliRunner

from ln_liquid_swap.v1 import swap_pb2 as pb
from ln_liquid_swap.v1 import swap_pb2_grpc as pb_grpc
from lnlab.cli import app as lab_app
from lnliquid.api.server import Listener, listen
from lnliquid.buyer import Verdict
from lnliquid.buyer import errors as buyer_errors
from lnliquid.cli import command_line, console, error_report
from lnliquid.domain import errors
from lnliquid.domain.errors import FieldViolation
from lnliquid.grpc_client import failure as mapped

from ..api.test_swap_service import FakeSeller
from ..builders import uuid_of

pytestmark = pytest.mark.usefixtures("state_home")

SECRET = "c0ffee" * 10
LOG_ID = re.compile(r"log id [0-9a-f]{8}\b")
BARE = re.compile(r"\b(unknown|internal)\b", re.IGNORECASE)


def kinds(module: Any) -> list[type[Exception]]:
    """Every exception that this module defines, base classes of families too."""
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]


VALUES: dict[str, Any] = {
    "violations": (FieldViolation("asset_amount", "must be positive"),),
    "fields": ("asset_amount",),
    "problems": ("lanes is not a number",),
    "directory": Path("buyer"),
    "code": None,
    "backend": "lightning",
    "message": "no such socket",
}
"""What the constructors want by name; everything else gets a word or a number by its annotation."""


def example(kind: type[Exception]) -> Exception:
    """An instance with something in every field."""
    if kind in (errors.StoreFailure,):
        return kind("database or disk is full")
    if "__init__" not in vars(kind) and not hasattr(kind, "__dataclass_fields__"):
        base = next(k for k in kind.__mro__ if "__init__" in vars(k))
        if base in (Exception, BaseException):
            return kind("a reason")
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "verdict":
            arguments[name] = broken_verdict()
        elif name in VALUES:
            arguments[name] = VALUES[name]
        elif parameter.annotation in (int, "int", float, "float"):
            arguments[name] = 7
        else:
            arguments[name] = "a word"
    return kind(**arguments)


def broken_verdict() -> Verdict:
    """A verdict with one failed check, whatever its other fields are."""
    from ..buyer.test_verify import good

    verdict = good().verdict()
    first = verdict.checks[0]
    from dataclasses import replace

    return replace(verdict, checks=(replace(first, ok=False), *verdict.checks[1:]))


ALL = [*kinds(errors), *kinds(buyer_errors)]


def check_words(text: str) -> None:
    """What no message may be."""
    assert text.strip(), "no message at all"
    assert "Traceback" not in text
    assert 'File "' not in text
    assert SECRET not in text
    if BARE.search(text):
        assert LOG_ID.search(text), text


def command_that_raises(error: Exception, *, as_json: bool) -> typer.Typer:
    """A command line like ours whose one command ends with this error."""
    made = typer.Typer(pretty_exceptions_enable=False)

    @made.command()
    def work() -> None:
        with console.clean_errors(as_json):
            raise error

    return made


def ended(error: Exception, *, as_json: bool = False) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of that program, its entry point being ours."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            try:
                command_that_raises(error, as_json=as_json)(args=[])
            except Exception as fault:
                raise SystemExit(error_report.report(fault)) from None
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    raise AssertionError("a command always exits")


def test_the_walk_has_found_the_kinds() -> None:
    """Both families, and the buyer's."""
    assert {errors.NotReady, errors.BackendTimeout, buyer_errors.AssetLost} <= set(ALL)
    assert len(ALL) > 25


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_kind_ends_a_command_in_words(kind: type[Exception], as_json: bool) -> None:
    """On stderr, with its own message, and an exit code that is not 0 and not that of a fault."""
    error = example(kind)
    code, out, err = ended(error, as_json=as_json)
    check_words(err)
    assert code in (1, 2, 3, 4)
    assert " ".join(str(error).split())[:30] in " ".join(err.split())
    if as_json:
        check_words(out)


@pytest.mark.parametrize(
    "error",
    [RuntimeError(f"broken with {SECRET}"), KeyError(SECRET), ZeroDivisionError(), OSError(SECRET)],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_expected_ends_a_command_with_an_id_that_is_in_the_log(
    error: Exception, state_home: Path
) -> None:
    """Nothing of its text is shown; the log has it under that id."""
    code, out, err = ended(error)
    assert (code, out) == (error_report.EXIT_FAULT, "")
    check_words(err)
    found = LOG_ID.search(err)
    assert found is not None
    assert found[0] in (state_home / "lnliquid" / "errors.log").read_text()


def test_the_entry_point_itself_tells_a_fault_by_an_id(tmp_path: Path) -> None:
    """The real program, with a command that fails."""
    (tmp_path / "boom.py").write_text(
        f"def boom(): raise RuntimeError('{SECRET}')\n"
        "def register(cli): cli.command('boom')(boom)\n"
    )
    script = (
        "import sys; sys.argv = ['lnliquid', 'boom']\n"
        "import lnliquid.cli as c; c.COMMANDS['boom'] = ('boom',); c.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (error_report.EXIT_FAULT, "")
    check_words(done.stderr)
    found = LOG_ID.search(done.stderr)
    assert found is not None
    assert found[0] in (tmp_path / "lnliquid" / "errors.log").read_text()


@pytest.fixture
def logged() -> Iterator[LogCapture]:
    """What the service logs."""
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(processors=before)


@pytest.fixture
async def seller() -> AsyncIterator[tuple[FakeSeller, Listener]]:
    """A real server with a seller that raises what it is told."""
    seller = FakeSeller()
    server = listen(seller, "127.0.0.1:0")
    await server.start()
    yield seller, server
    await server.stop(0)


UNEXPECTED: list[Exception] = [RuntimeError(f"broken with {SECRET}"), KeyError(SECRET)]


@pytest.mark.parametrize(
    "error",
    [*(example(kind) for kind in kinds(errors) if kind is not errors.SwapError), *UNEXPECTED],
    ids=lambda error: type(error).__name__,
)
async def test_every_kind_ends_a_call_in_words(
    error: Exception, seller: tuple[FakeSeller, Listener], logged: LogCapture
) -> None:
    """Over gRPC too; an internal error has an id, and the log has the error and the swap's id."""
    seller[0].answer = error
    async with grpc.aio.insecure_channel(f"127.0.0.1:{seller[1].port}") as channel:
        stub = pb_grpc.SwapServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSwap(pb.GetSwapRequest(swap_id=uuid_of(1)), timeout=10)
    failure = caught.value
    assert failure.code() is not grpc.StatusCode.UNKNOWN
    check_words(failure.details() or "")
    told = mapped("unix:here", failure, 10)
    assert told.exit_code in (1, 3)
    check_words(str(told))
    if failure.code() is grpc.StatusCode.INTERNAL:
        found = LOG_ID.search(failure.details() or "")
        assert found is not None
        [entry] = logged.entries
        assert entry["log_id"] == found[0].removeprefix("log id ")
        assert entry["swap_id"] == uuid_of(1)
        assert entry["exc_info"] is error or isinstance(entry["exc_info"], type(error))


async def test_a_status_without_words_is_told_in_words() -> None:
    """Such as gRPC itself makes when a connection breaks in the middle."""
    for status in grpc.StatusCode:
        if status is grpc.StatusCode.OK:
            continue
        metadata = grpc.aio.Metadata()
        told = mapped("unix:here", grpc.aio.AioRpcError(status, metadata, metadata), 10)
        assert told.exit_code in (1, 3)
        if status not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
            check_words(str(told))
        assert "see the daemon's log" in str(told) or "unix:here" in str(told)


def commands(program: typer.Typer) -> Iterator[str]:
    """Full name of every command of a program, groups opened."""
    queue = [("", typer.main.get_command(program))]
    while queue:
        path, command = queue.pop()
        inside = getattr(command, "commands", None)
        if inside is None:
            yield path.strip()
        else:
            queue += [(f"{path} {name}", below) for name, below in inside.items()]


PROGRAMS = {"lnliquid": command_line(), "lnlab": lab_app}
HELP = [(name, path) for name, program in PROGRAMS.items() for path in commands(program)]


@pytest.mark.parametrize(("program", "path"), HELP, ids=[" ".join(names) for names in HELP])
def test_the_help_of_every_command_shows_an_example(program: str, path: str) -> None:
    """That begins as the user has to type it."""
    result = CliRunner().invoke(PROGRAMS[program], [*path.split(), "--help"])
    assert result.exit_code == 0
    text = " ".join(result.output.replace("│", " ").split())
    assert re.search(rf"Example: .*?\b{program} {path}( |$)", text), result.output


def test_the_walk_has_found_the_commands() -> None:
    """Those of groups too."""
    assert {("lnliquid", "top"), ("lnliquid", "audit"), ("lnlab", "scenario run")} <= set(HELP)
