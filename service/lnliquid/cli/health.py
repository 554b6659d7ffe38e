"""The command `lnliquid health`: is the daemon alive, does it take new swaps?

The image's HEALTHCHECK runs it as `python -m lnliquid.cli.health`, every few seconds for years, so
it imports as little as it can.
"""

import asyncio
from typing import Annotated

import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lnliquid.cli.options import ConfigOption, epilog
from lnliquid.domain.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, SettingsError
from lnliquid.grpc_client import CallFailed, Client

SWAP_SERVICE = "ln_liquid_swap.v1.SwapService"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 (not listened on: replaced)
"""Where to ask a daemon that listens on every address."""

EPILOG = epilog(
    "health --config seller.toml --ready",
    codes={
        EXIT_OK: "yes",
        EXIT_FAILED: "no: nothing answers, or it is not ready",
        EXIT_USAGE: "wrong usage or settings",
    },
)


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
    """Ask the daemon whether it is alive (gRPC health), with --ready whether it takes new swaps.

    One that is not ready is not broken: it goes on watching and refunding. Never kill it for that.
    """
    try:
        where = address or asked_at(_listen(config))
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE) from None
    try:
        status = asyncio.run(_status(where, SWAP_SERVICE if ready else "", timeout_secs))
    except CallFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    if status == health_pb2.HealthCheckResponse.SERVING:
        typer.echo(f"{'ready, new swaps are taken' if ready else 'alive'}: {where}")
        return
    problem = (
        "not ready: running, but not accepting swaps; the log and `lnliquid top` give the reason"
        if ready
        else "ending, no calls are taken"
    )
    typer.echo(f"{problem}: {where}", err=True)
    raise typer.Exit(EXIT_FAILED)


def _listen(config: ConfigOption) -> str:
    from lnliquid.config import load_settings

    return load_settings(config).listen


def asked_at(listen: str) -> str:
    """Where a daemon with this `listen` is reached from its own machine.

    Raises `SettingsError` when the system picks the port, which is known to the daemon alone.
    """
    if listen.startswith("unix:"):
        return listen
    host, _, port = listen.rpartition(":")
    if int(port) == 0:
        raise SettingsError(
            (f"listen = {listen!r} has no fixed port; name the address with --address",)
        )
    return f"{ANY_HOST.get(host, host)}:{port}"


async def _status(address: str, service: str, secs: float) -> int:
    """The serving status; the empty service is being alive (`api/server.py`)."""
    request = health_pb2.HealthCheckRequest(service=service)
    stub = health_pb2_grpc.HealthStub
    async with Client(address, stub, call_secs=secs) as client:
        reply = await client.call(lambda stub, secs: stub.Check(request, timeout=secs))
        return int(reply.status)


if __name__ == "__main__":
    typer.run(health)
