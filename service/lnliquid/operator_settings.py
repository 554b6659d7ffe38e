"""`lnliquid check-config`: every knob with its source, the timelock budget, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lnliquid import operator_view as view
from lnliquid.buyer import terminal
from lnliquid.errors import BackendError, SettingsError, StoreFailure
from lnliquid.lightning.cln import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain, read_mnemonic
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.operator_options import ConfigOption, JsonOption
from lnliquid.seller import identity, writable
from lnliquid.seller.node_options import unsafe_option
from lnliquid.seller.readiness import LIGHTNING_NETWORKS
from lnliquid.settings import ENV_PREFIX, Settings, load_settings, read_sources
from lnliquid.terms import (
    CLAIM_VSIZE,
    SINGLE_FUNDING_VSIZE,
    Budget,
    Timelocks,
    fee_sats,
    timelock_budget,
    total_price_msat,
)

EXIT_REFUSED, EXIT_UNREACHABLE = 2, 3

EPILOG = """\b
Example:
  lnliquid check-config --config seller.toml
  lnliquid check-config --config seller.toml --connect --json

\b
Exit codes:
  0  the daemon would start with this
  2  wrong usage, or the daemon would refuse it; every reason is a line
  3  --connect only: a node does not answer, or cannot be used as it is"""

MEANING_WIDTH = 140
"""Columns from which the meaning of each knob has room beside it."""

UNITS = (
    ("_sats_per_kvb", "sat/kvB"),
    ("_msat_per_asset_unit", "msat/unit"),
    ("_msat", "msat"),
    ("_sats", "sat"),
    ("_secs", "s"),
    ("_blocks", "blocks"),
    ("_confs", "confs"),
    ("swap_amount", "smallest unit"),
    ("asset_precision", "digits"),
    ("max_inflight_swaps", "swaps"),
    ("lanes", "coin pairs"),
)


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting. `source`: default, needed, file, or the name of the environment variable."""

    name: str
    value: str
    source: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Edge:
    """How far one knob could go, the others as they are, before the daemon refuses."""

    name: str
    value: int
    least: int | None = None
    most: int | None = None

    def __str__(self) -> str:
        if self.least is not None:
            return f"below {self.least:,}"
        return f"above {self.most:,}"


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What a node said, or why it is of no use."""

    name: str
    ok: bool
    text: str


def unit_of(name: str) -> str:
    """The unit of a setting, empty where it has none."""
    return next((unit for ending, unit in UNITS if name.endswith(ending)), "")


def knobs(config: Path | None, settings: Settings | None) -> list[Knob]:
    """Every setting with its value, as the daemon takes it or, where it refuses, as written."""
    in_file, in_environment = read_sources(config)
    found = []
    for name, field in Settings.model_fields.items():
        raw: Any = "" if field.is_required() else field.default
        source = "needed, not set" if field.is_required() else "default"
        if name in in_file:
            raw, source = in_file[name], "file"
        if name in in_environment:
            raw, source = in_environment[name], f"{ENV_PREFIX}{name.upper()}"
        value = raw if settings is None else getattr(settings, name)
        found.append(Knob(name, _shown(value), source, unit_of(name), field.description or ""))
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else str(value)


def edges(settings: Settings) -> list[Edge]:
    """The edge of every knob that hangs together with others."""
    s, budget = settings, timelock_budget(settings.timelocks)
    spare_secs = budget.available_secs - budget.needed_secs
    spare_blocks = spare_secs // s.liquid_block_secs
    rate = s.fee_subsidy_sats * 1000 // CLAIM_VSIZE
    by_amount = [Edge("max_swap_amount", s.max_swap_amount, least=s.least_swap_amount)]
    if s.min_swap_amount is None or not s.allow_sales_below_cost:
        by_amount.append(Edge("min_swap_amount", s.least_swap_amount, least=s.cost_covering_amount))
        price_sats = _price_msat(s, s.min_swap_amount or s.max_swap_amount) // 1000
        rate = min(rate, (price_sats - s.fee_subsidy_sats) * 1000 // SINGLE_FUNDING_VSIZE)
    return [
        Edge("refund_delta_blocks", s.refund_delta_blocks, least=_least_delta(s.timelocks, budget)),
        Edge("invoice_expiry_secs", s.invoice_expiry_secs, most=s.invoice_expiry_secs + spare_secs),
        Edge("create_slack_secs", s.create_slack_secs, most=s.create_slack_secs + spare_secs),
        Edge(
            "max_ln_cltv_blocks",
            s.max_ln_cltv_blocks,
            most=s.max_ln_cltv_blocks + spare_secs // s.lightning_block_secs,
        ),
        Edge(
            "claim_margin_blocks", s.claim_margin_blocks, most=s.claim_margin_blocks + spare_blocks
        ),
        Edge(
            "fee_subsidy_sats",
            s.fee_subsidy_sats,
            least=fee_sats(CLAIM_VSIZE, s.fee_cap_sats_per_kvb),
        ),
        Edge("fee_cap_sats_per_kvb", s.fee_cap_sats_per_kvb, most=rate),
        Edge("funding_confs", s.funding_confs, most=s.max_min_funding_confs),
        Edge("invoice_cltv_blocks", s.invoice_cltv_blocks, most=s.max_ln_cltv_blocks),
        *by_amount,
    ]


def _least_delta(locks: Timelocks, budget: Budget) -> int:
    return -(-budget.needed_secs // locks.liquid_block_secs)


async def ask_nodes(settings: Settings) -> list[NodeAnswer]:
    """Ask both nodes once. Never raises `BackendError`: that is an answer."""

    async def electrum() -> str:
        chain = ElectrumChain(settings.electrum_url, deadline_secs=settings.backend_deadline_secs)
        await chain.start()
        try:
            await chain.wait_connected(settings.backend_deadline_secs)
            return f"at block {(await chain.tip()).height:,}"
        finally:
            await chain.close()

    async def lightning() -> str:
        node = CoreLightning(settings.lightning_rpc, deadline_secs=settings.backend_deadline_secs)
        try:
            info = await node.info()
            fitting = LIGHTNING_NETWORKS[settings.network]
            if info.network not in fitting:
                raise BackendError(
                    "lightning",
                    f"it is on {info.network}; {settings.network} goes with {' or '.join(fitting)}",
                )
            if unsafe := unsafe_option(await node.options()):
                raise BackendError("lightning", unsafe)
            receivable = view.sats(await node.receivable_msat())
            return f"{info.version}, at block {info.block_height:,}, can receive {receivable} sat"
        finally:
            await node.close()

    async def answer(name: str, ask: Callable[[], Awaitable[str]]) -> NodeAnswer:
        try:
            return NodeAnswer(name, True, await ask())
        except BackendError as error:
            return NodeAnswer(name, False, error.message)

    return list(await asyncio.gather(answer("electrum", electrum), answer("lightning", lightning)))


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    cli.command("check-config", epilog=EPILOG)(check_config)


def check_config(
    config: ConfigOption = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask the Electrum server and Lightning too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the settings as the daemon would: every knob with value, unit and source, the timelock
    budget with its numbers, and what would be refused and why. Nothing is changed."""
    terminal.quiet_log()
    with terminal.clean_errors(as_json):
        problems: tuple[str, ...] = ()
        settings = None
        try:
            settings = load_settings(config)
            problems = writable.problems(settings)
            keys = Keychain(
                read_mnemonic(settings.mnemonic_file), NETWORKS_BY_NAME[settings.network]
            )
            if not problems:
                identity.check_file(keys, settings)
        except SettingsError as error:
            problems += (*error.problems, *([error.hint] if error.hint else []))
        except StoreFailure as error:
            problems = (f"the database cannot be read: {error}",)
        found = knobs(config, settings)
    answers = asyncio.run(ask_nodes(settings)) if connect and settings and not problems else []
    code = 0
    if problems:
        code = EXIT_REFUSED
    elif not all(answer.ok for answer in answers):
        code = EXIT_UNREACHABLE
    if as_json:
        terminal.show_json(_as_values(config, found, settings, problems, answers, code))
    else:
        _show(config, found, settings, problems, answers)
    raise typer.Exit(code)


def _as_values(
    config: Path | None,
    found: list[Knob],
    settings: Settings | None,
    problems: tuple[str, ...],
    answers: list[NodeAnswer],
    code: int,
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "file": str(config) if config else None,
        "settings": {
            knob.name: {
                "value": _plain(getattr(settings, knob.name)) if settings else knob.value,
                "source": knob.source,
                "unit": knob.unit,
                "meaning": knob.meaning,
            }
            for knob in found
        },
        "refused": list(problems),
        "exit_code": code,
    }
    if settings is not None:
        values["warnings"] = list(writable.warnings(settings))
        values["least_swap"] = {
            "amount": settings.least_swap_amount,
            "price_msat": _price_msat(settings, settings.least_swap_amount),
            "cost_sats": settings.lbtc_per_swap_sats,
        }
        budget = timelock_budget(settings.timelocks)
        values["timelock_budget"] = {
            "parts_secs": dict(budget.parts),
            "needed_secs": budget.needed_secs,
            "available_secs": budget.available_secs,
            "spare_secs": budget.available_secs - budget.needed_secs,
        }
        values["refused_when"] = {
            e.name: {"now": e.value, "below": e.least, "above": e.most} for e in edges(settings)
        }
    if answers:
        values["nodes"] = {a.name: {"ok": a.ok, "answer": a.text} for a in answers}
    return values


def _price_msat(settings: Settings, amount: int) -> int:
    return total_price_msat(amount, settings.price_msat_per_asset_unit, settings.asset_precision)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _show(
    config: Path | None,
    found: list[Knob],
    settings: Settings | None,
    problems: tuple[str, ...],
    answers: list[NodeAnswer],
) -> None:
    console = view.console()
    wide = console.width >= MEANING_WIDTH
    if config is not None:
        terminal.show(f"settings file: {config}")
    table = _table("setting", "value", "unit", "from", *(["meaning"] if wide else []))
    table.columns[0].no_wrap = True
    for knob in found:
        style = "" if knob.source == "default" else "bold"
        row: list[RenderableType] = [
            knob.name,
            Text(terminal.plain(knob.value), style=style),
            knob.unit,
            knob.source,
        ]
        table.add_row(*row, *([knob.meaning] if wide else []))
    console.print(table)
    if settings is not None:
        terminal.show(
            f"\nThe smallest swap is {settings.least_swap_amount:,} of the smallest unit, for "
            f"{view.sats(_price_msat(settings, settings.least_swap_amount))} sat; "
            f"a swap can cost {settings.lbtc_per_swap_sats:,} sat of L-BTC."
        )
        _show_budget(settings)
    for problem in problems:
        terminal.say(f"refused: {problem}", style="red")
    for text in writable.warnings(settings) if settings is not None else ():
        terminal.say(f"warning: {text}", style="yellow")
    for answer in answers:
        terminal.show(f"{answer.name}: {'ok, ' if answer.ok else 'NOT USABLE: '}{answer.text}")
    if problems:
        terminal.say("the daemon would not start with this", style="bold red")
    else:
        terminal.show("the daemon would start with this")


def _show_budget(settings: Settings) -> None:
    console = view.console()
    budget = timelock_budget(settings.timelocks)
    console.print(Text("\nTimelock budget", style="bold"))
    table = _table("part", "s", "Liquid blocks", right=("s", "Liquid blocks"))
    block = settings.liquid_block_secs
    for name, secs in budget.parts:
        table.add_row(name, f"{secs:,}", f"{secs / block:,.1f}")
    table.add_section()
    spare = budget.available_secs - budget.needed_secs
    for name, secs in (
        ("needed", budget.needed_secs),
        ("there is: refund_delta_blocks", budget.available_secs),
        ("to spare", spare),
    ):
        table.add_row(name, f"{secs:,}", f"{secs / block:,.1f}", style="bold")
    console.print(table)
    console.print(Text("\nWould be refused, the others staying as they are", style="bold"))
    table = _table("setting", "now", "refused", right=("now",))
    for edge in edges(settings):
        table.add_row(edge.name, f"{edge.value:,}", str(edge))
    console.print(table)
    terminal.show("")
