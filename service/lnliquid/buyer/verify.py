"""The buyer's checks before payment (design section 8). Pure: no I/O, no clock.

All checks always run, so that a person sees everything that is wrong at once. A check never
raises: what a seller sent may be damaged in any way, and that is a failed check.
"""

from lnliquid.buyer import answer_checks, chain_checks
from lnliquid.buyer.checks import Evidence, Verdict

CHECKS = (*answer_checks.CHECKS, *chain_checks.CHECKS)
"""Every check, in the order of the verdict."""


def verify(evidence: Evidence) -> Verdict:
    """Run every check. `tip` and `funding` must be from the buyer's own backend."""
    return Verdict(tuple(rule.check(evidence) for rule in CHECKS))
