"""The buyer's commands that look at what was bought: history, show, balance."""

from typing import Annotated

import typer

from lnliquid.buyer import BuyerSettings, Journal, Outcome, connect
from lnliquid.cli import buyer_output as output
from lnliquid.cli.buyer_options import (
    DEFAULT_DIR,
    AssetOption,
    DirOption,
    ElectrumOption,
    JsonOption,
    NetworkOption,
)
from lnliquid.cli.console import clean_errors, say, show, show_json
from lnliquid.cli.formatting import units


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    output.add_commands(
        cli,
        {
            "history": history,
            "show 7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11 --json": show_purchase,
            "balance --asset 5ac9…": balance,
        },
    )


def history(directory: DirOption = DEFAULT_DIR, as_json: JsonOption = False) -> None:
    """List the purchases of your journal, oldest first. Needs no connection."""
    with clean_errors(as_json):
        journal = Journal(directory.expanduser())
        records, damaged = journal.all(), journal.damaged()
    for problem in damaged:
        say(problem, style="red")
    if as_json:
        show_json({"purchases": [record.public_dict() for record in records], "damaged": damaged})
        return
    if records:
        show(f"{'REQUEST':37} {'STEP':21} ORDERED (UTC)")
    for record in records:
        for line in output.history_lines(record):
            show(line)
    if not records:
        show("no purchases yet")


def show_purchase(
    swap: Annotated[str, typer.Argument(help="Request id or swap id.")],
    directory: DirOption = DEFAULT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show one purchase and its checks. Needs no connection, and shows no secrets."""
    with clean_errors(as_json):
        record = Journal(directory.expanduser()).load(swap)
    if as_json:
        show_json(Outcome(record).to_dict())
        return
    output.write_rows(output.record_rows(record))
    if record.checks:
        output.write_verdict(record.checks)


def balance(
    asset: AssetOption,
    electrum: ElectrumOption,
    network: NetworkOption,
    directory: DirOption = DEFAULT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show how much of an asset your claim addresses hold, unconfirmed coins too."""

    async def read() -> int:
        settings = BuyerSettings(directory.expanduser(), network, electrum_url=electrum)
        async with connect(settings) as buyer:
            return await buyer.balance(asset)

    with clean_errors(as_json):
        records = Journal(directory.expanduser()).all()
        amount = output.run_now(read())
    if as_json:
        show_json({"asset_id": asset, "balance": amount})
    else:
        # The only place that knows the precision without asking a seller.
        known = (r.offer.get("asset_precision") for r in records if r.order.asset_id == asset)
        precision = next(known, None)
        output.write_rows([("balance", units(amount, precision)), ("asset", asset)])
