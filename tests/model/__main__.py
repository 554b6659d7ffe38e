"""Search by hand: `python -m tests.model --swaps 2 --depth 5`, or `--mutants` to try them all."""

import argparse
import sys

from .mutants import MUTANTS
from .rules import Rules
from .search import DEPTHS, MUTANT_DEPTH, Search


def main() -> int:
    """Search, and print what came of it; 1 when a rule is broken, or a mutant was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--swaps", type=int, choices=sorted(DEPTHS), default=1)
    parser.add_argument("--depth", type=int, help="moves from each beginning")
    parser.add_argument("--faults", type=int, default=2, help="what may go wrong on one way")
    parser.add_argument("--blocks", type=int, default=8, help="how high the chain grows")
    parser.add_argument(
        "--final-confs", type=int, default=2, help="one more than the deepest reorg"
    )
    parser.add_argument("--deletions", action="store_true", help="others delete paid invoices")
    parser.add_argument("--states", type=int, help="stop at so many")
    parser.add_argument("--reached", action="store_true", help="print what was reached, how often")
    parser.add_argument("--mutants", action="store_true", help="search with each mutant instead")
    asked = parser.parse_args()
    if asked.mutants:
        return _mutants(asked.depth or MUTANT_DEPTH)
    search = Search(
        Rules(),
        swaps=asked.swaps,
        faults=asked.faults,
        blocks=asked.blocks,
        final_confs=asked.final_confs,
        are_deleted=asked.deletions,
    )
    found = search.run(asked.depth or DEPTHS[asked.swaps], asked.states)
    sys.stdout.write(f"{found}\n")
    if asked.reached:
        sys.stdout.writelines(f"{n:9,} {what}\n" for what, n in sorted(found.reached.items()))
    return 1 if found.counter_example else 0


def _mutants(depth: int) -> int:
    missed = 0
    for name, rules in MUTANTS.items():
        found = Search(rules).run(depth)
        missed += found.counter_example is None
        sys.stdout.write(f"\n{name}: {found.states} states, {found.secs:.1f} s\n")
        sys.stdout.write(f"{found.counter_example or 'NOT FOUND'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
