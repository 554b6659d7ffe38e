"""The operator's commands around the daemon's start: `serve`, `init`, `address`."""

import asyncio
import atexit
import gc
import os
from pathlib import Path
from typing import Annotated

import typer

from lnliquid import log
from lnliquid.cli import console
from lnliquid.cli.options import ConfigOption, JsonOption, epilog
from lnliquid.config import ENV_PREFIX, Settings, load_settings, unit_of
from lnliquid.domain.errors import SettingsError
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import RECEIVE, Keychain, read_mnemonic, write_mnemonic
from lnliquid.liquid.networks import NETWORKS_BY_NAME, Network

PYTHONS_THRESHOLDS = (700, 10, 10)
"""When CPython 3.11 looks for garbage, by default."""


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    cli.command(epilog=f"{epilog('serve --config seller.toml')}\n\n{_settings()}")(serve)
    cli.command(epilog=epilog("init --mnemonic-file ~/.lnliquid/mnemonic"))(init)
    chosen = "address --mnemonic-file ~/.lnliquid/mnemonic --network liquid-regtest"
    cli.command(epilog=epilog(chosen))(address)


def _settings() -> str:
    lines = []
    for name, field in Settings.model_fields.items():
        default = "needed" if field.is_required() else f"default {field.default}"
        unit = unit_of(name)
        lines.append(f"  {name}: {field.description} ({f'{unit}, ' if unit else ''}{default})")
    return f"\b\nSettings, in the file or as {ENV_PREFIX}<NAME> in capitals:\n" + "\n".join(lines)


def serve(config: ConfigOption = None) -> None:
    """Run the seller daemon until it is stopped. Exit code 2: the settings are wrong."""
    log.open_standard_files()
    stderr = log.QueuedStderr.install()
    if stderr is not None:
        atexit.register(stderr.drain)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write past the queue
    with console.clean_errors():
        settings = load_settings(config)
        # The whole daemon is three times as much to load as the other commands here are.
        from lnliquid import daemon

        # What is loaded stays. From here on garbage is looked for as often as Python does by
        # itself: a daemon runs for months.
        gc.freeze()
        gc.set_threshold(*PYTHONS_THRESHOLDS)
        raise typer.Exit(asyncio.run(daemon.serve(settings, stderr)))


def init(
    mnemonic_file: Annotated[Path, typer.Option(help="File to make, mode 0600.")],
    network: Annotated[
        str | None, typer.Option(help="Liquid chain: print the first receive address too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the seller's mnemonic. An existing file is never overwritten."""
    path = mnemonic_file.expanduser()
    with console.clean_errors(as_json):
        chain = None if network is None else _chain(network)
        try:
            write_mnemonic(path)
        except FileExistsError:
            raise SettingsError((f"{path} exists already and is left as it is",), hint="") from None
        except OSError as error:
            raise SettingsError((f"{path} cannot be written: {error.strerror}",), hint="") from None
        found = None if chain is None else _first_address(path, chain)
    if as_json:
        also = {} if found is None else {"address": found, "network": network}
        console.show_json({"mnemonic_file": str(path)} | also)
        return
    console.show(f"wrote {path}; copy it to a safe place: it is the key to all coins")
    if found is not None:
        console.show(f"first receive address: {found}")


def address(
    config: ConfigOption = None,
    mnemonic_file: Annotated[
        Path | None, typer.Option(help="The seller's mnemonic, instead of --config.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Liquid chain, instead of --config.")] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Ask the running daemon for one not given out before.")
    ] = False,
    operator: Annotated[
        str | None,
        typer.Option(envvar="LNLIQUID_OPERATOR", help="With --new: the daemon's operator address."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a receive address of the seller: send asset and L-BTC there to stock it.

    It is the first one, or with --new a fresh one.
    """
    with console.clean_errors(as_json):
        if new:
            if operator is None:
                raise typer.BadParameter("--new needs --operator")
            _new_address(operator, as_json)
            return
        if mnemonic_file is None or network is None:
            if mnemonic_file is not None or network is not None:
                raise typer.BadParameter("--mnemonic-file and --network belong together")
            settings = load_settings(config)
            mnemonic_file, network = settings.mnemonic_file, settings.network
        found = _first_address(mnemonic_file.expanduser(), _chain(network))
    if as_json:
        console.show_json({"address": found, "network": network})
    else:
        console.show(found)


def _new_address(operator: str, as_json: bool) -> None:
    from ln_liquid_swap.v1 import swap_pb2 as pb
    from lnliquid.cli.operator import ask

    request = pb.NewAddressRequest()
    found = ask(operator, lambda stub, secs: stub.NewAddress(request, timeout=secs)).address
    if as_json:
        console.show_json({"address": found})
    else:
        console.show(found)


def _chain(network: str) -> Network:
    if network not in NETWORKS_BY_NAME:
        names = ", ".join(NETWORKS_BY_NAME)
        raise SettingsError((f"network {network!r} is not one of {names}",), hint="")
    return NETWORKS_BY_NAME[network]


def _first_address(mnemonic_file: Path, chain: Network) -> str:
    keys = Keychain(read_mnemonic(mnemonic_file), chain)
    return p2wpkh_address(keys.wallet_key(RECEIVE, 0).key_hash, chain)
