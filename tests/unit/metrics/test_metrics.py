"""Metrics: what the daemon exports, where it comes from, and that alerts and dashboard name it."""

import asyncio
import json
import re
import urllib.request
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes without types
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import SellerLightning
from lnliquid.domain.swap import State
from lnliquid.metrics.backends import Backend, observed
from lnliquid.metrics.instruments import Instruments

from ..builders import ROOT, StillClock
from ..fakes import FakeChain, FakeLightning
from ..seller_world import LOCK_HEIGHT, SellerWorld

MONITORING = ROOT / "deploy" / "monitoring"
NAME = re.compile(r"\blnliquid_\w+")


def figures(instruments: Instruments) -> dict[tuple[str, ...], float]:
    """Every sample: (name, label values in the order of the labels' names…) to value."""
    found = {}
    text = generate_latest(instruments.registry).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found[(sample.name, *labels)] = sample.value
    return found


async def told(world: SellerWorld) -> dict[tuple[str, ...], float]:
    """The figures after one look."""
    await world.gauges.update()
    return figures(world.instruments)


async def test_swaps_deadline_inventory_and_lanes_are_read_from_the_store(
    world: SellerWorld,
) -> None:
    """By state, with what needs the operator, and the blocks until the next refund."""
    await world.sell(1)
    await world.pay_late(await world.sell(2))
    await world.reserve(3)
    found = await told(world)
    assert found["lnliquid_swaps", "FUNDED"] == 2
    assert found["lnliquid_swaps", "CREATED"] == 1
    assert found["lnliquid_swaps", "CLAIMED"] == 0
    assert found["lnliquid_swaps_unfinished",] == 3
    assert found["lnliquid_swaps_paid_unclaimed",] == 1
    assert found["lnliquid_next_refund_blocks",] == LOCK_HEIGHT + 1 - world.chain.height
    asset = world.settings.asset_id
    assert found["lnliquid_inventory", asset, "reserved"] == 4_000
    assert found["lnliquid_lanes", asset] == 1
    assert found["lnliquid_lanes_wanted", asset] == 4
    assert (found["lnliquid_ready",], found["lnliquid_paused",]) == (1, 0)
    await world.operator.set_paused(True)
    found = await told(world)
    assert (found["lnliquid_ready",], found["lnliquid_paused",]) == (0, 1)


async def test_nodes_that_are_down_show_as_down(world: SellerWorld) -> None:
    """With the tip -1, their errors by kind, and a lag that grows."""
    found = await told(world)
    assert (found["lnliquid_backend_up", "electrum"], found["lnliquid_tip_height",]) == (1, 100)
    world.break_nodes()
    world.chain.height = 100
    with pytest.raises(BackendUnavailable):
        await world.observed_chain.histories([b"x"])
    found = await told(world)
    assert found["lnliquid_backend_up", "electrum"] == 0
    assert found["lnliquid_tip_height",] == -1
    assert found["lnliquid_backend_errors_total", "electrum", "unavailable"] == 1
    assert found["lnliquid_backend_lag_seconds", "electrum"] >= 0


async def test_fundings_are_timed_from_their_events_and_not_twice(world: SellerWorld) -> None:
    """Those from before the first look are left out: a counter begins at 0."""
    await world.sell(1)
    assert (await told(world))["lnliquid_funding_seconds_count",] == 0
    swap = await world.reserve(2)
    world.clock.at += 45
    await world.change(swap, cause="seen", state=State.FUNDED)
    for _ in range(2):
        found = await told(world)
        assert found["lnliquid_funding_seconds_count",] == 1
        assert found["lnliquid_funding_seconds_sum",] == 45


class Time:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


class SlowChain(FakeChain):
    """Takes two seconds for a history, on the test's clock."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time

    async def histories(self, scripts: Any) -> Any:
        """As set, late."""
        self._time.at += 2
        return await super().histories(scripts)


async def test_a_backends_record_tells_lag_time_and_errors() -> None:
    """Lag counts from the last higher block; a refusal is an answer, no answer is an error."""
    time, instruments, clock = Time(), Instruments(), StillClock(77)
    chain = SlowChain(time)
    record = Backend("electrum", instruments, clock, time)
    node = observed(chain, record)
    await node.tip()
    time.at = 30
    await node.tip()
    assert (record.lag_secs, record.height, record.is_up) == (30, 100, True)
    chain.height = 99  # a block went; lower is not news
    await node.tip()
    assert (record.lag_secs, record.height) == (30, 99)
    chain.height = 101
    await node.tip()
    assert record.lag_secs == 0
    await node.histories([])
    assert record.mean_call_ms == 2_000
    for error, is_up in (
        (BackendRejected("electrum", "no", 1), True),
        (BackendTimeout("electrum", "late"), False),
        (BackendUnavailable("electrum", "gone"), False),
    ):
        chain.broken = error
        with pytest.raises(type(error)):
            await node.histories([])
        assert record.is_up is is_up
    assert (record.calls, record.errors) == (4, 2)
    assert (record.last_error, record.last_error_at) == ("gone", 77)
    found = figures(instruments)
    for kind in ("rejected", "timeout", "unavailable"):
        assert found["lnliquid_backend_errors_total", "electrum", kind] == 1
    assert found["lnliquid_backend_call_seconds_count", "electrum"] == 1


async def test_lightning_is_fresh_when_it_answers_and_a_long_wait_is_not_its_call_time() -> None:
    """Also when it answers with an error."""
    time, instruments = Time(), Instruments()
    node = FakeLightning()
    record = Backend("lightning", instruments, StillClock(), time, answers_are_news=True)
    port: SellerLightning = observed(node, record)
    time.at = 50
    await port.wait_paid(0, 60)
    assert (record.lag_secs, record.mean_call_ms) == (0, 0)
    assert ("lnliquid_backend_call_seconds_count", "lightning") not in figures(instruments)
    time.at = 60
    node.is_down = True
    with pytest.raises(BackendUnavailable):
        await port.info()
    assert (record.lag_secs, record.is_up) == (10, False)


def fetched(url: str) -> str:
    """The page at this address."""
    with urllib.request.urlopen(url, timeout=5) as reply:
        text: str = reply.read().decode()
    return text


async def test_they_are_served_over_http(world: SellerWorld) -> None:
    """On the address that was asked for, as text."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    await world.gauges.update()
    server, thread = world.gauges.serve(f"127.0.0.1:{port}")
    try:
        text = await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert 'lnliquid_swaps{state="FUNDED"} 0.0' in text


async def exported(world: SellerWorld) -> dict[str, set[str]]:
    """Names of all samples of a daemon at work, with the labels that they have."""
    await world.sell(1)
    await world.observed_chain.histories([])
    await world.gauges.update()
    found: dict[str, set[str]] = {}
    text = generate_latest(world.instruments.registry).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries_of_dashboard() -> list[str]:
    """Every query of every panel."""
    board = json.loads((MONITORING / "dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def alerts() -> list[dict[str, Any]]:
    """Every alert rule."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def test_alerts_and_dashboard_name_only_what_is_exported(world: SellerWorld) -> None:
    """And every metric that is exported is on the dashboard or in an alert."""
    names = await exported(world)
    queries = [*queries_of_dashboard(), *(rule["expr"] for rule in alerts())]
    used = {name for query in queries for name in NAME.findall(query)}
    assert used - set(names) == set()
    endings = re.compile(r"_(bucket|count|sum|total|created)$")
    families = {endings.sub("", name) for name in names}
    assert families - {endings.sub("", name) for name in used} == set()


async def test_labels_in_queries_are_those_of_the_metrics(world: SellerWorld) -> None:
    """A selector on a label that does not exist would never match."""
    names = await exported(world)
    selector = re.compile(r"(lnliquid_\w+)\{([^}]*)\}")
    found = 0
    for query in [*queries_of_dashboard(), *(rule["expr"] for rule in alerts())]:
        for name, inside in selector.findall(query):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", inside))
            assert labels <= names[name], query
            found += 1
        assert query.count("(") == query.count(")")
    assert found >= 5


def test_every_alert_is_explained_in_the_runbook() -> None:
    """What to do at it has a row, and every row is an alert."""
    page = (ROOT / "docs" / "operator.md").read_text()
    section = page.split("### What to do at each alert")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert rows == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "ticket")
