"""Histograms and counters of what nothing stored tells afterwards: times and sizes.

They begin at 0 with the process. They are counted whether or not `metrics_listen` is set.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FUNDING_SECS = (1, 2, 5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 1_800)
BATCH_SWAPS = (1, 2, 5, 10, 20, 50, 100, 200, 400, 634)


class Instruments:
    """The registry of one daemon and its histograms and counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"lnliquid_{name}", text, labels, registry=self.registry, buckets=buckets
            )

        self.create_secs = histogram(
            "create_seconds", "From a CreateSwap request to its stored reservation", SECS
        )
        self.funding_secs = histogram(
            "funding_seconds", "From a swap's creation to its state FUNDED", FUNDING_SECS
        )
        self.batch_swaps = histogram(
            "funding_batch_swaps", "Swaps in one funding transaction", BATCH_SWAPS
        )
        self.call_secs = histogram(
            "backend_call_seconds", "Time of one call to a node", SECS, "backend"
        )
        self.log_dropped = Gauge(
            "lnliquid_log_lines_dropped",
            "Log lines lost since the start: the reader stalled, or the disk was full",
            registry=self.registry,
        )
        self.backend_errors = Counter(
            "lnliquid_backend_errors",
            "Calls that did not give what was asked, by what is known of the outcome",
            ("backend", "kind"),
            registry=self.registry,
        )
