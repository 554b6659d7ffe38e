"""How a command of the lab ends."""

import re
from pathlib import Path

import pytest
import typer

from lnlab.cli.base import EXIT_FAULT, run
from lnlab.nodes.record import NoLabError


async def fault() -> None:
    """What nobody expected."""
    raise KeyError("seller")


async def no_lab() -> None:
    """What a person can bring about."""
    raise NoLabError("no lab runs in .lab")


def test_a_fault_of_the_lab_is_a_line_with_a_log_id(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback on the screen: it is in the file that the line names."""
    with pytest.raises(typer.Exit) as ended:
        run(fault())
    assert ended.value.exit_code == EXIT_FAULT
    told = capsys.readouterr().err
    assert "Traceback" not in told
    found = re.search(r"log id (\w+); please report (\S+)", told)
    assert found is not None
    path = Path(found[2])
    assert found[1] in path.name
    assert "KeyError: 'seller'" in path.read_text()
    path.unlink()


def test_what_a_person_can_bring_about_is_only_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the message."""
    with pytest.raises(typer.Exit) as ended:
        run(no_lab())
    assert ended.value.exit_code == 1
    assert "no lab runs in .lab" in capsys.readouterr().err
