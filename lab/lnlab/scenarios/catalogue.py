"""Every scenario by name, for `lnlab scenario`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc

from lnlab.buyer import Buyer
from lnlab.daemon import SellerDaemon
from lnlab.scenarios import late_payment, paid
from lnlab.scenarios.crash import crash
from lnlab.scenarios.outage import outage
from lnlab.scenarios.refund import refund
from lnlab.scenarios.reorg import reorg
from lnlab.scenarios.retries import retries
from lnlab.scenarios.sale import Say
from lnlab.scenarios.sale import sale as run_sale

Run = Callable[[SellerDaemon, Say], Awaitable[None]]

FAST_BACKENDS = {"backend_deadline_secs": 2.0, "poll_interval_secs": 2.0}
"""Settings of the daemon for scenarios: dead backends are found dead soon."""


@dataclass(frozen=True)
class Scenario:
    """A script with its checks: `run` raises `ScenarioError` when one fails."""

    name: str
    run: Run

    @property
    def promise(self) -> str:
        """What it shows, in a sentence."""
        return (getdoc(self.run) or "").splitlines()[0]


async def sale(daemon: SellerDaemon, say: Say) -> None:
    """A buyer with nothing but the command line ends up with the asset, and both sides agree."""
    await run_sale(daemon, Buyer(daemon), 1_000, say=say)


SCENARIOS: Mapping[str, Scenario] = {
    name: Scenario(name, run)
    for name, run in {
        "sale": sale,
        "retries": retries,
        "refund": refund,
        "late-payment": late_payment.late_payment,
        "held-payment": late_payment.held_payment,
        "paid-unclaimed": paid.paid_unclaimed,
        "daemon-down-payment": paid.daemon_down_payment,
        "partial-claim": paid.partial_claim,
        "claim-race": paid.claim_race,
        "reorg": reorg,
        "outage": outage,
        "crash": crash,
    }.items()
}
