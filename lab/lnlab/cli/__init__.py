"""``lnlab``: start, look at and end a regtest lab from the command line.

Each command works on the lab in ``--dir`` and takes ``--json`` for output that programs read.
"""

import typer

from lnlab.cli import chain, demo, lab, scenario, shell, snapshot, storm, up
from lnlab.cli.base import command

app = typer.Typer(
    help="A regtest lab: Liquid chain, Electrum server and two Lightning nodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

for function in (
    up.up,
    lab.down,
    lab.status,
    chain.mine,
    chain.faucet,
    chain.reorg,
    chain.fault,
    lab.logs,
    shell.shell,
    demo.demo,
    storm.storm,
):
    app.command()(command(function))
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(scenario.app, name="scenario")


def main() -> None:
    """Run the command line (the ``lnlab`` script)."""
    app()
