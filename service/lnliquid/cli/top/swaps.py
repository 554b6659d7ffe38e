"""The table of swaps: which ones, in what order, and its rows kept in place while they change."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from rich.text import Text
from textual.widgets import DataTable

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.cli import views
from lnliquid.cli.console import plain
from lnliquid.cli.formatting import number, span

FAR = 2**32
"""Behind every height: swaps that wait for no block."""


class Order(Enum):
    """Orders of the table; `s` goes from one to the next."""

    NEWEST = "newest first"
    DEADLINE = "next deadline first"
    STATE = "by state"
    AMOUNT = "largest first"


class Show(Enum):
    """Which swaps; `f` goes from one to the next."""

    ALL = "all"
    UNFINISHED = "unfinished"
    NEEDS_YOU = "that need you"
    CREATED = "CREATED"
    FUNDED = "FUNDED"
    CLAIMED = "CLAIMED"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"


Named = TypeVar("Named", Order, Show)


def after(choice: Named) -> Named:
    """The next choice, round and round."""
    choices: list[Named] = list(type(choice))
    return choices[(choices.index(choice) + 1) % len(choices)]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shown and how: filter, text to find, order."""

    show: Show = Show.ALL
    text: str = ""
    order: Order = Order.NEWEST

    def pick(self, swaps: tuple[pb.OperatorSwap, ...]) -> list[pb.OperatorSwap]:
        """The swaps of this choice in its order; they come newest first."""
        found = [s for s in swaps if self._fits(s)]
        match self.order:
            case Order.DEADLINE:
                found.sort(key=lambda s: s.outlook.by_height or FAR)
            case Order.STATE:
                found.sort(key=lambda s: s.swap.state)
            case Order.AMOUNT:
                found.sort(key=lambda s: -s.swap.asset_amount)
            case Order.NEWEST:
                pass
        return found

    def _fits(self, item: pb.OperatorSwap) -> bool:
        match self.show:
            case Show.ALL:
                shown = True
            case Show.UNFINISHED:
                shown = not item.swap.is_final
            case Show.NEEDS_YOU:
                shown = item.paid_unclaimed or item.outlook.actor == pb.ACTOR_OPERATOR
            case _:
                shown = views.state_name(item.swap.state) == self.show.value
        swap = item.swap
        words = [swap.swap_id, swap.request_id, swap.payment_hash, swap.buyer_claim_address]
        words += [swap.funding_txid, swap.spend_txid]
        return shown and any(self.text in word for word in words)


COLUMNS = ("swap", "state", "age", "amount", "sat", "next", "awaited")


def cells(item: pb.OperatorSwap, precision: int, now: int) -> list[Text]:
    """A row of the table."""
    swap = item.swap
    alarm = "bold red" if item.paid_unclaimed else ""
    awaited = "; ".join(views.notes(item)) or item.outlook.awaited
    return [
        Text(swap.swap_id[:8], style=alarm),
        views.state_text(swap),
        Text(span(now - swap.created_at), justify="right"),
        Text(number(swap.asset_amount, precision), justify="right"),
        Text(number(swap.total_price_msat, 3), justify="right"),
        Text(views.who(item), style=alarm),
        Text(plain(awaited), style=alarm or "dim"),
    ]


class SwapsTable(DataTable[Text]):
    """Swaps by id; the cursor stays on its swap while others come and go."""

    def on_mount(self) -> None:
        """Set up the columns."""
        self.cursor_type = "row"
        self.zebra_stripes = True
        for name in COLUMNS:
            self.add_column(name, key=name)

    def show(self, items: list[pb.OperatorSwap], precision: int, now: int) -> None:
        """Make the rows these, with as little change as can be."""
        keys = [item.swap.swap_id for item in items]
        if keys == [row.key.value for row in self.ordered_rows]:
            for item in items:
                values = cells(item, precision, now)
                for name, value in zip(COLUMNS, values, strict=True):
                    if self.get_cell(item.swap.swap_id, name) != value:
                        self.update_cell(item.swap.swap_id, name, value, update_width=True)
            return
        selected, scrolled = self.selected_swap(), self.scroll_offset
        self.clear()
        for item in items:
            self.add_row(*cells(item, precision, now), key=item.swap.swap_id)
        if selected in keys:
            self.move_cursor(row=keys.index(selected), scroll=False)
        self.scroll_to(scrolled.x, scrolled.y, animate=False)

    def selected_swap(self) -> str | None:
        """Id of the swap under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value
