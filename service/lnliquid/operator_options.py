"""Options that several of the seller's and operator's commands share."""

from pathlib import Path
from typing import Annotated

import typer

from lnliquid.settings import ENV_PREFIX

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help=f"TOML file with the settings; {ENV_PREFIX}<NAME> wins over it."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
