"""The command line `lnliquid`: the seller's commands here and in `operator_commands`, the buyer's
in `buyer.commands`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from lnliquid import (
    backup_command,
    faults,
    health_command,
    operator_calls,
    operator_commands,
    operator_settings,
    rescue_command,
)
from lnliquid.buyer import commands, terminal
from lnliquid.errors import SettingsError
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import RECEIVE, Keychain, read_mnemonic, write_mnemonic
from lnliquid.liquid.networks import NETWORKS_BY_NAME
from lnliquid.settings import ENV_PREFIX, Settings, load_settings

cli = typer.Typer(
    name="lnliquid",
    help="Pay a Lightning invoice, receive a Liquid asset: seller daemon and buyer.",
    no_args_is_help=True,
    # A traceback may show local variables, and with them secrets.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help=f"TOML file with the settings; {ENV_PREFIX}<NAME> wins over it."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def _knobs() -> str:
    lines = []
    for name, field in Settings.model_fields.items():
        default = "needed" if field.is_required() else f"default {field.default}"
        lines.append(f"  {name}: {field.description} ({default})")
    return f"\b\nSettings, in the file or as {ENV_PREFIX}<NAME> in capitals:\n" + "\n".join(lines)


def _example(command: str) -> str:
    return f"\b\nExample:\n  lnliquid {command}"


@cli.command(epilog=f"{_example('serve --config seller.toml')}\n\n{_knobs()}")
def serve(config: ConfigOption = None) -> None:
    """Run the seller daemon until it is told to stop. Exit code 2: the settings are wrong."""
    with terminal.clean_errors():
        settings = load_settings(config)
        from lnliquid import app

        raise typer.Exit(asyncio.run(app.serve(settings)))


@cli.command(epilog=_example("init --mnemonic-file ~/.lnliquid/mnemonic"))
def init(
    mnemonic_file: Annotated[Path, typer.Option(help="File to make, mode 0600.")],
    as_json: JsonOption = False,
) -> None:
    """Make the seller's mnemonic. An existing file is never overwritten."""
    path = mnemonic_file.expanduser()
    with terminal.clean_errors(as_json):
        try:
            write_mnemonic(path)
        except FileExistsError:
            raise SettingsError((f"{path} exists already and is left as it is",), hint="") from None
        except OSError as error:
            raise SettingsError((f"{path} cannot be written: {error.strerror}",), hint="") from None
    if as_json:
        terminal.show_json({"mnemonic_file": str(path)})
        return
    terminal.show(f"wrote {path}; copy it to a safe place, whoever has it has the money")


cli.command("check-config", epilog=operator_settings.EPILOG)(operator_settings.check_config)


@cli.command(
    epilog=_example("address --mnemonic-file ~/.lnliquid/mnemonic --network liquid-regtest")
)
def address(
    config: ConfigOption = None,
    mnemonic_file: Annotated[
        Path | None, typer.Option(help="The seller's mnemonic, instead of --config.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Liquid chain, instead of --config.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the seller's first receive address: send asset and L-BTC there to stock the seller."""
    with terminal.clean_errors(as_json):
        if mnemonic_file is None or network is None:
            if mnemonic_file is not None or network is not None:
                raise typer.BadParameter("--mnemonic-file and --network belong together")
            settings = load_settings(config)
            mnemonic_file, network = settings.mnemonic_file, settings.network
        if network not in NETWORKS_BY_NAME:
            names = ", ".join(NETWORKS_BY_NAME)
            raise SettingsError((f"network {network!r} is not one of {names}",), hint="")
        chain = NETWORKS_BY_NAME[network]
        keys = Keychain(read_mnemonic(mnemonic_file.expanduser()), chain)
        found = p2wpkh_address(keys.wallet_key(RECEIVE, 0).key_hash, chain)
    if as_json:
        terminal.show_json({"address": found, "network": network})
    else:
        terminal.show(found)


operator_commands.register(cli)
operator_calls.register(cli)
backup_command.register(cli)
health_command.register(cli)
rescue_command.register(cli)
commands.register(cli)


def main() -> None:
    """Entry point of the console script. What nobody expected is told by an id, never shown."""
    try:
        cli()
    except Exception as error:
        raise SystemExit(faults.report(error)) from None
