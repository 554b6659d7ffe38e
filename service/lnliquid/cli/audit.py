"""The operator's command `audit`. It works beside a running daemon."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lnliquid.audit.explanations import EXPLANATIONS
from lnliquid.audit.report import Report
from lnliquid.audit.snapshot import StillMoving, take_audit
from lnliquid.cli import console as terminal
from lnliquid.cli.options import ConfigOption, JsonOption
from lnliquid.config import Settings, load_settings
from lnliquid.domain.errors import StoreFailure
from lnliquid.lightning.core_lightning import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain, read_mnemonic, require_native_secp256k1
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.seller import identity
from lnliquid.store.database import read_file
from lnliquid.store.survey import StoreFacts, survey

EXIT_DIFFERENT, EXIT_UNFINISHED = 1, 4

AUDIT_EPILOG = """\b
Example:
  lnliquid audit --config seller.toml

\b
Exit codes:
  0  store, chain and Lightning agree in everything
  1  they differ; each difference is a line
  2  wrong usage or settings
  3  the Electrum server or the Lightning node cannot be reached
  4  store or chain moved during every reading: try again"""


def register(cli: typer.Typer) -> None:
    """Add the operator's commands to the command line."""
    cli.command("audit", epilog=AUDIT_EPILOG, rich_help_panel="Operator")(audit)


def audit(
    config: ConfigOption = None,
    settle_secs: Annotated[
        float, typer.Option(min=0, help="How long a running daemon may take to catch up, s.")
    ] = 10.0,
    without_lightning: Annotated[
        bool, typer.Option("--without-lightning", help="Compare store and chain only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare store, chain and Core Lightning: nothing may be missing, nothing be double.

    What came in = available + reserved + locked in HTLCs + claimed + withdrawn + fees, for each
    asset, coin by coin; and every swap's invoice is what the store says of it.
    """
    terminal.quiet_log()
    with terminal.clean_errors(as_json):
        settings = load_settings(config)
        require_native_secp256k1()
        keys = Keychain(read_mnemonic(settings.mnemonic_file), NETWORKS_BY_NAME[settings.network])
        try:
            identity.check_file(keys, settings)
            report = asyncio.run(_audit(settings, keys, settle_secs, without_lightning))
        except (StillMoving, StoreFailure) as error:
            terminal.say(str(error), style="red")
            if as_json:
                terminal.show_json({"error": str(error), "exit_code": EXIT_UNFINISHED})
            raise typer.Exit(EXIT_UNFINISHED) from None
    if as_json:
        terminal.show_json(as_values(report))
    else:
        _show(report, verdict(report, without_lightning))
    if not report.is_exact:
        raise typer.Exit(EXIT_DIFFERENT)


async def _audit(
    settings: Settings, keys: Keychain, settle_secs: float, without_lightning: bool
) -> Report:
    async def read() -> StoreFacts:
        return await asyncio.to_thread(read_file, settings.database, survey)

    deadline = settings.backend_deadline_secs
    chain = ElectrumChain(settings.electrum_url, deadline_secs=deadline)
    lightning = CoreLightning(settings.lightning_rpc, deadline_secs=deadline)
    await chain.start()
    try:
        await chain.wait_connected(deadline)
        return await take_audit(
            read,
            chain,
            keys,
            settle_secs=settle_secs,
            lightning=None if without_lightning else lightning,
        )
    finally:
        await chain.close()
        await lightning.close()


def as_values(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "exact": report.is_exact,
        "height": report.tip.height,
        "swaps": report.swaps,
        "reservations": report.reservations,
        "fundings": report.fundings,
        "assets": [asdict(asset) for asset in report.assets],
        "differences": [
            asdict(difference) | asdict(EXPLANATIONS[difference.rule])
            for difference in report.differences
        ],
        "notes": list(report.notes),
    }


def verdict(report: Report, without_lightning: bool) -> str:
    """The last line for a person."""
    if report.is_exact:
        return (
            f"OK: {'store and chain' if without_lightning else 'store, chain and Lightning'} agree"
        )
    number = len(report.differences)
    return f"{number} difference{'s' if number > 1 else ''}"


def _show(report: Report, last_line: str) -> None:
    terminal.show(f"Audit at height {report.tip.height}")
    for asset in report.assets:
        book = asset.store
        terminal.show(f"asset {asset.asset_id}")
        # Lines and not a table: no number may be cut by a narrow terminal.
        for name, number in (
            ("came in", book.came_in),
            ("= available", asset.available),
            ("+ reserved", asset.reserved),
            ("+ unconfirmed", asset.unconfirmed),
            ("+ locked", book.locked),
            ("+ claimed", book.claimed),
            ("+ withdrawn", book.withdrawn),
            ("+ fees", book.fees),
        ):
            terminal.show(f"  {name:14} {number:>26,}")
    swaps = ", ".join(f"{count} {state}" for state, count in sorted(report.swaps.items()))
    terminal.show(f"swaps: {swaps or 'none'}; funding transactions: {report.fundings}")
    for note in report.notes:
        terminal.show(f"note: {note}")
    shown: set[str] = set()
    for difference in report.differences:
        terminal.say(f"{difference.rule}: {difference.text}", style="red")
        if difference.rule not in shown:  # said once, however many there are of a kind
            words = EXPLANATIONS[difference.rule]
            terminal.say(f"    meaning: {words.meaning}")
            terminal.say(f"    to do:   {words.advice}")
            shown.add(difference.rule)
    if report.is_exact:
        terminal.show(last_line)
    else:
        terminal.say(last_line, style="bold red")
