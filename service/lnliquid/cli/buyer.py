"""The buyer's commands that deal with a seller: offer, buy, resume."""

import re
import sys
import uuid
from dataclasses import asdict, replace
from typing import Annotated

import typer

from lnliquid.buyer import (
    BuyerSettings,
    Journal,
    Offer,
    Order,
    Outcome,
    Record,
    Step,
    connect,
    new_request_id,
    quote_msat,
)
from lnliquid.buyer.journal import MAX_HOLD_BLOCKS
from lnliquid.buyer.seller import SellerClient
from lnliquid.cli import buyer_output as output
from lnliquid.cli.buyer_options import (
    DEFAULT_DIR,
    OUTAGE_SECS,
    AssetOption,
    DirOption,
    ElectrumOption,
    JsonOption,
    LightningOption,
    NetworkOption,
    OutageOption,
    SellerOption,
    option,
)
from lnliquid.cli.console import clean_errors, say, show, show_json
from lnliquid.cli.formatting import sats, units
from lnliquid.domain.terms import MAX_AMOUNT
from lnliquid.domain.timelock import LightningChain

DEFAULT_CONFS = 2


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    output.add_commands(
        cli,
        {
            "offer --seller 127.0.0.1:50051 --asset 5ac9…": offer,
            "buy --asset 5ac9… --amount 1000 --max-price-msat 250000": buy,
            "resume 7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11": resume,
        },
    )


def offer(
    asset: AssetOption,
    seller: SellerOption,
    amount: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_AMOUNT, help="Also say what this much would cost."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a seller sells of an asset, at what price, under which rules.

    Nothing is ordered or locked.
    """

    async def ask() -> Offer:
        client = SellerClient(seller)
        try:
            return await client.offer(asset)
        finally:
            await client.close()

    with clean_errors(as_json):
        found = output.run_now(ask())
        price_msat = None if amount is None else quote_msat(found, amount)
    if as_json:
        quote = {} if amount is None else {"amount": amount, "total_price_msat": price_msat}
        show_json(asdict(found) | quote)
        return
    rows = output.offer_rows(found, seller)
    if amount is not None and price_msat is not None:
        rows.append(("quote", f"{units(amount, found.asset_precision)} for {sats(price_msat)}"))
    output.write_rows(rows, width=14)


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
    max_hold: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2_016,
            help="Longest that your payment may be held, as CLTV blocks of the chain with the "
            f"channels; {MAX_HOLD_BLOCKS} if left out.",
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
        int, option("pay-wait-secs", "How long your node looks for a route, s.", min=1)
    ] = BuyerSettings.pay_wait_secs,
    outage_secs: OutageOption = OUTAGE_SECS,
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
    `lnliquid resume` goes on. You are asked before the seller locks the asset, and again, with the
    result of every check, before you pay.
    """
    if not dry_run and yes and max_price_msat is None:
        raise typer.BadParameter("with --yes a limit is needed: --max-price-msat")
    asks = not (yes or dry_run)
    if asks and (as_json or not sys.stdin.isatty()):
        raise typer.BadParameter("questions cannot be asked here: give --yes and --max-price-msat")
    name = _uuid(request_id) if request_id else new_request_id()
    with clean_errors(as_json):
        settings = BuyerSettings(
            directory=directory.expanduser(),
            network=network,
            seller=seller,
            electrum_url=electrum,
            lightning_rpc=lightning_rpc.expanduser(),
            pay_wait_secs=pay_wait_secs,
        ).trying_for(outage_secs)
        journal = Journal(settings.directory)
        found = journal.find(name)
        stored = found.order if found else None
        quoted, chain = (None, None) if found else output.run_now(_quote(settings, asset))
        price_msat = quote_msat(quoted, amount) if quoted else 0
        order = Order(
            request_id=name,
            asset_id=asset,
            amount=amount,
            max_price_msat=max_price_msat or (stored.max_price_msat if stored else price_msat),
            min_confs=confs or (stored.min_confs if stored else DEFAULT_CONFS),
            max_fee_msat=_first(
                max_fee_msat,
                stored.max_fee_msat if stored else None,
                max(5_000, price_msat // 100),
            ),
            max_hold_blocks=_first(
                max_hold, stored.max_hold_blocks if stored else None, MAX_HOLD_BLOCKS
            ),
        )

    async def run(dry_run: bool) -> Outcome:
        async with connect(settings, output.say_progress) as buyer:
            return await buyer.buy(order, offer=quoted, dry_run=dry_run)

    if quoted and chain:
        output.write_rows(output.quote_rows(quoted, order, chain), say)
    with clean_errors(as_json):
        if asks and found is None and price_msat <= order.max_price_msat:
            output.agree(
                "Ask the seller to lock it? You pay nothing yet.",
                "not ordered: nothing is locked and nothing is paid",
            )
        if asks and (found is None or found.step in (Step.REQUESTED, Step.CREATED)):
            [(_, code)] = output.conclude(journal, {name: run(dry_run=True)})
            if code:
                raise typer.Exit(code)
            record = journal.load(name)
            if record.checks:
                output.write_verdict(record.checks, say)
            output.agree(
                f"Every check passed. Pay {sats(record.price_msat)}, and up to "
                f"{sats(order.max_fee_msat)} of fees? The payment can be held for {record.hold} "
                "before it comes back or you can claim.",
                output.next_step(record),
            )
    output.finish(journal, name, as_json, run(dry_run))


async def _quote(settings: BuyerSettings, asset: str) -> tuple[Offer, LightningChain]:
    # The backends are opened too: without them the order could not go on.
    async with connect(settings) as buyer:
        return await buyer.offer(asset), await buyer.lightning_chain()


def _preimage(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise typer.BadParameter("a preimage is 64 hex digits")
    return text.lower()


def resume(
    electrum: ElectrumOption,
    lightning_rpc: LightningOption,
    network: NetworkOption,
    request_id: Annotated[
        str | None, typer.Argument(help="Request id or swap id; all unfinished ones if left out.")
    ] = None,
    seller: Annotated[
        str, option("seller", "The seller's address, if it is not the stored one any more.")
    ] = "",
    preimage: Annotated[
        str | None,
        typer.Option(
            parser=_preimage,
            metavar="HEX",
            help="From another wallet that paid the invoice.",
        ),
    ] = None,
    outage_secs: OutageOption = OUTAGE_SECS,
    directory: DirOption = DEFAULT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Go on with purchases that were interrupted, wherever they were.

    A purchase that was refused is checked again and paid if all is well now; so is a dry run, but
    only when it is named. One that ended unpaid after a payment was started is looked up again.
    """
    if preimage is not None and request_id is None:
        raise typer.BadParameter("--preimage needs the purchase that it is for")
    with clean_errors(as_json):
        journal = Journal(directory.expanduser())
        records = [journal.load(request_id)] if request_id else _unfinished(journal)
        settings = BuyerSettings(
            directory=directory.expanduser(),
            network=network,
            electrum_url=electrum,
            lightning_rpc=lightning_rpc.expanduser(),
        ).trying_for(outage_secs)

    async def run(record: Record) -> Outcome:
        name = record.order.request_id
        of_which = name[:8] if len(records) > 1 else ""
        mine = replace(settings, seller=seller or record.seller)
        async with connect(mine, lambda p: output.say_progress(p, of_which)) as buyer:
            known = bytes.fromhex(preimage) if preimage else None
            return await buyer.resume(name, preimage=known, pay_ended=request_id is not None)

    if request_id:
        output.finish(journal, records[0].order.request_id, as_json, run(records[0]))
        return
    for record in records:
        say(f"resuming {record.order.request_id} ({record.step.value})")
    ends = output.conclude(journal, {r.order.request_id: run(r) for r in records})
    worst = max((code for _, code in ends), default=0)
    if as_json:
        show_json({"purchases": [values for values, _ in ends], "exit_code": worst})
    elif not records:
        show("nothing is unfinished")
    raise typer.Exit(worst)


def _unfinished(journal: Journal) -> list[Record]:
    for problem in journal.damaged():
        say(problem, style="red")
    return [r for r in journal.all() if r.is_open]


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise typer.BadParameter(f"--request-id {text!r} is not a UUID") from None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
