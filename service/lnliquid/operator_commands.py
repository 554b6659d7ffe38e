"""The operator's commands: audit. They work beside a running daemon and without one."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from lnliquid.buyer import terminal
from lnliquid.errors import StoreFailure
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain, read_mnemonic, require_native_secp256k1
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.seller.audit import Report
from lnliquid.seller.audit_reading import StillMoving, take_audit
from lnliquid.settings import ENV_PREFIX, Settings, load_settings
from lnliquid.store.sqlite import read_file
from lnliquid.store.survey import StoreFacts, survey

EXIT_DIFFERENT, EXIT_UNFINISHED = 1, 4
COLUMNS = ("came in", "available", "reserved", "unconfirmed", "locked", "claimed", "fees")

AUDIT_EPILOG = """\b
Example:
  lnliquid audit --config seller.toml

\b
Exit codes:
  0  store and chain agree in everything
  1  they differ; each difference is a line
  2  wrong usage or settings
  3  the Electrum server cannot be reached
  4  store or chain moved during every reading: try again"""


def register(cli: typer.Typer) -> None:
    """Add the operator's commands to the command line."""
    cli.command("audit", epilog=AUDIT_EPILOG)(audit)


def audit(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help=f"TOML file with the settings; {ENV_PREFIX}<NAME> wins over it."
        ),
    ] = None,
    settle_secs: Annotated[
        float, typer.Option(min=0, help="How long a running daemon may take to catch up, s.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare the store with the chain, coin by coin: nothing may be missing, nothing be double.

    What came in = available + reserved + locked in HTLCs + claimed + fees, for each asset.
    """
    terminal.quiet_log()
    with terminal.clean_errors(as_json):
        settings = load_settings(config)
        require_native_secp256k1()
        try:
            report = asyncio.run(_audit(settings, settle_secs))
        except (StillMoving, StoreFailure) as error:
            terminal.say(str(error), style="red")
            if as_json:
                terminal.show_json({"error": str(error), "exit_code": EXIT_UNFINISHED})
            raise typer.Exit(EXIT_UNFINISHED) from None
    if as_json:
        terminal.show_json(as_values(report))
    else:
        _show(report)
    if not report.is_exact:
        raise typer.Exit(EXIT_DIFFERENT)


async def _audit(settings: Settings, settle_secs: float) -> Report:
    keys = Keychain(read_mnemonic(settings.mnemonic_file), NETWORKS_BY_NAME[settings.network])

    async def read() -> StoreFacts:
        return await asyncio.to_thread(read_file, settings.database, survey)

    chain = ElectrumChain(settings.electrum_url, deadline_secs=settings.backend_deadline_secs)
    await chain.start()
    try:
        await chain.wait_connected(settings.backend_deadline_secs)
        return await take_audit(read, chain, keys, settle_secs=settle_secs)
    finally:
        await chain.close()


def as_values(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "exact": report.is_exact,
        "height": report.tip.height,
        "swaps": report.swaps,
        "reservations": report.reservations,
        "fundings": report.fundings,
        "assets": [asdict(asset) for asset in report.assets],
        "differences": [asdict(difference) for difference in report.differences],
        "notes": list(report.notes),
    }


def _show(report: Report) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE, title=f"Audit at height {report.tip.height}")
    table.add_column("asset")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for asset in report.assets:
        book = asset.store
        numbers = (
            book.came_in,
            asset.available,
            asset.reserved,
            asset.unconfirmed,
            book.locked,
            book.claimed,
            book.fees,
        )
        table.add_row(f"{asset.asset_id[:8]}…", *(f"{number:,}" for number in numbers))
    console.print(table)
    swaps = ", ".join(f"{count} {state}" for state, count in sorted(report.swaps.items()))
    terminal.show(f"swaps: {swaps or 'none'}; funding transactions: {report.fundings}")
    for note in report.notes:
        terminal.show(f"note: {note}")
    for difference in report.differences:
        terminal.say(f"{difference.rule}: {difference.text}", style="red")
    if report.is_exact:
        terminal.show("exact: store and chain agree in everything")
    else:
        terminal.say(f"{len(report.differences)} differences", style="bold red")
