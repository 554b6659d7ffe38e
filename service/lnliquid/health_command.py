"""The command `lnliquid health`: does the daemon live, does it take new swaps?

The image's HEALTHCHECK runs it as `python -m lnliquid.health_command`, every few seconds for years,
so it imports as little as it can.
"""

from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lnliquid.errors import SettingsError
from lnliquid.operator_options import ConfigOption
from lnliquid.settings import load_settings

SWAP_SERVICE = "ln_liquid_swap.v1.SwapService"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 (not listened on: replaced)
"""Where to ask a daemon that listens on every address."""

EXIT_NO, EXIT_USAGE = 1, 2
EPILOG = """\b
Example:
  lnliquid health --config seller.toml --ready

\b
Exit codes:
  0  yes
  1  no: nothing answers, or it is not ready
  2  wrong usage or settings"""


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    cli.command("health", epilog=EPILOG, rich_help_panel="Operator")(health)


def health(
    config: ConfigOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ask there, host:port or unix:/path, and read no settings."),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether new swaps are taken, too.")
    ] = False,
    timeout_secs: Annotated[
        float, typer.Option(min=0.1, max=60, help="How long to wait for the answer, s.")
    ] = 3.0,
) -> None:
    """Ask the daemon whether it lives (gRPC health), with --ready whether it takes new swaps.

    One that is not ready is not broken: it goes on watching and refunding. Never kill it for that.
    """
    try:
        where = address or asked_at(load_settings(config).listen)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE) from None
    is_well, words = ask(where, ready=ready, timeout_secs=timeout_secs)
    typer.echo(words, err=not is_well)
    if not is_well:
        raise typer.Exit(EXIT_NO)


def asked_at(listen: str) -> str:
    """Where a daemon with this `listen` is reached from its own machine.

    Raises `SettingsError` when the system picks the port, which nobody else knows then.
    """
    if listen.startswith("unix:"):
        return listen
    host, _, port = listen.rpartition(":")
    if int(port) == 0:
        raise SettingsError(
            (f"listen = {listen!r} has no fixed port; name the address with --address",)
        )
    return f"{ANY_HOST.get(host, host)}:{port}"


def ask(address: str, *, ready: bool, timeout_secs: float) -> tuple[bool, str]:
    """Whether the answer is yes, and what a person should read.

    The service name is empty for being alive (grpc.health.v1, `api/server.py`).
    """
    request = health_pb2.HealthCheckRequest(service=SWAP_SERVICE if ready else "")
    # A proxy of the environment is for the world outside, not for the daemon next door.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_secs)
        except grpc.RpcError as error:
            return False, f"no daemon answers at {address}: {_reason(error)}"
    if reply.status == health_pb2.HealthCheckResponse.SERVING:
        return True, f"{'ready, new swaps are taken' if ready else 'alive'}: {address}"
    if ready:
        return False, f"not ready: it lives and takes no new swaps; why, say log and top: {address}"
    return False, f"ending, no calls are taken: {address}"


def _reason(error: grpc.RpcError) -> str:
    if not isinstance(error, grpc.Call):
        return type(error).__name__
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return "nothing listens there, or it cannot be reached"
    return " ".join(str(error.details() or error.code().name).split())


if __name__ == "__main__":
    typer.run(health)
