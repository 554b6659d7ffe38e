"""Recorded transcripts: files in `tests/vectors/conformance`."""

import json
from pathlib import Path
from typing import Any

from .run import Transcript

DIRECTORY = Path(__file__).parents[1] / "vectors" / "conformance"
MEMPOOL_FILE = "elementsd_mempool.json"


def load(directory: Path = DIRECTORY) -> dict[str, list[dict[str, Any]]]:
    """The recorded calls of every case, by `room/name`."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.glob("*.json")):
        for call in json.loads(path.read_text()).get("calls", []):
            cases.setdefault(f"{path.stem}/{call['case']}", []).append(
                {name: value for name, value in call.items() if name != "case"}
            )
    return cases


def save(directory: Path, versions: dict[str, str], transcripts: dict[str, Transcript]) -> None:
    """Write a file of calls for each room, and one with the mempool verdicts."""
    directory.mkdir(parents=True, exist_ok=True)
    rooms: dict[str, list[dict[str, Any]]] = {}
    vectors = []
    for full_name, transcript in transcripts.items():
        room, name = full_name.split("/")
        rooms.setdefault(room, []).extend({"case": name, **call} for call in transcript.calls)
        vectors += transcript.vectors
    for room, calls in rooms.items():
        data = {"recorded_from": versions, "network": "liquid-regtest"}
        _write(directory / f"{room}.json", data, "calls", calls)
    data = {"recorded_from": versions["elementsd"], "chain": "liquid-regtest"}
    _write(directory / MEMPOOL_FILE, data, "vectors", vectors)


def _write(path: Path, data: dict[str, Any], name: str, lines: list[dict[str, Any]]) -> None:
    """Write JSON with one element a line, so that a difference shows as one."""
    head = json.dumps(data, indent=1)[:-2]
    body = ",\n".join(json.dumps(line, sort_keys=True) for line in lines)
    path.write_text(f'{head},\n "{name}": [\n{body}\n ]\n}}\n')
