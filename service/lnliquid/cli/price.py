"""The operator's command `price`: show, set or clear the price of an asset."""

from typing import Annotated

import typer

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.cli import console, views
from lnliquid.cli.formatting import sats, utc
from lnliquid.cli.operator import CODES, OperatorOption, ask, span, status_of
from lnliquid.cli.options import JsonOption, epilog
from lnliquid.domain.errors import SettingsError


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    example = "price c6ff06c8… 51000000 --for 10m"
    cli.command("price", epilog=epilog("price", example, codes=CODES), rich_help_panel="Operator")(
        price
    )


def price(
    operator: OperatorOption,
    asset: Annotated[
        str | None, typer.Argument(metavar="ASSET", help="Asset id, 64 hex digits.")
    ] = None,
    msat: Annotated[
        int | None, typer.Argument(min=1, metavar="MSAT", help="msat for one unit of the asset.")
    ] = None,
    valid_secs: Annotated[
        int | None,
        typer.Option(
            "--for",
            parser=span,
            metavar="SPAN",
            help="Until then only: 90s, 30m, 2h, 7d. Afterwards nothing is sold without a new one.",
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Back to that of the settings.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the price, or set it from the next swap on. Existing swaps keep theirs."""
    with console.clean_errors(as_json):
        if asset is None or (msat is None and not clear):
            if clear or valid_secs is not None:
                raise typer.BadParameter("name the asset, and with --for its price too")
            _show(status_of(operator), asset, as_json)
            return
        if clear and (msat is not None or valid_secs is not None):
            raise typer.BadParameter("--clear stands alone")
        request = pb.SetPriceRequest(
            asset_id=asset, price_msat_per_asset_unit=msat or 0, valid_secs=valid_secs or 0
        )
        reply = ask(operator, lambda stub, secs: stub.SetPrice(request, timeout=secs))
    if as_json:
        console.show_json(views.as_values(reply))
    else:
        until = _until(reply.price_valid_until)
        console.show(f"{sats(reply.price_msat_per_asset_unit)} a unit from now on, {until}")


def _show(status: pb.GetStatusResponse, asset: str | None, as_json: bool) -> None:
    """The prices of what is sold, or of this asset."""
    sold = [h for h in status.assets if h.price_msat_per_asset_unit]
    found = [h for h in sold if asset in (None, h.asset_id)]
    if not found:
        raise SettingsError((f"{asset} is not sold here",), hint="`lnliquid price` shows what is")
    if as_json:
        names = ("asset_id", "price_msat_per_asset_unit", "price_valid_until", "price_set_at")
        console.show_json({"prices": [{name: getattr(h, name) for name in names} for h in found]})
        return
    for held in found:
        console.show(f"asset  {held.asset_id}")
        console.show(f"price  {views.price_text(held, status.now)}", indent=7)


def _until(unix_secs: int) -> str:
    return f"until {utc(unix_secs)} UTC" if unix_secs else "without end"
