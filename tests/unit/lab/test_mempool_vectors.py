"""The embedded chain says of recorded transactions what elementsd 23.3.3 said."""

import json
from pathlib import Path
from typing import Any

import pytest

from lnlab.nodes.embedded.recording import replay

VECTORS = Path(__file__).parents[2] / "vectors"
RECORDINGS = [
    pytest.param(recording, id=f"{name}: {recording['name']}")
    for name in ("elementsd_mempool", "elementsd_mempool_more", "conformance/elementsd_mempool")
    for recording in json.loads((VECTORS / f"{name}.json").read_text())["vectors"]
]


def code(reason: str | None) -> str | None:
    """A reject reason without its detail in parentheses."""
    return reason and reason.split(" (")[0]


def test_recordings_are_complete() -> None:
    """All 60 given recordings are there, and the ones made for this chain beside them."""
    given = [param for param in RECORDINGS if str(param.id).startswith("elementsd_mempool: ")]
    assert len(given) == 60
    assert len(RECORDINGS) > 500


@pytest.mark.parametrize("recording", RECORDINGS)
def test_verdict_equals_elementsd(recording: dict[str, Any]) -> None:
    """Allowed or not, reject reason, vsize and fee are those that elementsd reported."""
    verdict = replay(recording)
    assert (verdict.allowed, code(verdict.reject_reason)) == (
        recording["allowed"],
        code(recording.get("reject_reason")),
    )
    assert (verdict.vsize, verdict.fee_sats) == (
        recording.get("vsize"),
        recording.get("fee_sats"),
    )


def test_script_error_names_equal_elementsds() -> None:
    """On the given recordings, the script error in parentheses is the same too."""
    recordings = json.loads((VECTORS / "elementsd_mempool.json").read_text())["vectors"]
    ours = [replay(recording).reject_reason for recording in recordings]
    assert ours == [recording.get("reject_reason") for recording in recordings]
