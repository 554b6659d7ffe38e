"""`python -m bench [PART...]`: measure, print the table, exit 1 when a target is missed."""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from rich.console import Console

from bench import batches, commits, creating, history, replays, sales, scale
from bench.figures import Figure, table_of
from lnliquid.liquid.keys import require_native_secp256k1

PARTS: dict[str, Callable[[Path], Awaitable[list[Figure]]]] = {
    "batches": batches.measure,
    "commits": commits.measure,
    "creating": creating.measure,
    "history": history.measure,
    "replays": replays.measure,
    "sales": sales.measure,
    "scale": scale.measure,
}


async def run(parts: list[str], folder: Path, console: Console) -> list[Figure]:
    """Measure these parts, one after another; each has a folder of its own."""
    figures = []
    for part in parts:
        with console.status(f"measuring {part}"):
            figures += await PARTS[part](folder / part)
    return figures


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    require_native_secp256k1()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        figures = asyncio.run(run(parts, Path(folder), console))
    console.print(table_of(figures))
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
