"""The buyer's checks before payment (design section 8). Pure: no I/O, no clock.

All checks always run, so that a person sees everything that is wrong at once. A check never
raises: what a seller sent may be damaged in any way, and that is a failed check.
"""

from lnliquid.buyer import answer_checks, chain_checks
from lnliquid.buyer.checks import Evidence, Expectations, FundingView, SwapReply, Verdict
from lnliquid.domain.swap import Offer, Tip

CHECKS = (*answer_checks.CHECKS, *chain_checks.CHECKS)
"""Every check, in the order of the verdict."""


def verify(
    swap: SwapReply,
    offer: Offer,
    want: Expectations,
    funding: FundingView,
    tip: Tip,
    now: int,
) -> Verdict:
    """Run every check. `now` in unix seconds; `tip` and `funding` from the buyer's own backend."""
    evidence = Evidence(swap, offer, want, funding, tip, now)
    return Verdict(tuple(rule.check(evidence) for rule in CHECKS))
