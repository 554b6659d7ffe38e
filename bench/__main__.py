"""`python -m bench [PART...]`: measure, print the table, exit 1 when a target is missed."""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import structlog
from rich.console import Console

from bench import batches, commits, creating, full, history, replays, sales, scale
from bench.figures import Figure, table_of
from lnliquid.liquid.keys import require_native_secp256k1

Measure = Callable[[Path], Awaitable[list[Figure]]]
PARTS: dict[str, Measure] = {
    "batches": batches.measure,
    "commits": commits.measure,
    "creating": creating.measure,
    "history": history.measure,
    "replays": replays.measure,
    "sales": sales.measure,
    "scale": scale.measure,
}


FULL = "full"
"""The part that compares two source trees; it needs the path of the other one."""


async def run(parts: Mapping[str, Measure], folder: Path, console: Console) -> list[Figure]:
    """Measure these parts, one after another; each has a folder of its own."""
    figures = []
    for name, measure in parts.items():
        with console.status(f"measuring {name}"):
            figures += await measure(folder / name)
    return figures


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join([*PARTS, FULL])}")
    parser.add_argument(
        "--baseline", type=Path, help="source tree that `full` compares with; without it no `full`"
    )
    parser.add_argument(
        "--tree", type=Path, default=full.OWN_TREE, help="source tree that `full` measures"
    )
    options = parser.parse_args()
    parts = dict(PARTS)
    if options.baseline is not None:
        trees = {name: getattr(options, name).absolute() for name in ("tree", "baseline")}
        parts[FULL] = partial(full.measure, **trees)
    elif FULL in options.parts:
        parser.error("full compares two source trees: give the other one with --baseline PATH")
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    require_native_secp256k1()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console()
    chosen = {name: parts[name] for name in options.parts or parts}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        figures = asyncio.run(run(chosen, Path(folder), console))
    console.print(table_of(figures))
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
