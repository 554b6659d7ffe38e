"""Crash points: a test sees each as it is reached, or has the process killed there."""

import signal
import subprocess
import sys

import pytest

from lnliquid import crashpoints
from lnliquid.crashpoints import POINTS, VARIABLE, reach


class Died(Exception):
    """What a hook raises in place of a death."""


def test_a_point_is_observed_only_meanwhile() -> None:
    """The hook is called with the name, what it raises comes through, and then it is gone."""
    seen: list[str] = []

    def hook(point: str) -> None:
        seen.append(point)
        if point == "fund.stored":
            raise Died

    with crashpoints.observed(hook):
        reach("fund.planned")
        with pytest.raises(Died):
            reach("fund.stored")
    reach("fund.sent")
    assert seen == ["fund.planned", "fund.stored"]


def test_a_point_that_is_not_registered_is_an_error() -> None:
    """A misspelt name would never be reached."""
    with (
        crashpoints.observed(lambda _point: None),
        pytest.raises(ValueError, match=r"fund\.store "),
    ):
        reach("fund.store")


def test_the_names_have_one_form() -> None:
    """What is done, a dot, how far it got; each once."""
    assert len(set(POINTS)) == len(POINTS)
    assert all(len(point.split(".")) == 2 for point in POINTS)


@pytest.mark.parametrize(
    ("wanted", "printed"), [("fund.stored", ""), ("fund.stored:2", "1\n"), ("*", "")]
)
def test_the_process_is_killed_at_the_wanted_point(wanted: str, printed: str) -> None:
    """By SIGKILL, the n-th time that it gets there."""
    program = (
        "from lnliquid.crashpoints import reach\n"
        "for n in (1, 2):\n"
        "    reach('fund.stored')\n"
        "    print(n, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={VARIABLE: wanted},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, printed)
