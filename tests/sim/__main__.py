"""Run simulations by hand: `python -m tests.sim --seed 7 --steps 300`."""

import argparse
import sys
import time
from collections import Counter

from .simulation import Failed, simulate


def main() -> int:
    """Run the seeds asked for; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--steps", type=int, default=250, help="steps a seed")
    parser.add_argument("--brief", action="store_true", help="of failures only the last lines")
    parser.add_argument(
        "--trace", action="store_true", help="show what happened also when all went well"
    )
    asked = parser.parse_args()
    counts: Counter[str] = Counter()
    swaps: Counter[str] = Counter()
    failures = 0
    began = time.process_time()
    for seed in range(asked.seed, asked.seed + asked.seeds):
        try:
            result = simulate(seed, asked.steps)
        except Failed as failure:
            failures += 1
            sys.stderr.write(
                "\n".join(str(failure).splitlines()[-2 if asked.brief else 0 :]) + "\n"
            )
            continue
        if asked.trace:
            sys.stdout.write("\n".join(result.trace) + "\n")
        counts += result.counts
        swaps += result.swaps
        sys.stdout.write(f"seed {seed}: digest {result.digest:08x}\n")
    sys.stdout.write(f"{counts.total() - counts['death']} steps: {dict(counts.most_common())}\n")
    sys.stdout.write(f"swaps: {dict(swaps.most_common())}\n")
    sys.stdout.write(
        f"{failures} failures, {time.process_time() - began:.1f} s of processor time\n"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
