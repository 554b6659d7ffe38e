"""Running all cases on one lab."""

import traceback
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from lnlab.lab import Lab

from . import chain_cases, electrum_cases, lightning_cases, mempool_cases
from .cases import CASES
from .transcript import named_calls
from .world import World

ROOMS = (mempool_cases, chain_cases, electrum_cases, lightning_cases)
"""In the order in which they run; importing them fills the list of cases."""


@dataclass
class Transcript:
    """What a case saw, comparable; `failure` is the traceback of one that did not end."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""
    vectors: list[dict[str, Any]] = field(default_factory=list)


async def run_all(
    lab: Lab, *, with_vectors: bool = False, names: Collection[str] = ()
) -> dict[str, Transcript]:
    """Run every case, or those named, in order, and return what each saw.

    A case that fails stops no other. `with_vectors`: verdicts come with the situation they were
    given in, which only a real elementsd tells.
    """
    world = World(lab)
    transcripts = {}
    for name, function in CASES.items():
        if names and name not in names:
            continue
        await world.begin(name if with_vectors else "")
        done = Transcript()
        try:
            await function(world)
        except Exception:  # kept for the test that is named after the case
            done.failure = traceback.format_exc()
        done.calls = named_calls(world.calls, world.start_height)
        done.vectors = world.vectors
        transcripts[name] = done
        await world.end()
    return transcripts
