"""What several commands share: options, and the end of a help text."""

from pathlib import Path
from typing import Annotated

import typer

from lnliquid.domain.errors import EXIT_HOST

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with the settings; LNLIQUID_<NAME> wins over it."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def epilog(*examples: str, codes: dict[int, str] | None = None) -> str:
    """Examples, without the program's name, and exit codes, under the options of a command."""
    text = "\b\nExample:\n" + "\n".join(f"  lnliquid {example}" for example in examples)
    if codes:
        also = {EXIT_HOST: "this machine refused something: disk full, output closed"}
        lines = (f"  {code}  {meaning}" for code, meaning in (codes | also).items())
        text += "\n\n\b\nExit codes:\n" + "\n".join(lines)
    return text
