"""The panels of the live view as rich renderables: pure functions of what the daemon told."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid import operator_view as view
from lnliquid.buyer.terminal import plain

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
    line.append(f" up {view.age(status.now - status.started_at)}", "dim")
    return line


def counts(status: pb.GetStatusResponse) -> Text:
    """One line: how many swaps are in each state."""
    line = Text(" ", no_wrap=True, overflow="ellipsis")
    for count in status.counts:
        name = view.state_name(count.state)
        style = view.STATE_STYLES.get(name, "") if count.swaps else "dim"
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
            view.age(int(node.lag_secs)),
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
    table.add_column(no_wrap=True, min_width=6)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=5)
    head = ("asset", "free", "kept", "locked", "lanes")
    table.add_row(*(Text(name, style="dim") for name in head))
    for number, held in enumerate(status.assets):
        precision = 8 if number else status.asset_precision  # the second one is L-BTC
        short = held.lanes < held.lanes_wanted
        table.add_row(
            "L-BTC" if number else f"{held.asset_id[:5]}…",
            *(
                rounded(getattr(held, part), precision)
                for part in ("available", "reserved", "locked")
            ),
            Text(f"{held.lanes}/{held.lanes_wanted}", style=WARN if short else GOOD),
        )
    return table


def rounded(amount: int, precision: int) -> str:
    """An amount in whole units with as many digits as a narrow column takes; never shown as 0."""
    whole = view.units(amount, precision)
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
        name = view.state_name(item.event.to_state)
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{view.utc(item.event.at)[11:16]} ", "dim")
        line.append(f"{item.swap_id[:8]} ")
        line.append(f"{name:8} ", view.STATE_STYLES.get(name, ""))
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
