"""Run simulations by hand: `python -m tests.sim --seed 7 --steps 300`; `--fresh 100 --jobs 2`."""

import argparse
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from lnliquid.cli import GARBAGE_THRESHOLD

from . import actions, coverage
from .shrink import SHRINK_SECS, shrink
from .simulation import Failed, Result, simulate

LAST_LINES = 2
"""Of a failure: what is wrong, and how to see it again."""


def main() -> int:
    """Run the seeds asked for; 1 when one of them failed, or coverage that is required lacks."""
    asked = _arguments()
    seeds = range(asked.seed, asked.seed + asked.seeds)
    if asked.fresh:
        first = random.randrange(10**6, 10**9)
        seeds = range(first, first + asked.fresh)
    sys.stdout.write(f"seeds {seeds[0]} to {seeds[-1]}, {asked.steps} steps each\n")
    sys.stdout.flush()
    began, failed = time.monotonic(), []
    counts: Counter[str] = Counter()
    swaps: Counter[str] = Counter()
    cells: Counter[coverage.Cell] = Counter()
    for seed, outcome in zip(seeds, _outcomes(asked, seeds), strict=True):
        if isinstance(outcome, Failed):
            failed.append(seed)
            lines = str(outcome).splitlines()
            sys.stdout.write("\n".join(lines[-LAST_LINES if asked.brief else 0 :]) + "\n")
        else:
            counts += outcome.counts
            swaps += outcome.swaps
            cells += outcome.cells
            if asked.trace:
                sys.stdout.write("\n".join(outcome.trace) + "\n")
            if len(seeds) <= asked.say:
                sys.stdout.write(f"seed {seed}: digest {outcome.digest:08x}\n")
        done = seed - seeds[0] + 1
        if done % asked.say == 0:
            secs = time.monotonic() - began
            sys.stdout.write(f"{done} of {len(seeds)} seeds, {len(failed)} failed, {secs:.0f} s\n")
        sys.stdout.flush()
    sys.stdout.write("\n".join(coverage.table(cells)) + "\n")
    sys.stdout.write(f"{counts.total() - counts['death']} steps: {dict(counts.most_common())}\n")
    sys.stdout.write(f"swaps: {dict(swaps.most_common())}\n")
    lacking = coverage.missing(cells)
    if asked.require_coverage and lacking:
        sys.stdout.write("never reached: " + ", ".join(lacking) + "\n")
    secs = time.monotonic() - began
    sys.stdout.write(f"{len(failed)} of {len(seeds)} seeds failed, in {secs:.0f} s: {failed}\n")
    return 1 if failed or (asked.require_coverage and lacking) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--fresh", type=int, default=0, help="so many seeds from a random one on")
    parser.add_argument("--steps", type=int, default=250, help="steps a seed")
    parser.add_argument("--only", type=_steps, help="of the steps only these: 3,17,22")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--say", type=int, default=25, help="say how it goes after so many seeds")
    parser.add_argument("--brief", action="store_true", help="of failures only the last lines")
    parser.add_argument("--trace", action="store_true", help="show what happened in any case")
    parser.add_argument("--without", default="", help="actions that are left out: reorg,crash")
    parser.add_argument(
        "--shrink-secs", type=float, default=SHRINK_SECS, help="time to shrink a failure, 0: none"
    )
    parser.add_argument(
        "--require-coverage", action="store_true", help="fail when a reachable cell is empty"
    )
    return parser.parse_args()


def _steps(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


def _outcomes(asked: argparse.Namespace, seeds: Iterable[int]) -> Iterable[Result | Failed]:
    """What came of each seed, in their order."""
    work = partial(_play, asked)
    if asked.jobs == 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(asked.jobs) as pool:
        yield from pool.map(work, seeds)


def _play(asked: argparse.Namespace, seed: int) -> Result | Failed:
    gc.set_threshold(GARBAGE_THRESHOLD)
    actions.leave_out(asked.without.split(","))
    try:
        return simulate(seed, asked.steps, asked.only)
    except Failed as failure:
        failure.__cause__ = None  # it need not be sent to another process
        return shrink(failure, asked.shrink_secs) if asked.shrink_secs else failure


if __name__ == "__main__":
    sys.exit(main())
