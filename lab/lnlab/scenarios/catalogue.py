"""Every scenario by name, for `lnlab scenario`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc

from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.lab import Lab
from lnlab.scenarios import (
    attacks,
    disk_full,
    host,
    host_disk,
    host_files,
    lag,
    late_payment,
    loss,
    paid,
    storms,
)
from lnlab.scenarios.containers import containers
from lnlab.scenarios.crash import crash
from lnlab.scenarios.lightning_restart import lightning_restart
from lnlab.scenarios.outage import outage
from lnlab.scenarios.refund import refund
from lnlab.scenarios.reorg import deep_reorg, reorg
from lnlab.scenarios.retries import retries
from lnlab.scenarios.sale import Say
from lnlab.scenarios.sale import sale as run_sale
from lnlab.scenarios.several_buyers import several_buyers
from lnlab.scenarios.watchers import watchers
from lnlab.scenarios.withdraw import withdraw

Run = Callable[[SellerDaemon, Say], Awaitable[None]]
RunOnLab = Callable[[Lab, Say, int], Awaitable[None]]

FAST_BACKENDS = {"backend_deadline_secs": 2.0, "poll_interval_secs": 2.0}
"""Settings of the daemon for scenarios: dead backends are found dead soon."""


@dataclass(frozen=True)
class Scenario:
    """A script with its checks, which raises `ScenarioError` when one fails.

    Either `run`, on a daemon that others may have used before, or `run_on_lab`, on a fresh lab
    where it starts a seller of its own; the number is the seed of what is random.
    """

    name: str
    run: Run | None = None
    run_on_lab: RunOnLab | None = None
    proxies: bool = False
    """It troubles the backends by proxies, which a daemon in a container does not use."""
    on_host: bool = False
    """It troubles the daemon's own process, which is on the host then."""
    only_on: str | None = None
    """The one kind of nodes that it can be played on."""
    why_not: Callable[[], str | None] = lambda: None
    """Why it cannot be played on this host, None when it can."""

    @property
    def promise(self) -> str:
        """What it shows, in a sentence."""
        return (getdoc(self.run or self.run_on_lab) or "").splitlines()[0]

    @property
    def limits(self) -> str:
        """Where it cannot be played, or not wholly, in a few words; empty for most."""
        if self.only_on is not None:
            return f"only with `--nodes {self.only_on}`"
        if (reason := self.why_not()) is not None:
            return f"not on this host: {reason}"
        if self.on_host:
            return "in a compose lab the daemon is on the host"
        if self.proxies:
            return "in a compose lab the daemon is on the host, as the proxies are"
        return ""


async def sale(daemon: SellerDaemon, say: Say) -> None:
    """A buyer with nothing but the command line ends up with the asset, and both sides agree."""
    await run_sale(daemon, Buyer(daemon), 1_000, say=say)


SCENARIOS: Mapping[str, Scenario] = (
    {
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
            "deep-reorg": deep_reorg,
            "crash": crash,
            "stall": lag.stall,
            "lightning-restart": lightning_restart,
            "disk-full": disk_full.disk_full,
            "replica-fails": disk_full.replica_fails,
            "watchers": watchers,
            "host-file-replaced": host_files.file_replaced,
            "host-two-daemons": host_files.two_daemons,
            "host-descriptors": host_files.descriptors,
            "database-lost": loss.database_lost,
            "database-older": loss.older_copy,
            "several-buyers": several_buyers,
            "withdraw": withdraw,
        }.items()
    }
    | {
        "outage": Scenario("outage", outage, proxies=True),
        "tip-back": Scenario("tip-back", lag.tip_back, proxies=True),
        "holding-seller": Scenario(
            # Real nodes would go on chain at the end of the hold, and close the channel.
            "holding-seller",
            attacks.holding_seller,
            only_on="embedded",
        ),
        "containers": Scenario("containers", containers, only_on="compose"),
        "host-stalled-stderr": Scenario("host-stalled-stderr", host.stalled_stderr, on_host=True),
        "host-hung-replica": Scenario("host-hung-replica", host.hung_replica, on_host=True),
        "host-hung-disk": Scenario(
            "host-hung-disk", host_disk.hung_disk, on_host=True, why_not=host_disk.no_compiler
        ),
        "host-full-temp": Scenario(
            "host-full-temp", host.full_temp, on_host=True, why_not=host.no_mounts
        ),
    }
    | {
        name: Scenario(name, run_on_lab=run)
        for name, run in {
            "frozen-server": attacks.frozen_server,
            "storm": storms.storm,
            "oversell": storms.oversell,
            "storm-killed": storms.killed,
        }.items()
    }
)
