"""How the operator's commands show swaps, a swap's timeline, and the inventory on a terminal."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.cli.console import plain
from lnliquid.cli.formatting import number, sats, span, utc
from lnliquid.clock import SystemClock

WIDE = 110
"""Columns from which tables show more."""
PARTS = ("available", "reserved", "locked")
"""Of what is held of an asset."""
STATE_STYLES = {
    "CREATED": "yellow",
    "FUNDED": "cyan",
    "CLAIMED": "green",
    "REFUNDED": "blue",
    "FAILED": "red",
}
ACTORS = {
    pb.ACTOR_DAEMON: "daemon",
    pb.ACTOR_BUYER: "buyer",
    pb.ACTOR_CHAIN: "chain",
    pb.ACTOR_OPERATOR: "you",
}


def as_values(message: Message) -> dict[str, Any]:
    """The message as JSON, fields with their default value too."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def state_name(state: "pb.SwapState.ValueType") -> str:
    """The state as people write it."""
    return pb.SwapState.Name(state).removeprefix("SWAP_STATE_")


def state_text(swap: pb.Swap) -> Text:
    """The state in its colour; dim once nothing can change any more."""
    name = state_name(swap.state)
    style = STATE_STYLES.get(name, "")
    return Text(name, style=f"dim {style}" if swap.is_final else style)


def who(item: pb.OperatorSwap) -> str:
    """Who acts next and by which block; a dash for a swap that is final."""
    if not item.HasField("outlook"):
        return "-"
    actor = ACTORS.get(item.outlook.actor, "-")
    height = item.outlook.by_height
    return f"{actor} by {height}" if height else actor


def notes(item: pb.OperatorSwap) -> list[str]:
    """What must not be overlooked."""
    found = []
    if item.paid_unclaimed:
        found.append("PAID, NOT CLAIMED")
    if item.forced_refund_reason:
        found.append(f"refund ordered: {item.forced_refund_reason}")
    return found


def swaps_table(items: Iterable[pb.OperatorSwap], precision: int, width: int) -> Table:
    """Swaps, one a row; ids are whole, for copying."""
    table = plain_table()
    table.add_column("swap", no_wrap=True, min_width=36)
    table.add_column("state", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=width < WIDE, overflow="ellipsis")
    if width >= WIDE:
        table.add_column("sat", justify="right", no_wrap=True)
    table.add_column("next", no_wrap=True)
    if width >= WIDE:
        table.add_column("awaited", overflow="ellipsis", no_wrap=True)
    now = SystemClock().now()
    for item in items:
        swap = item.swap
        awaited = "; ".join(notes(item)) or item.outlook.awaited
        row: list[RenderableType] = [
            swap.swap_id,
            state_text(swap),
            span(now - swap.created_at),
            number(swap.asset_amount, precision),
            who(item),
        ]
        if width >= WIDE:
            row.insert(4, number(swap.total_price_msat, 3))
            row.append(Text(plain(awaited)))
        table.add_row(*row, style="bold red" if item.paid_unclaimed else "")
    return table


def plain_table() -> Table:
    """A table with a line below its head and none around it."""
    return Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(plain(value)))
    return table


def timeline(events: Iterable[pb.SwapEvent]) -> Group:
    """What happened, oldest first; transactions on lines of their own, whole."""
    lines = []
    for event in events:
        name = state_name(event.to_state)
        line = Text(f"{utc(event.at)}  ", style="dim")
        line.append(f"{name:8}  ", f"not dim {STATE_STYLES.get(name, '')}")
        where = f"#{event.height}  " if event.height else ""
        line.append(where + plain(event.cause), "not dim")
        lines.append(line)
        if event.txid:
            lines.append(Text(f"  tx {event.txid}", style="dim"))
    return Group(*lines)


def when(by_height: int, tip_height: int) -> str:
    """A height, and how far it is."""
    if not by_height:
        return ""
    if not tip_height:
        return f"block {by_height:,}"
    left = by_height - tip_height
    if left > 0:
        return f"block {by_height:,}, {left:,} block{'s' if left > 1 else ''} from now"
    return f"block {by_height:,}, {'now' if left == 0 else f'{-left:,} blocks ago'}"


def swap_view(reply: pb.InspectSwapResponse, precision: int) -> Group:
    """One swap: what it is, what happened, what is awaited, by which block, who acts."""
    item, swap = reply.swap, reply.swap.swap
    final = ", final" if swap.is_final else ""
    rows = [
        ("swap", swap.swap_id),
        ("state", f"{state_name(swap.state)}{final}"),
        ("request", swap.request_id),
        ("sells", number(swap.asset_amount, precision)),
        ("of asset", swap.asset_id),
        ("for", sats(swap.total_price_msat)),
        ("to", swap.buyer_claim_address),
        ("payment hash", swap.payment_hash),
        ("funding", swap.funding_txid or "not signed yet"),
        ("refund from", when(swap.refund_lock_height, 0) or "not decided yet"),
    ]
    if swap.spend_txid:
        rows.append(("spent by", swap.spend_txid))
    rows += [("note", note) for note in notes(item)]
    parts: list[RenderableType] = [_grid(rows), Text("\nWhat happened (UTC, #block)", style="bold")]
    parts.append(Padding(timeline(reply.events), (0, 0, 0, 2)))
    parts.append(Text("\nWhat comes next", style="bold"))
    if not item.HasField("outlook"):
        parts.append(Padding("nothing: this swap is final", (0, 0, 0, 2)))
        return Group(*parts)
    ahead = item.outlook
    rows = [("awaited", ahead.awaited), ("who acts", ACTORS.get(ahead.actor, "-"))]
    if ahead.by_height:
        rows.append(("by", when(ahead.by_height, reply.tip_height)))
    if ahead.otherwise:
        rows.append(("then", ahead.otherwise))
    rows.append(("chain", f"block {reply.tip_height:,}" if reply.tip_height else "not reachable"))
    parts.append(Padding(_grid(rows), (0, 0, 0, 2)))
    return Group(*parts)


def inventory_table(status: pb.GetStatusResponse, width: int) -> Group:
    """What is held of each asset, and its lanes and coins."""
    table = plain_table()
    table.add_column("asset", no_wrap=width >= WIDE, overflow="ellipsis")
    for name in (*PARTS, "lanes"):
        table.add_column(name, justify="right", no_wrap=True)
    coins: list[RenderableType] = []
    for held, name, precision in holdings(status):
        short = name if name == "L-BTC" else f"{name[:12]}…"
        is_few = held.lanes < held.lanes_wanted
        table.add_row(
            name if width >= WIDE else short,
            *(number(getattr(held, part), precision) for part in PARTS),
            Text(f"{held.lanes} of {held.lanes_wanted}", style="yellow" if is_few else ""),
        )
        values = ", ".join(number(value, precision) for value in held.coins[:8])
        more = f", and {len(held.coins) - 8} smaller" if len(held.coins) > 8 else ""
        coins.append(Text(f"coins of {short}: {values or 'none'}{more}", style="dim"))
        if held.price_msat_per_asset_unit:
            coins.append(Text(f"price of {short}: {price_text(held, status.now)}"))
    return Group(table, Text(), *coins)


def price_text(held: pb.AssetInventory, now: int) -> str:
    """The price of an asset, where it comes from, and until when it stands."""
    by = f"set {utc(held.price_set_at)} UTC" if held.price_set_at else "from the settings"
    until = held.price_valid_until
    end = f"until {utc(until)} UTC" if until else "without end"
    over = "; OUT OF DATE, nothing is sold" if until and until <= now else ""
    return f"{sats(held.price_msat_per_asset_unit)} a unit, {by}, {end}{over}"


def holdings(status: pb.GetStatusResponse) -> Iterator[tuple[pb.AssetInventory, str, int]]:
    """Each asset that is held, its name and its precision; L-BTC is the last one."""
    *sold, lbtc = status.assets
    for held in sold:
        yield held, held.asset_id, status.asset_precision
    yield lbtc, "L-BTC", 8
