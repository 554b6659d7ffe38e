"""What a terminal or a host can refuse: no program calls it a fault of its own, or says nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lnliquid.cli import error_report
from lnliquid.domain.errors import EXIT_HOST

from .test_errors_walk import HELP

STREAMS = {
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full",
    "stderr full": "2>/dev/full",
    "both full": ">/dev/full 2>/dev/full",
    "a broken pipe": "| true",
    "stdout read-only": "1</dev/null",
}
"""Redirections of a shell."""
PLACES: dict[str, dict[str, str | None]] = {
    "no home": {"HOME": None, "XDG_STATE_HOME": None},
    "a home that cannot be written": {"HOME": "/proc", "XDG_STATE_HOME": "/proc"},
    "no terminal": {"TERM": None},
    "an odd terminal": {"TERM": "no-such-terminal"},
    "20 columns": {"COLUMNS": "20", "LINES": "3"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "LANG": None},
    "Latin": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"},
}
"""Variables; None for one that is not set."""
NO_ROOM = {">/dev/full", ">&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-", "1</dev/null"}


def run(
    program: str, *arguments: str, streams: str = "", env: dict[str, str | None] | None = None
) -> "subprocess.CompletedProcess[str]":
    """The program in a shell, with these redirections and variables."""
    values = {name: value for name, value in (os.environ | (env or {})).items() if value}
    command = ["bash", "-c", f'set -o pipefail; "$@" {streams}', "bash", sys.executable, "-m"]
    return subprocess.run(
        [*command, program, *arguments],
        env={name: value for name, value in values.items() if not name.startswith("LNLIQUID_")},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )


def check_words(done: "subprocess.CompletedProcess[str]") -> None:
    """Neither a traceback, nor a fault of the program."""
    told = done.stdout + done.stderr
    assert "Traceback" not in told, told
    assert "Exception" not in told, told
    assert "fault of" not in told, told
    assert done.returncode != error_report.EXIT_FAULT, told


@pytest.mark.parametrize("program", ["lnliquid", "lnlab"])
@pytest.mark.parametrize("name", STREAMS)
def test_the_help_on_streams_that_refuse(name: str, program: str) -> None:
    """A success whose output is lost is none; a reader that wants no more is no failure."""
    streams = STREAMS[name]
    done = run(program, "--help", streams=streams)
    check_words(done)
    assert done.returncode == (EXIT_HOST if streams in NO_ROOM else 0), done
    if streams in NO_ROOM and "2>" not in streams:
        assert "this machine refused: " in done.stderr


@pytest.mark.parametrize("program", ["lnliquid", "lnlab"])
@pytest.mark.parametrize("place", PLACES)
def test_the_help_in_odd_places(place: str, program: str) -> None:
    """All of it is there, in whatever letters the terminal has."""
    done = run(program, "--help", env=PLACES[place])
    check_words(done)
    assert done.returncode == 0, done
    assert "Usage" in done.stdout


@pytest.mark.parametrize(("program", "path"), HELP, ids=[" ".join(names) for names in HELP])
def test_each_command_that_is_typed_wrong_on_a_full_disk(program: str, path: str) -> None:
    """It ends as wrong usage does, or by what is missing there; never as a fault."""
    done = run(program, *path.split(), "--no-such-option", streams=">/dev/full 2>/dev/full")
    check_words(done)
    assert done.returncode == 2, done


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """As a read-only home, or a disk that is full."""
    done = run("lnliquid", "history", "--dir", "/proc/none/buyer")
    check_words(done)
    assert done.returncode == 2
    assert "/proc/none/buyer" in done.stderr
    done = run("lnliquid", "history", "--dir", str(tmp_path), env={"HOME": "/proc"})
    assert (done.returncode, done.stdout) == (0, "no purchases yet\n")


@pytest.mark.parametrize(
    "error",
    [OSError(28, "x", "/disk/file"), OSError(5, "x"), OSError(24, "x"), MemoryError()],
    ids=["disk full", "I/O error", "descriptors", "memory"],
)
def test_what_the_system_refused_is_named(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a log id, with the file if there is one."""
    assert error_report.report(error) == EXIT_HOST
    told = capsys.readouterr().err
    assert re.match(r"this machine refused: \w+", told)
    assert "/disk/file" in told or getattr(error, "filename", None) is None
    assert "log id" not in told
