"""Every kind of nodes answers the cases as real nodes were recorded to answer them.

A difference names the case and the call. On new releases of real nodes record again
(`tests.conformance.record`) and let the embedded nodes follow.
"""

from typing import Any

import pytest
import pytest_asyncio

from lnlab.lab import Lab

from .cases import CASES
from .run import Transcript, run_all
from .vectors import load

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDED = load()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transcripts(lab: Lab) -> dict[str, Transcript]:
    """What every case saw on this kind of nodes."""
    return await run_all(lab)


async def test_recordings_are_of_these_cases() -> None:
    """No case is unrecorded, and no recording is of a case that is gone."""
    assert set(RECORDED) == set(CASES)


@pytest.mark.timeout(300)  # the first of a kind runs all cases
@pytest.mark.parametrize("name", CASES)
async def test_answers_are_the_recorded_ones(transcripts: dict[str, Transcript], name: str) -> None:
    """All calls of the case are answered with the recorded fields, codes, texts and amounts."""
    transcript = transcripts[name]
    assert not transcript.failure, transcript.failure
    assert [_asked(call) for call in transcript.calls] == [_asked(call) for call in RECORDED[name]]
    for answered, recorded in zip(transcript.calls, RECORDED[name], strict=True):
        assert answered == recorded, f"{name}: {recorded['node']}: {recorded['why']}"


def _asked(call: dict[str, Any]) -> tuple[str, str, str]:
    return call["node"], call["method"], call["why"]
