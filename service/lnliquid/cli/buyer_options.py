"""Options that several of the buyer's commands share, each with its environment variable."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from lnliquid.buyer import BuyerSettings

DEFAULT_DIR = Path("~/.lnliquid-buyer")
_ENV = "LNLIQUID_BUYER_"


def option(name: str, text: str, **more: Any) -> Any:
    """An option that `LNLIQUID_BUYER_<NAME>` sets too."""
    variable = _ENV + name.upper().replace("-", "_")
    return typer.Option(f"--{name}", envvar=variable, help=text, **more)


def asset_id(text: str) -> str:
    """An asset id in lower case; wrong usage when it is none."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise typer.BadParameter(f"{text!r} is not an asset id: 64 hex digits are needed")
    return text.lower()


SellerOption = Annotated[str, option("seller", "Seller's gRPC address: host:port or unix:/path.")]
ElectrumOption = Annotated[
    str,
    option("electrum", "Your Electrum server: tcp:// or ssl://host:port; several with commas."),
]
LightningOption = Annotated[
    Path, option("lightning-rpc", "Unix socket `lightning-rpc` of your Core Lightning.")
]
NetworkOption = Annotated[
    str, option("network", "Liquid chain: liquidv1, liquidtestnet or liquid-regtest.")
]
DirOption = Annotated[
    Path, option("dir", "Your journal and mnemonic; made when missing. Back it up.")
]
AssetOption = Annotated[str, option("asset", "Asset id, 64 hex digits.", callback=asset_id)]
OutageOption = Annotated[
    int,
    option(
        "outage-secs",
        "Give up, to be resumed, when seller or backend is away for so long, s; paid: 30 or more.",
        min=1,
    ),
]
OUTAGE_SECS = int(BuyerSettings.outage_secs)
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
