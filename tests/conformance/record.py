"""Recording from real nodes: ``python -m tests.conformance.record [DIRECTORY]``.

Starts `elementsd`, `electrs` and two `lightningd` from PATH in a temporary directory, runs every
case, and writes what they answered. Run it on a new release of a node: what changed in
`tests/vectors/conformance` is what the embedded nodes must follow. Recording twice gives the same
calls; verdicts differ in txids and signatures only.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from lnlab.lab import Lab
from lnlab.nodes.process import MissingProgramError

from .run import run_all
from .vectors import DIRECTORY, save
from .world import World


async def record(directory: Path, lab_directory: Path) -> list[str]:
    """Record into ``directory``; returns the cases that failed, and then nothing is written."""
    lab = await Lab.start(lab_directory, kind="process")
    try:
        versions = await World(lab).versions()
        transcripts = await run_all(lab, with_vectors=True)
    finally:
        await lab.stop()
    failed = {name: one.failure for name, one in transcripts.items() if one.failure}
    for name, failure in failed.items():
        sys.stderr.write(f"{name}:\n{failure}\n")
    if not failed:
        save(directory, versions, transcripts)
        calls = sum(len(one.calls) for one in transcripts.values())
        verdicts = sum(len(one.vectors) for one in transcripts.values())
        where = f"{len(transcripts)} cases, {calls} calls, {verdicts} verdicts in {directory}"
        sys.stdout.write(f"recorded from {versions}: {where}\n")
    return list(failed)


def main() -> int:
    """Run the recorder; exit code 1 when a program is missing or a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.record", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=DIRECTORY)
    directory: Path = parser.parse_args().directory
    lab_directory = Path(tempfile.mkdtemp(prefix="lnlab-"))
    try:
        return 1 if asyncio.run(record(directory, lab_directory)) else 0
    except MissingProgramError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        shutil.rmtree(lab_directory)


if __name__ == "__main__":
    sys.exit(main())
