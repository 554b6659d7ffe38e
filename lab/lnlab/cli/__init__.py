"""``lnlab``: start, look at and end a regtest lab from the command line.

Each command works on the lab in ``--dir`` and takes ``--json`` for output that programs read.
"""

import sys

import typer

from lnlab.cli import chain, demo, lab, scenario, shell, snapshot, storm, streams, up
from lnlab.cli.base import EXIT_HOST, command, refusal

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
    """Run the command line (the ``lnlab`` script). A success whose output is lost is none."""
    out = streams.guard()
    code: object = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    if (failure := streams.lost(out)) is not None and not code:
        sys.stderr.write(f"error: {refusal(failure)}\n")
        code = EXIT_HOST
    raise SystemExit(code)
