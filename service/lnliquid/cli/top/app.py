"""The application `lnliquid top`: panels, keys, and a look at the daemon every two seconds."""

import time
from dataclasses import replace
from typing import ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from lnliquid.cli import views
from lnliquid.cli.formatting import span
from lnliquid.cli.top import panels
from lnliquid.cli.top.feed import Feed, Snapshot
from lnliquid.cli.top.swaps import Choice, Show, SwapsTable, after
from lnliquid.grpc_client import CallFailed

EVERY_SECS = 2.0

HELP = """\
[b]lnliquid top[/b] looks at the daemon every two seconds, and changes nothing.

[b]↑ ↓ PgUp PgDn[/b]  move in the swaps        [b]Enter[/b]  one swap, whole
[b]f[/b]  which swaps: all, unfinished, those that need you, by state
[b]/[/b]  find by id, transaction or address; Esc ends it
[b]s[/b]  order: newest, next deadline, state, largest
[b]r[/b]  look now            [b]q[/b]  quit            [b]?[/b]  this help

[b]next[/b]       who acts, and the last block for it
[b]lag[/b]        electrum: since its last higher block; lightning: since it answered
[b]lanes[/b]      coins that can each fund a burst, of how many there should be
[b]deadlines[/b]  block, blocks from now, swap, what is awaited until then
A yellow line below a node: the reason why it stops new swaps.

When the daemon is away this stays open, says so, and goes on when it is back.

Esc closes this."""


class Closable(ModalScreen[None]):
    """Something shown over the panels, until Esc or q."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close", show=False)
    ]

    def __init__(self, content: RenderableType) -> None:
        super().__init__()
        self._content = content

    def compose(self) -> ComposeResult:
        """A box with the text, scrolled where it is too long."""
        with VerticalScroll(id="box"):
            yield Static(self._content, id="content")


class Top(App[None]):
    """The live view of the daemon at `address` (unix:/path or host:port)."""

    TITLE = "lnliquid top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #headline, #counts, #away { height: 1; }
    #away { display: none; background: $error; color: $text; text-style: bold; padding: 0 1; }
    #away.shown { display: block; }
    .panel { border: round $primary 50%; border-title-color: $text-muted; padding: 0 1; }
    #upper { height: 6; }
    #lower { height: 25%; min-height: 6; }
    #upper .panel, #lower .panel { width: 1fr; height: 100%; padding: 0; }
    #swaps { height: 1fr; min-height: 5; padding: 0; }
    #swaps DataTable { height: 1fr; overflow-x: hidden; }
    #find { display: none; height: 1; border: none; padding: 0 1; }
    #find.shown { display: block; }
    .stale .panel { opacity: 50%; }
    Closable { align: center middle; }
    #box { width: 100%; max-width: 100; height: auto; max-height: 100%; border: round $accent;
           background: $surface; }
    #content { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("question_mark", "help", "help"),
        Binding("f", "filter", "filter"),
        Binding("slash", "find", "find"),
        Binding("s", "sort", "sort"),
        Binding("enter", "inspect", "swap"),
        Binding("r", "look", "look now"),
        Binding("escape", "end_find", show=False),
    ]

    def __init__(self, address: str, every_secs: float = EVERY_SECS) -> None:
        super().__init__()
        self._address = address
        self._every_secs = every_secs
        self._feed: Feed | None = None
        self._away_since: float | None = None
        self.choice = Choice()
        self.snapshot: Snapshot | None = None
        """The last answer of the daemon, None before the first."""

    def compose(self) -> ComposeResult:
        """The panels from top to bottom."""
        yield Static(f" lnliquid  asking {self._address} …", id="headline")
        yield Static(id="away")
        yield Static(id="counts")
        with Horizontal(id="upper"):
            yield self._panel("backends")
            yield self._panel("inventory")
        with Vertical(id="swaps", classes="panel"):
            yield SwapsTable()
            yield Input(placeholder="part of an id, transaction or address", id="find")
        with Horizontal(id="lower"):
            yield self._panel("events")
            yield self._panel("deadlines")
        yield Footer()

    def _panel(self, name: str) -> Static:
        made = Static(id=name, classes="panel")
        made.border_title = name
        return made

    def on_mount(self) -> None:
        """Begin to look."""
        self._feed = Feed(self._address)
        self.query_one(SwapsTable).focus()
        self.set_interval(self._every_secs, self.action_look)
        self.action_look()

    async def on_unmount(self) -> None:
        """Hang up."""
        if self._feed is not None:
            await self._feed.close()

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        assert self._feed is not None
        try:
            snapshot = await self._feed.snapshot()
        except CallFailed as error:
            self._show_away(str(error))
            return
        line = self._away_line()
        if line is None:
            return
        self.snapshot, self._away_since = snapshot, None
        line.remove_class("shown")
        self.screen_stack[0].remove_class("stale")
        self.show()

    def _away_line(self) -> Static | None:
        """The line for a daemon that is away; None when the screen is already taken down."""
        below = self.screen_stack[:1]  # a swap or the help may lie on it
        return next(
            (line for screen in below for line in screen.query("#away").results(Static)), None
        )

    def _show_away(self, reason: str) -> None:
        line = self._away_line()
        if line is None:
            return
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        secs = span(int(now - self._away_since))
        what = f"AS IT WAS {secs} AGO" if self.snapshot else f"WAITING SINCE {secs}"
        line.update(Text(f"{what}, trying again: {reason}", no_wrap=True, overflow="ellipsis"))
        line.add_class("shown")
        self.screen_stack[0].add_class("stale")

    def on_resize(self) -> None:
        """Fit the panels to the new size."""
        self.call_after_refresh(self.show)

    def show(self) -> None:
        """Draw the last answer of the daemon."""
        if self.snapshot is None:
            return
        status = self.snapshot.status
        screen = self.screen_stack[0]

        def put(name: str, content: RenderableType) -> None:
            screen.query_one(f"#{name}", Static).update(content)

        lines = max(1, screen.query_one("#events").content_size.height)
        put("headline", panels.headline(status))
        put("counts", panels.counts(status))
        put("backends", panels.backends(status))
        put("inventory", panels.inventory(status))
        put("events", panels.events(status, lines))
        put("deadlines", panels.deadlines(status, lines))
        picked = self.choice.pick(self.snapshot.swaps)
        screen.query_one(SwapsTable).show(picked, status.asset_precision, status.now)
        found = f", with {self.choice.text!r}" if self.choice.text else ""
        screen.query_one("#swaps").border_title = (
            f"swaps: {len(picked)} {self.choice.show.value}{found}, {self.choice.order.value}"
            if self.choice.show is not Show.ALL or found
            else f"swaps, {self.choice.order.value}"
        )

    # -- keys -----------------------------------------------------------------------------------

    def action_look(self) -> None:
        """Look at the daemon now."""
        self._look()

    def action_help(self) -> None:
        """Explain keys and columns."""
        self.push_screen(Closable(HELP))

    def action_filter(self) -> None:
        """Show another selection of swaps."""
        self.choice = replace(self.choice, show=after(self.choice.show))
        self.show()

    def action_sort(self) -> None:
        """Show them in another order."""
        self.choice = replace(self.choice, order=after(self.choice.order))
        self.show()

    def action_find(self) -> None:
        """Ask for a text to find."""
        field = self.query_one("#find", Input)
        field.add_class("shown")
        field.focus()

    def action_end_find(self) -> None:
        """Show all again."""
        field = self.query_one("#find", Input)
        field.value = ""
        field.remove_class("shown")
        self.query_one(SwapsTable).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Find as it is typed."""
        self.choice = replace(self.choice, text=event.value.strip().lower())
        self.show()

    def on_input_submitted(self) -> None:
        """Back to the table, with what was found."""
        self.query_one(SwapsTable).focus()

    def on_data_table_row_selected(self) -> None:
        """Enter or a click on a row."""
        self.action_inspect()

    @work(group="inspect", exclusive=True)
    async def action_inspect(self) -> None:
        """Show the swap under the cursor, whole."""
        swap_id = self.query_one(SwapsTable).selected_swap()
        if swap_id is None or self._feed is None or self.snapshot is None:
            return
        try:
            reply = await self._feed.inspect(swap_id)
        except CallFailed as error:
            self._show_away(str(error))
            return
        self.push_screen(Closable(views.swap_view(reply, self.snapshot.status.asset_precision)))
