"""The panels of the live view as rich renderables: pure functions of the daemon's status."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.cli import views
from lnliquid.cli.console import plain
from lnliquid.cli.formatting import number, span, utc

GOOD, WARN, BAD = "green", "yellow", "bold red"


def headline(status: pb.GetStatusResponse) -> Text:
    """One line: chain, readiness, what needs a person."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(" lnliquid ", "bold reverse")
    line.append(f" {status.network} ", "bold")
    height = f"block {status.tip_height:,}" if status.tip_height else "chain not reachable"
    line.append(f" {height} ", "" if status.tip_height else BAD)
    if status.paid_unclaimed:
        line.append(f" {status.paid_unclaimed} PAID, NOT CLAIMED ", "bold white on red")
    if status.paused:
        line.append(f" PAUSED: {plain(status.problem)} ", "bold black on yellow")
    elif status.problem:
        line.append(f" NOT READY: {plain(status.problem)} ", "bold black on yellow")
    else:
        line.append(" ready ", f"bold {GOOD}")
    line.append(f" up {span(status.now - status.started_at)}", "dim")
    return line


def counts(status: pb.GetStatusResponse) -> Text:
    """One line: how many swaps are in each state."""
    line = Text(" ", no_wrap=True, overflow="ellipsis")
    for count in status.counts:
        name = views.state_name(count.state)
        style = views.STATE_STYLES.get(name, "") if count.swaps else "dim"
        line.append(f"{name.lower()} ", "dim")
        line.append(f"{count.swaps:,}   ", style)
    line.append("unfinished ", "dim")
    line.append(f"{status.unfinished:,}")
    return line


def backends(status: pb.GetStatusResponse) -> Table:
    """A row for each node, and below them why new swaps are refused because of one."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    for _ in range(4):
        table.add_column(justify="right", no_wrap=True)
    table.add_row(*(Text(n, style="dim") for n in ("node", "block", "lag", "call", "errors")))
    notes: list[Text] = []
    for node in status.backends:
        table.add_row(
            Text(f"● {node.name}", style=GOOD if node.is_up else BAD),
            f"{node.height:,}" if node.height else "-",
            span(int(node.lag_secs)),
            f"{node.mean_call_ms:.0f} ms",
            Text(f"{node.errors:,}", style=WARN if node.errors else ""),
        )
        if node.breaker:
            notes.append(Text(plain(node.breaker), style=WARN, overflow="ellipsis", no_wrap=True))
        elif not node.is_up and node.last_error:
            notes.append(Text(plain(node.last_error), style=BAD, overflow="ellipsis", no_wrap=True))
    return _with_notes(table, notes)


def _with_notes(table: Table, notes: Sequence[Text]) -> Table:
    whole = Table.grid(expand=True)
    whole.add_column(no_wrap=True, overflow="ellipsis")
    whole.add_row(table)
    for note in notes:
        whole.add_row(note)
    return whole


def inventory(status: pb.GetStatusResponse) -> Table:
    """A row for each asset: available, reserved, locked, lanes."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, min_width=5)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=5)
    table.add_row(*(Text(name, style="dim") for name in ("asset", *views.PARTS, "lanes")))
    for held, name, precision in views.holdings(status):
        is_few = held.lanes < held.lanes_wanted
        table.add_row(
            name if name == "L-BTC" else f"{name[:4]}…",
            *(rounded(getattr(held, part), precision) for part in views.PARTS),
            Text(f"{held.lanes}/{held.lanes_wanted}", style=WARN if is_few else GOOD),
        )
    return table


def rounded(amount: int, precision: int) -> str:
    """An amount in whole units with as many digits as a narrow column takes; never shown as 0."""
    whole = number(amount, precision)
    if len(whole) <= 7:
        return whole
    value = amount / 10**precision
    if value >= 1_000:
        return f"{value:,.0f}"
    if value < 0.00001:
        return "<.00001"
    decimals = max(0, 2 - math.floor(math.log10(value)))
    short = f"{value:,.{min(decimals, 5)}f}"
    return short.rstrip("0").rstrip(".") if "." in short else short


def events(status: pb.GetStatusResponse, most: int) -> RenderableType:
    """What happened last, newest on top."""
    lines = []
    for item in list(status.events)[::-1][:most]:
        name = views.state_name(item.event.to_state)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{utc(item.event.at)[11:16]} ", "dim")
        line.append(f"{item.swap_id[:8]} ")
        line.append(f"{name:8} ", views.STATE_STYLES.get(name, ""))
        line.append(plain(item.event.cause))
        lines.append(line)
    return Group(*lines) if lines else Text("nothing has happened yet", style="dim")


def deadlines(status: pb.GetStatusResponse, most: int) -> RenderableType:
    """The blocks that decide something next, nearest first."""
    due = sorted(
        (d for d in status.deadlines if d.outlook.by_height), key=lambda d: d.outlook.by_height
    )
    lines = []
    for item in due[:most]:
        left = item.outlook.by_height - status.tip_height if status.tip_height else None
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{item.outlook.by_height:,} ")
        style = WARN if left is not None and left <= 3 else "dim"
        line.append(f"{'?' if left is None else f'{left:+,}':>5} ", style)
        line.append(f"{item.swap.swap_id[:8]} ")
        line.append(plain(item.outlook.awaited))
        lines.append(line)
    return Group(*lines) if lines else Text("no block decides anything", style="dim")
