"""The buyer's commands: offer, buy, resume, history, show, balance."""

import re
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lnliquid.buyer import purchase, terminal
from lnliquid.buyer.client import Outcome, new_request_id, quote_msat
from lnliquid.buyer.facts import Verdict
from lnliquid.buyer.journal import Journal, Order, Record
from lnliquid.buyer.seller import Seller
from lnliquid.buyer.session import connect
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.swap import Offer
from lnliquid.terms import MAX_AMOUNT

DEFAULT_CONFS = 2
_ENV = "LNLIQUID_BUYER_"


def _option(name: str, text: str, **more: Any) -> Any:
    variable = _ENV + name.upper().replace("-", "_")
    return typer.Option(f"--{name}", envvar=variable, help=text, **more)


def _asset_id(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise typer.BadParameter(f"{text!r} is not an asset id: 64 hex digits are needed")
    return text.lower()


SellerOption = Annotated[str, _option("seller", "Seller's gRPC address: host:port or unix:/path.")]
ElectrumOption = Annotated[str, _option("electrum", "Your Electrum server: tcp://host:port.")]
LightningOption = Annotated[
    Path, _option("lightning-rpc", "Unix socket `lightning-rpc` of your Core Lightning.")
]
NetworkOption = Annotated[
    str, _option("network", "Liquid chain: liquidv1, liquidtestnet or liquid-regtest.")
]
DirOption = Annotated[
    Path, _option("dir", "Your journal and mnemonic; made when missing. Back it up.")
]
AssetOption = Annotated[str, _option("asset", "Asset id, 64 hex digits.", callback=_asset_id)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DEFAULT_DIR = Path("~/.lnliquid-buyer")


def register(cli: typer.Typer) -> None:
    """Add the buyer's commands to the command line."""
    for name, command, example in (
        ("offer", offer, "lnliquid offer --seller 127.0.0.1:50051 --asset 5ac9…"),
        ("buy", buy, "lnliquid buy --asset 5ac9… --amount 1000 --max-price-msat 250000"),
        ("resume", resume, "lnliquid resume 7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11"),
        ("history", history, "lnliquid history"),
        ("show", show, "lnliquid show 7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11 --json"),
        ("balance", balance, "lnliquid balance --asset 5ac9…"),
    ):
        epilog = f"\b\nExample:\n  {example}\n\n{terminal.EXIT_CODES}"
        cli.command(name, epilog=epilog, rich_help_panel="Buyer")(command)


def offer(asset: AssetOption, seller: SellerOption, as_json: JsonOption = False) -> None:
    """Show what a seller sells of an asset, at what price, under which rules."""

    async def ask() -> Offer:
        client = Seller(seller)
        try:
            return await client.offer(asset)
        finally:
            await client.close()

    with terminal.clean_errors(as_json):
        values = asdict(purchase.run_now(ask()))
    if as_json:
        terminal.show_json(values)
    else:
        for name, value in values.items():
            terminal.show(f"{name:26} {value}")


def buy(
    asset: AssetOption,
    amount: Annotated[
        int, typer.Option(min=1, max=MAX_AMOUNT, help="How much, in the asset's smallest unit.")
    ],
    seller: SellerOption,
    electrum: ElectrumOption,
    lightning_rpc: LightningOption,
    network: NetworkOption,
    directory: DirOption = DEFAULT_DIR,
    max_price_msat: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_AMOUNT * 1000,
            help="Most you pay, msat, without fees; else the quote is asked for.",
        ),
    ] = None,
    confs: Annotated[
        int | None,
        typer.Option(
            min=1, max=6, help=f"Confirmations before you pay; {DEFAULT_CONFS} if left out."
        ),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="UUID; the same one goes on with the same purchase.")
    ] = None,
    max_fee_msat: Annotated[
        int | None,
        typer.Option(min=0, help="Most for Lightning fees, msat; else 1 % and at least 5000."),
    ] = None,
    pay_wait_secs: Annotated[
        int, _option("pay-wait-secs", "How long your node looks for a route, s.", min=1)
    ] = BuyerSettings.pay_wait_secs,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Create the swap, check it, pay nothing. The seller's coins stay locked "
            "until its refund; `lnliquid resume` can still pay.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; needs --max-price-msat.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Buy an asset: pay a Lightning invoice, receive the asset on Liquid.

    Everything is checked before anything is paid, and stored before it is done: after a crash,
    `lnliquid resume` goes on.
    """
    if not dry_run and yes and max_price_msat is None:
        raise typer.BadParameter("with --yes a limit is needed: --max-price-msat")
    if not dry_run and not yes and (as_json or not sys.stdin.isatty()):
        raise typer.BadParameter("nobody can be asked here: --yes and --max-price-msat are needed")
    name = _uuid(request_id) if request_id else new_request_id()

    async def run(settings: BuyerSettings, stored: Order | None) -> Outcome:
        async with connect(settings, terminal.say_progress) as buyer:
            quoted = None
            if stored is None:
                quoted = await buyer.offer(asset)
                price_msat = quote_msat(quoted, amount)
                terminal.say(f"   offer  {amount} of {asset} for {price_msat} msat")
            else:
                price_msat = stored.max_price_msat
            order = Order(
                request_id=name,
                asset_id=asset,
                amount=amount,
                max_price_msat=max_price_msat or price_msat,
                min_confs=confs or (stored.min_confs if stored else DEFAULT_CONFS),
                max_fee_msat=_first(
                    max_fee_msat,
                    stored.max_fee_msat if stored else None,
                    max(5_000, price_msat // 100),
                ),
            )
            if not (yes or dry_run):
                typer.confirm(
                    f"Pay up to {order.max_price_msat} msat and {order.max_fee_msat} msat of fees?",
                    abort=True,
                    err=True,
                )
            return await buyer.buy(order, offer=quoted, dry_run=dry_run)

    with terminal.clean_errors(as_json):
        settings = BuyerSettings(
            directory=directory.expanduser(),
            network=network,
            seller=seller,
            electrum_url=electrum,
            lightning_rpc=lightning_rpc.expanduser(),
            pay_wait_secs=pay_wait_secs,
        )
        journal = Journal(settings.directory)
        found = journal.find(name)
    purchase.finish(journal, name, as_json, run(settings, found.order if found else None))


def resume(
    electrum: ElectrumOption,
    lightning_rpc: LightningOption,
    network: NetworkOption,
    request_id: Annotated[
        str | None, typer.Argument(help="Request id or swap id; all unfinished ones if left out.")
    ] = None,
    seller: Annotated[
        str, _option("seller", "The seller's address, if it is not the stored one any more.")
    ] = "",
    directory: DirOption = DEFAULT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Go on with purchases that were interrupted, wherever they were.

    A purchase that was refused is checked again and paid if all is well now; so is a dry run, but
    only when it is named.
    """
    with terminal.clean_errors(as_json):
        journal = Journal(directory.expanduser())
        records = [journal.load(request_id)] if request_id else _unfinished(journal)

        def settings_for(record: Record) -> BuyerSettings:
            return BuyerSettings(
                directory=directory.expanduser(),
                network=network,
                seller=seller or record.seller,
                electrum_url=electrum,
                lightning_rpc=lightning_rpc.expanduser(),
            )

        settings = [settings_for(record) for record in records]

    async def run(record: Record, knobs: BuyerSettings) -> Outcome:
        async with connect(knobs, terminal.say_progress) as buyer:
            return await buyer.resume(record.order.request_id)

    if request_id:
        purchase.finish(journal, records[0].order.request_id, as_json, run(records[0], settings[0]))
        return
    results, worst = [], 0
    for record, knobs in zip(records, settings, strict=True):
        name = record.order.request_id
        terminal.say(f"resuming {name} ({record.step.value})")
        values, code = purchase.conclude(journal, name, run(record, knobs))
        results.append(values)
        worst = max(worst, code)
    if as_json:
        terminal.show_json({"purchases": results, "exit_code": worst})
    elif not records:
        terminal.show("nothing is unfinished")
    raise typer.Exit(worst)


def history(directory: DirOption = DEFAULT_DIR, as_json: JsonOption = False) -> None:
    """List the purchases of your journal, oldest first. Needs no connection."""
    with terminal.clean_errors(as_json):
        journal = Journal(directory.expanduser())
        records, damaged = journal.all(), journal.damaged()
    for problem in damaged:
        terminal.say(problem, style="red")
    if as_json:
        terminal.show_json(
            {"purchases": [record.public_dict() for record in records], "damaged": damaged}
        )
        return
    for record in records:
        order = record.order
        terminal.show(f"{order.request_id}  {record.label:20} {order.amount} of {order.asset_id}")
    if not records:
        terminal.show("no purchases yet")


def show(
    swap: Annotated[str, typer.Argument(help="Request id or swap id.")],
    directory: DirOption = DEFAULT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show one purchase and its checks. Needs no connection, and shows no secrets."""
    with terminal.clean_errors(as_json):
        record = Journal(directory.expanduser()).load(swap)
    if as_json:
        terminal.show_json(Outcome(record).to_dict())
        return
    purchase.show_record(record)
    if record.verdict:
        for check in Verdict.from_dict(record.verdict).checks:
            terminal.show(str(check))


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

    with terminal.clean_errors(as_json):
        amount = purchase.run_now(read())
    if as_json:
        terminal.show_json({"asset_id": asset, "balance": amount})
    else:
        terminal.show(str(amount))


def _unfinished(journal: Journal) -> list[Record]:
    for problem in journal.damaged():
        terminal.say(problem, style="red")
    return [r for r in journal.all() if not r.step.is_over and not r.dry_run]


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise typer.BadParameter(f"--request-id {text!r} is not a UUID") from None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
