"""The operator's command `audit`. It works beside a running daemon; `--fix` without one."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, assert_never

import typer

from lnliquid.buyer import terminal
from lnliquid.errors import StoreFailure
from lnliquid.lightning.cln import CoreLightning
from lnliquid.liquid.electrum import ElectrumChain
from lnliquid.liquid.keys import Keychain, read_mnemonic, require_native_secp256k1
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.operator_options import ConfigOption, JsonOption
from lnliquid.seller import identity
from lnliquid.seller.audit import Report
from lnliquid.seller.audit_fixes import (
    AddEvent,
    AddRequest,
    Fix,
    SetFee,
    SetReservation,
    fixes_of,
)
from lnliquid.seller.audit_reading import StillMoving, readable, take_audit
from lnliquid.seller.audit_words import EXPLANATIONS
from lnliquid.settings import Settings, load_settings
from lnliquid.store import repair
from lnliquid.store.process import only_process, opened
from lnliquid.store.sqlite import Transaction, read_file
from lnliquid.store.survey import StoreFacts, survey

EXIT_DIFFERENT, EXIT_UNFINISHED = 1, 4

AUDIT_EPILOG = """\b
Example:
  lnliquid audit --config seller.toml

\b
Exit codes:
  0  store, chain and Lightning agree in everything
  1  they differ; each difference is a line
  2  wrong usage or settings; --fix while the daemon runs
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
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Mend what no money hangs on: reservations, events, requests, fees. "
            "The daemon must be stopped.",
        ),
    ] = False,
    without_lightning: Annotated[
        bool, typer.Option("--without-lightning", help="Compare store and chain only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare store, chain and Core Lightning: nothing may be missing, nothing be double.

    What came in = available + reserved + locked in HTLCs + claimed + fees, for each asset, coin by
    coin; and every swap's invoice is what the store says of it.
    """
    terminal.quiet_log()
    fixes: tuple[Fix, ...] = ()
    with terminal.clean_errors(as_json):
        settings = load_settings(config)
        require_native_secp256k1()
        keys = Keychain(read_mnemonic(settings.mnemonic_file), NETWORKS_BY_NAME[settings.network])
        try:
            identity.check_file(keys, settings)
            if fix:
                fixes = mend(settings.database)
            report = asyncio.run(_audit(settings, keys, settle_secs, without_lightning))
            open_fixes = fixes_of(readable(read_file(settings.database, survey))[0])
        except (StillMoving, StoreFailure) as error:
            terminal.say(str(error), style="red")
            if as_json:
                terminal.show_json({"error": str(error), "exit_code": EXIT_UNFINISHED})
            raise typer.Exit(EXIT_UNFINISHED) from None
    if report.is_exact:
        open_fixes = ()  # what a daemon was just about to do
    if as_json:
        terminal.show_json(as_values(report, fixes, open_fixes))
    else:
        _show(report, fixes, open_fixes)
    if not report.is_exact:
        raise typer.Exit(EXIT_DIFFERENT)


def mend(database: Path) -> tuple[Fix, ...]:
    """Mend what is safe to mend, in one transaction. Returns what was done.

    Raises `SettingsError` while a daemon runs on the database, and when there is none.
    """
    read_file(database, lambda _: None)  # or a mistyped path would become a new database
    with only_process(database), opened(database) as store:

        def work(session: Transaction) -> tuple[Fix, ...]:
            fixes = fixes_of(readable(survey(session))[0])
            for one in fixes:
                _carry_out(session, one)
            return fixes

        return asyncio.run(store.write(work))


def _carry_out(session: Transaction, fix: Fix) -> None:
    match fix:
        case SetReservation():
            repair.set_reservation(session, fix.swap_id, fix.wanted)
        case AddEvent():
            repair.add_event(session, fix.swap_id, fix.before, fix.after)
        case AddRequest():
            repair.add_request(session, fix.request, fix.swap_id)
        case SetFee():
            repair.set_fee(session, fix.txid, fix.fee_sats)
        case _:
            assert_never(fix)


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


def as_values(
    report: Report, fixes: tuple[Fix, ...] = (), open_fixes: tuple[Fix, ...] = ()
) -> dict[str, Any]:
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
        "fixed": [fix.text for fix in fixes],
        "fixable": [fix.text for fix in open_fixes],
    }


def _show(report: Report, fixes: tuple[Fix, ...], open_fixes: tuple[Fix, ...]) -> None:
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
            ("+ fees", book.fees),
        ):
            terminal.show(f"  {name:14} {number:>26,}")
    swaps = ", ".join(f"{count} {state}" for state, count in sorted(report.swaps.items()))
    terminal.show(f"swaps: {swaps or 'none'}; funding transactions: {report.fundings}")
    for fix in fixes:
        terminal.show(f"fixed: {fix.text}")
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
    for fix in open_fixes:
        terminal.say(f"--fix would: {fix.text}")
    if report.is_exact:
        terminal.show("exact: everything that was compared agrees")
    else:
        terminal.say(f"{len(report.differences)} differences", style="bold red")
