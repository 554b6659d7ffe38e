"""Storms in the size of a test: every request id has one swap, every coin one owner, always.

Each storm checks itself (see `lnlab.scenarios.storm`): one swap for each distinct request over all
its calls and the replays afterwards, no HTLC output shared, as many pairs on the chain as swaps,
nothing reserved that is not needed, no fault in the log, and an exact audit by the command line.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnlab.lab import Kind
from lnlab.scenarios.storm import storm
from lnlab.scenarios.storm_parts import Progress, StormPlan, StormResult

REFUSED = "FAILED_PRECONDITION INSUFFICIENT_INVENTORY"
STORM_SECS = 240
"""What a storm may take on a machine that has other things to do; it takes a fraction of that."""

pytestmark = pytest.mark.timeout(STORM_SECS + 120)  # nodes start before it, the audit follows


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A lab's directory of this test alone. Kept when the test failed."""
    path = Path(tempfile.mkdtemp(prefix="lnstorm-"))
    failed_before = request.session.testsfailed
    yield path
    if request.session.testsfailed > failed_before:
        sys.stderr.write(f"\nthe lab of {request.node.name} is kept in {path}\n")
    else:
        shutil.rmtree(path)


async def let_loose(directory: Path, kind: Kind, plan: StormPlan) -> StormResult:
    """A storm that says how far it got."""

    def tell(progress: Progress) -> None:
        sys.stderr.write(f"{progress.answered}/{progress.calls} {progress.remark}\n")

    return await storm(directory, kind, plan, tell=tell)


async def test_idempotency(directory: Path, lab_kind: Kind) -> None:
    """120 requests and 24 repetitions, all at once, are 120 swaps, funded by few transactions."""
    plan = StormPlan(swaps=120, duplicate_rate=0.2, lanes=4, timeout_secs=STORM_SECS)
    result = await let_loose(directory, lab_kind, plan)
    assert (result.requests, result.calls, result.funded) == (120, 144, 120)
    assert result.refused == {}
    assert result.blocks == 1
    assert result.transactions <= 10


async def test_oversold(directory: Path, lab_kind: Kind) -> None:
    """With stock for 70 of 100, 70 are funded and 30 refused; nothing stays reserved."""
    plan = StormPlan(swaps=100, inventory_for=70, lanes=2, seed=2, timeout_secs=STORM_SECS)
    result = await let_loose(directory, lab_kind, plan)
    assert result.funded == 70
    assert result.refused == {REFUSED: 30}


async def test_killed_and_restarted(directory: Path, lab_kind: Kind) -> None:
    """A daemon that dies again and again funds each request once, and loses none."""
    plan = StormPlan(
        swaps=100,
        clients=10,
        kill_every_secs=0.4,
        inventory_for=80,
        seed=3,
        timeout_secs=STORM_SECS,
    )
    result = await let_loose(directory, lab_kind, plan)
    assert result.kills > 1
    assert (result.funded, result.refused) == (80, {REFUSED: 20})
