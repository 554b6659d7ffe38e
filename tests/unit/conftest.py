"""What holds for all unit tests: hypothesis does not judge speed, for the machine may be busy."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("unit")


@pytest.fixture
def state_home(tmp_path: Path) -> Iterator[Path]:
    """Where faults of commands are written (XDG_STATE_HOME), in a directory of the test."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    yield tmp_path / "state"
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(autouse=True)
def log_of_this_test() -> Iterator[None]:
    """A command that was invoked leaves a log that writes to its own, closed, standard error."""
    yield
    structlog.reset_defaults()
