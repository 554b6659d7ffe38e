"""`lnliquid check-config`: each setting with its source, the timelock budget, and all refusals."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lnliquid.cli import console
from lnliquid.cli.formatting import sats
from lnliquid.cli.options import ConfigOption, JsonOption, epilog
from lnliquid.cli.views import plain_table
from lnliquid.config import ENV_PREFIX, Settings, load_settings, read_sources, unit_of
from lnliquid.domain.errors import (
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    BackendError,
    SettingsError,
    StoreFailure,
)
from lnliquid.domain.terms import CLAIM_VSIZE, SINGLE_FUNDING_VSIZE, fee_sats, total_price_msat
from lnliquid.domain.timelock import LIQUID_BLOCK_SECS, TAIL, largest_cltv
from lnliquid.lightning.core_lightning import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain, read_mnemonic
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.seller import identity
from lnliquid.seller.node_options import lightning_problem
from lnliquid.store import writable

EPILOG = epilog(
    "check-config --config seller.toml",
    "check-config --config seller.toml --connect --json",
    codes={
        EXIT_OK: "the daemon would start with this",
        EXIT_USAGE: "wrong usage, or the daemon would refuse it; every reason is a line",
        EXIT_UNAVAILABLE: "--connect only: a node does not answer, or cannot be used as it is",
    },
)

MEANING_WIDTH = 140
"""Columns from which the meaning of each setting stands beside it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `source`: default, needed, file, or the name of the environment variable."""

    name: str
    value: Any
    source: str
    meaning: str

    @property
    def text(self) -> str:
        """The value for a person."""
        if self.value is None:
            return "none"
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return f"{self.value:,}" if isinstance(self.value, int) else str(self.value)


@dataclass(frozen=True, slots=True)
class Limit:
    """From where on the daemon would refuse a setting, the others unchanged."""

    name: str
    value: int
    least: int | None = None
    most: int | None = None

    def __str__(self) -> str:
        return f"above {self.most:,}" if self.least is None else f"below {self.least:,}"


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """The answer of a node, or why it is of no use."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """The result of the command. `settings` is None when they cannot be read as such."""

    config: Path | None
    settings: Settings | None
    values: list[Setting]
    problems: tuple[str, ...]
    answers: list[NodeAnswer]

    @property
    def exit_code(self) -> int:
        """See the command's help."""
        if self.problems:
            return EXIT_USAGE
        return EXIT_OK if all(answer.ok for answer in self.answers) else EXIT_UNAVAILABLE


def values_of(config: Path | None, settings: Settings | None) -> list[Setting]:
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
        found.append(Setting(name, value, source, field.description or ""))
    return found


def limits(s: Settings) -> list[Limit]:
    """The limit of every setting that depends on others."""
    locks = s.timelocks
    budget = locks.budget
    spare_secs = budget.margin_secs
    rate = s.fee_subsidy_sats * 1000 // CLAIM_VSIZE
    amounts = {"max_swap_amount": s.least_swap_amount}
    if s.min_swap_amount is None or not s.allow_sales_below_cost:
        amounts["min_swap_amount"] = s.cost_covering_amount
        price_sats = _price_msat(s, s.min_swap_amount or s.max_swap_amount) // 1000
        rate = min(rate, (price_sats - s.fee_subsidy_sats) * 1000 // SINGLE_FUNDING_VSIZE)
    least = {
        "refund_delta_blocks": budget.needed_blocks,
        "fee_subsidy_sats": fee_sats(CLAIM_VSIZE, s.fee_cap_sats_per_kvb),
    } | amounts
    most = {
        "invoice_expiry_secs": s.invoice_expiry_secs + spare_secs,
        "create_slack_secs": s.create_slack_secs + spare_secs,
        "max_ln_cltv_blocks": largest_cltv(
            s.refund_delta_blocks,
            locks.lightning_chain,
            s.claim_margin_blocks,
            most=2 * s.refund_delta_blocks,
            before=budget.parts[:3],
        ),
        "claim_margin_blocks": s.claim_margin_blocks + spare_secs // LIQUID_BLOCK_SECS,
        "fee_cap_sats_per_kvb": rate,
        "funding_confs": s.max_min_funding_confs,
        "invoice_cltv_blocks": s.max_ln_cltv_blocks,
    }
    now = {name: getattr(s, name) for name in least | most}
    now["min_swap_amount"] = s.least_swap_amount
    return [
        Limit(name, now[name], least.get(name), most.get(name))
        for name in Settings.model_fields
        if name in least or name in most
    ]


async def ask_nodes(settings: Settings) -> list[NodeAnswer]:
    """Ask both nodes once. Never raises `BackendError`: that is an answer."""
    deadline = settings.backend_deadline_secs

    async def electrum() -> str:
        chain = ElectrumChain(settings.electrum_url, deadline_secs=deadline)
        await chain.start()
        try:
            await chain.wait_connected(deadline)
            return f"at block {(await chain.tip()).height:,}"
        finally:
            await chain.close()

    async def lightning() -> str:
        node = CoreLightning(settings.lightning_rpc, deadline_secs=deadline)
        try:
            info = await node.info()
            problem = lightning_problem(settings, info, await node.options())
            if problem is not None:
                raise BackendError("lightning", problem)
            receivable = sats(await node.receivable_msat())
            return f"{info.version}, at block {info.block_height:,}, can receive {receivable}"
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
    """Read the settings as the daemon would: each with value, unit and source, the timelock budget
    with its numbers, and what would be refused and why. Nothing is changed."""
    console.quiet_log()
    with console.clean_errors(as_json):
        settings, problems = _loaded(config)
        values = values_of(config, settings)
    is_asked = connect and settings is not None and not problems
    answers = asyncio.run(ask_nodes(settings)) if is_asked and settings else []
    check = Check(config, settings, values, problems, answers)
    if as_json:
        console.show_json(as_values(check))
    else:
        _show(check)
    raise typer.Exit(check.exit_code)


def _loaded(config: Path | None) -> tuple[Settings | None, tuple[str, ...]]:
    """The settings, None where they are refused as such, and each reason to refuse them."""
    problems: tuple[str, ...] = ()
    settings = None
    try:
        settings = load_settings(config)
        problems = writable.problems(settings)
        keys = Keychain(read_mnemonic(settings.mnemonic_file), NETWORKS_BY_NAME[settings.network])
        if not problems:
            identity.check_file(keys, settings)
    except SettingsError as error:
        problems += (*error.problems, *([error.hint] if error.hint else []))
    except StoreFailure as error:
        problems = (f"the database cannot be read: {error}",)
    return settings, problems


def as_values(check: Check) -> dict[str, Any]:
    """The result as JSON."""
    settings = check.settings
    values: dict[str, Any] = {
        "file": str(check.config) if check.config else None,
        "settings": {
            one.name: {
                "value": one.text if settings is None else _plain(one.value),
                "source": one.source,
                "unit": unit_of(one.name),
                "meaning": one.meaning,
            }
            for one in check.values
        },
        "refused": list(check.problems),
        "exit_code": check.exit_code,
    }
    if settings is not None:
        values["warnings"] = list(writable.warnings(settings))
        values["least_swap"] = {
            "amount": settings.least_swap_amount,
            "price_msat": _price_msat(settings, settings.least_swap_amount),
            "cost_sats": settings.lbtc_per_swap_sats,
        }
        budget = settings.timelocks.budget
        values["timelock_budget"] = {
            "parts_secs": dict(budget.parts),
            "needed_secs": budget.needed_secs,
            "available_secs": budget.available_secs,
            "spare_secs": budget.margin_secs,
            "hold_secs": settings.timelocks.hold.secs,
            "blocks_to_pay_and_claim": settings.timelocks.blocks_to_pay_and_claim,
        }
        values["refused_when"] = {
            limit.name: {"now": limit.value, "below": limit.least, "above": limit.most}
            for limit in limits(settings)
        }
    if check.answers:
        values["nodes"] = {a.name: {"ok": a.ok, "answer": a.text} for a in check.answers}
    return values


def _price_msat(settings: Settings, amount: int) -> int:
    return total_price_msat(amount, settings.price_msat_per_asset_unit, settings.asset_precision)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = plain_table()
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _show(check: Check) -> None:
    screen = console.console()
    is_wide = screen.width >= MEANING_WIDTH
    if check.config is not None:
        console.show(f"settings file: {check.config}")
    table = _table("setting", "value", "unit", "from", *(["meaning"] if is_wide else []))
    table.columns[0].no_wrap = True
    for one in check.values:
        style = "" if one.source == "default" else "bold"
        value = Text(console.plain(one.text), style=style)
        row: list[RenderableType] = [one.name, value, unit_of(one.name), one.source]
        table.add_row(*row, *([one.meaning] if is_wide else []))
    screen.print(table)
    if check.settings is not None:
        settings = check.settings
        console.show(
            f"\nThe smallest swap is {settings.least_swap_amount:,} of the smallest unit, for "
            f"{sats(_price_msat(settings, settings.least_swap_amount))}; "
            f"a swap can cost {settings.lbtc_per_swap_sats:,} sat of L-BTC."
        )
        _show_budget(settings)
    for problem in check.problems:
        console.say(f"refused: {problem}", style="red")
    for text in writable.warnings(check.settings) if check.settings is not None else ():
        console.say(f"warning: {text}", style="yellow")
    for answer in check.answers:
        console.show(f"{answer.name}: {'ok, ' if answer.ok else 'NOT USABLE: '}{answer.text}")
    if check.problems:
        console.say("the daemon would not start with this", style="bold red")
    else:
        console.show("the daemon would start with this")


def _show_budget(settings: Settings) -> None:
    screen = console.console()
    budget = settings.timelocks.budget
    screen.print(Text("\nTimelock budget", style="bold"))
    table = _table("part", "s", "h", "Liquid blocks", right=("s", "h", "Liquid blocks"))
    sums = (
        ("needed", budget.needed_secs),
        ("available: refund_delta_blocks", budget.available_secs),
        ("margin", budget.margin_secs),
    )
    for rows, style in ((budget.parts, ""), (sums, "bold")):
        for name, secs in rows:
            blocks = f"{secs / LIQUID_BLOCK_SECS:,.1f}"
            table.add_row(name, f"{secs:,}", f"{secs / 3_600:,.1f}", blocks, style=style)
        table.add_section()
    screen.print(table)
    locks = settings.timelocks
    console.show(
        f"A payment can be held for {locks.hold}, and for longer with a probability of {TAIL:g}. "
        f"None may start with fewer than {locks.blocks_to_pay_and_claim:,} Liquid blocks left "
        "before the lock height."
    )
    screen.print(Text("\nLimit of each setting, others unchanged", style="bold"))
    table = _table("setting", "now", "refused", right=("now",))
    for limit in limits(settings):
        table.add_row(limit.name, f"{limit.value:,}", str(limit))
    screen.print(table)
    console.show("")
