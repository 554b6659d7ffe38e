"""The command line `lnliquid`: each command and its module, which adds it."""

import gc
import sys
from importlib import import_module

import typer

from lnliquid.cli import error_report, streams

COMMANDS = {
    "lnliquid.cli.daemon": ("serve", "init", "address"),
    "lnliquid.cli.check_config": ("check-config",),
    "lnliquid.cli.audit": ("audit",),
    "lnliquid.cli.operator": (
        "swaps",
        "swap",
        "inventory",
        "top",
        "pause",
        "resume-sales",
        "refund",
    ),
    "lnliquid.cli.price": ("price",),
    "lnliquid.cli.withdraw": ("withdraw", "withdrawals", "deposits"),
    "lnliquid.cli.backup": ("backup",),
    "lnliquid.cli.health": ("health",),
    "lnliquid.cli.restore": ("restore",),
    "lnliquid.cli.buyer": ("offer", "buy", "resume"),
    "lnliquid.cli.purchases": ("history", "show", "balance"),
    "lnliquid.cli.verify": ("verify",),
}
"""Modules to names of commands, in the order of the help."""


GARBAGE_THRESHOLD = 100_000
"""Objects made until Python looks for cycles that are garbage. By its default of 700 it does so a
hundred times while modules are loaded, which finds none and is a sixth of the daemon's start.
`serve` sets the default again when all is loaded."""


def command_line(name: str | None = None) -> typer.Typer:
    """The command line with what is needed for the command `name`; for any other name, all of it.

    Only a module that is needed is imported: a buyer does not wait for the seller's database
    library, which is most of what there is to load.
    """
    cli = typer.Typer(
        name="lnliquid",
        help="Pay a Lightning invoice, receive a Liquid asset: seller daemon and buyer.",
        no_args_is_help=True,
        # A traceback may show local variables, and with them secrets.
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_program)
    needed = [module for module, names in COMMANDS.items() if name in names]
    for module in needed or COMMANDS:
        import_module(module).register(cli)
    return cli


def _program() -> None:
    """Makes the name of a command needed, also where a module has only one."""


def main() -> None:
    """Entry point of the console script. An unexpected error is reported by an id and not shown.

    Output that could not be written makes a success end with `EXIT_HOST`.
    """
    out = streams.guard()
    gc.set_threshold(GARBAGE_THRESHOLD)
    code: object = 0
    try:
        command_line(*sys.argv[1:2])()
    except SystemExit as end:
        code = end.code
    except Exception as error:
        code = error_report.report(error)
    if (failure := streams.lost(out)) is not None and not code:
        code = error_report.report(failure)
    raise SystemExit(code)
