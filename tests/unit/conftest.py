"""What holds for all unit tests: hypothesis does not judge speed, for the machine may be busy."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from structlog.testing import capture_logs

from .seller_world import SellerWorld

settings.register_profile(
    "unit", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("unit")


@pytest.fixture
def state_home(tmp_path: Path) -> Iterator[Path]:
    """Where errors of commands are written (XDG_STATE_HOME), in a directory of the test."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    yield tmp_path / "state"
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SellerWorld]:
    """A stocked seller that listens for its operator."""
    # The daemon of a test logs in this process, where a command's stdout is caught.
    with capture_logs():
        made = SellerWorld(tmp_path)
        await made.stock()
        await made.open()
        yield made
        await made.close()


@pytest.fixture(autouse=True)
def log_of_this_test() -> Iterator[None]:
    """A command that was invoked leaves a log that writes to its own, closed, standard error."""
    yield
    structlog.reset_defaults()
