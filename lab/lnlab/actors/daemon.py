"""The seller daemon of the lab, used as an operator would use it: files, CLI, gRPC."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ln_liquid_swap.v1 import swap_pb2_grpc
from lnlab.actors.daemon_run import NAME, ContainerRun, DaemonRun, ProcessRun
from lnlab.actors.faucet import Payment, script_of
from lnlab.actors.programs import run_program
from lnlab.lab import Lab
from lnlab.nodes.children import NodeDiedError, log_tail
from lnlab.nodes.compose_project import Project
from lnlab.nodes.process import free_ports
from lnlab.nodes.record import POLICY_ASSET

__all__ = ["CHANNEL_OPTIONS", "LAB_SETTINGS", "NAME", "TICKER", "SellerDaemon"]

TICKER = "DEMO"
SERVICE = "ln_liquid_swap.v1.SwapService"

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # how long an attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)
"""Options of the lab's channels: a daemon is asked again soon, and never by a web proxy."""

READY_SECS = 90.0
"""A busy machine may need most of it to load the program in a container."""
PRICE_MSAT_PER_UNIT = 50_000_000
ISSUED = 1_000_000 * 100_000_000

LAB_SETTINGS: dict[str, Any] = {
    # Blocks come when the lab mines them, and the channels are on Liquid too: short times, but
    # inside the timelock inequality like everywhere else, and with room for a person to think.
    "network": "liquid-regtest",
    "asset_precision": 8,
    "price_msat_per_asset_unit": PRICE_MSAT_PER_UNIT,
    # Scenarios sell crumbs; nobody can drain a lab of anything.
    "min_swap_amount": 1,
    "allow_sales_below_cost": True,
    "fee_subsidy_sats": 500,
    "refund_delta_blocks": 150,
    "invoice_expiry_secs": 600,
    "max_ln_cltv_blocks": 24,
    "claim_margin_blocks": 60,
    "lightning_chain": "liquid",
    "create_slack_secs": 120,
    "funding_confs": 1,
    "final_confs": 2,
    "create_wait_secs": 30,
    "poll_interval_secs": 5,
    "stall_after_secs": 86_400,  # a lab may stand idle for a day
    # Reorgs replace many blocks at once: what they take out has not waited for that.
    "bump_after_blocks": 20,
}


class SellerDaemon:
    """One `lnliquid serve` on a lab. Its files are in `DIR/daemon` and stay across restarts.

    On a compose lab it runs in a container, unless its backends are to be troubled by proxies,
    which are on the host; `move` it from one to the other.
    """

    def __init__(
        self,
        lab: Lab,
        settings: Mapping[str, Any] | None = None,
        *,
        through_proxies: bool = False,
    ) -> None:
        self.lab = lab
        self.through_proxies = through_proxies
        self.directory = lab.directory / "daemon"
        self.config = self.directory / "seller.toml"
        self._settings = {**LAB_SETTINGS, **(settings or {})}
        self._run = self._place(in_container=lab.containers is not None and not through_proxies)
        self._channel: grpc.aio.Channel | None = None
        self._operator_channel: grpc.aio.Channel | None = None

    @classmethod
    async def create(
        cls,
        lab: Lab,
        *,
        settings: Mapping[str, Any] | None = None,
        asset_amount: int = 10_000 * 100_000_000,
        lbtc_sats: int = 1_000_000_000,
        coins: int = 1,
        env: Mapping[str, str] | None = None,
        through_proxies: bool = False,
        wait: bool = True,
    ) -> "SellerDaemon":
        """Issue the asset, make settings and keys, fund the wallet, start, wait until ready.

        The inventory arrives as `coins` equal pairs of asset and L-BTC. `through_proxies`: it gets
        the endpoints of the lab's proxies, so that `Faults` can trouble it. Without `wait` it may
        still be loading on return: `wait_ready` is next.
        """
        daemon = cls(lab, settings, through_proxies=through_proxies)
        asset_id = await lab.faucet.issue(TICKER, ISSUED)
        await daemon.configure(asset_id)
        script = await daemon.receive_script()
        payments = []
        for _ in range(coins):
            payments.append(Payment(script, asset_id, asset_amount // coins))
            payments.append(Payment(script, POLICY_ASSET, lbtc_sats // coins))
        await lab.mine()
        await lab.faucet.pay(payments)
        await lab.mine(int(daemon._settings["final_confs"]))  # from then on they are spent
        await daemon.launch(env)
        if wait:
            await daemon.wait_ready()
        return daemon

    async def reopen(self) -> None:
        """Start the daemon of a lab that goes on, on its files, unless it runs already."""
        if self.is_running():
            return
        await self.configure(self.asset_id)
        await self.start()

    async def configure(self, asset_id: str) -> None:
        """Write the settings file, for the lab's ports as they are now."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        electrum_url, lightning_rpc = self.lab.electrum_url, self.lab.lightning["seller"]
        if self.through_proxies:
            proxied = await self.lab.start_proxies()
            electrum_url, lightning_rpc = proxied["electrum"], proxied["lightning-seller"]
        values = {
            **self._settings,
            "asset_id": asset_id,
            "listen": f"127.0.0.1:{self._port()}",
            "database": str(self.directory / "swaps.sqlite"),
            "mnemonic_file": str(self.directory / "mnemonic"),
            "electrum_url": electrum_url,
            "lightning_rpc": lightning_rpc,
        }
        self.config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))

    def _port(self) -> int:
        """The port to listen on: the one that is published for a container, else a free one.

        The one that it had before, if that is free: `lnlab up` goes on with a lab that was ended.
        """
        project = Project.load(self.lab.directory) if self.lab.containers is not None else None
        if project is not None:
            return int(project.variables["LNLAB_SELLER_PORT"])
        had = {"seller": int(self.address.rpartition(":")[2])} if self.config.exists() else {}
        return free_ports(had).seller

    def _place(self, *, in_container: bool) -> DaemonRun:
        return ContainerRun(self.lab) if in_container else ProcessRun(self.lab, self.config)

    @property
    def in_container(self) -> bool:
        """True when it runs, or will, as a container."""
        return isinstance(self._run, ContainerRun)

    async def move(self, *, in_container: bool) -> None:
        """Stop it and start it on the same files as a container or as a process on the host.

        In a container it reaches its backends directly, on the host through the proxies if it was
        created so. Nothing happens when it is there already.
        """
        if in_container != self.in_container:
            await self.stop()
            self._run = self._place(in_container=in_container)
            await self.start()

    def setting(self, name: str) -> Any:
        """A value of the settings file."""
        import tomllib

        return tomllib.loads(self.config.read_text())[name]

    @property
    def address(self) -> str:
        """Where the daemon listens, host:port."""
        return str(self.setting("listen"))

    @property
    def asset_id(self) -> str:
        """The asset that is sold."""
        return str(self.setting("asset_id"))

    async def receive_script(self) -> bytes:
        """Output script of the wallet's first address, asked for by the CLI."""
        return script_of(await self.receive_address())

    async def receive_address(self) -> str:
        """The wallet's first address, as the CLI prints it; makes the mnemonic if there is none."""
        arguments = ["address", "--config", str(self.config)]
        if not self._has_mnemonic():
            mnemonic, network = self.setting("mnemonic_file"), self.setting("network")
            arguments = ["init", "--mnemonic-file", mnemonic, "--network", network]
        printed = await run_program("lnliquid", *arguments)
        return printed.split()[-1]

    def _has_mnemonic(self) -> bool:
        return (self.directory / "mnemonic").exists()

    async def start(self, env: Mapping[str, str] | None = None) -> None:
        """Start the process and wait until its health says that swaps can be taken."""
        await self.launch(env)
        await self.wait_ready()

    async def launch(
        self,
        env: Mapping[str, str] | None = None,
        *,
        prefix: Sequence[str] = (),
        stderr: int | None = None,
    ) -> None:
        """Start it only, with these variables besides its own. The rest: see `DaemonRun`."""
        await self._run.launch(env or {}, prefix=prefix, stderr=stderr)

    async def wait_ready(self, timeout_secs: float = READY_SECS) -> None:
        """Wait for SERVING. A daemon that ended meanwhile fails at once with its last lines."""

        async def ready() -> bool:
            self.check_alive()
            return await self.is_ready()

        await self.lab.wait_for(
            ready, timeout_secs=timeout_secs, message="the seller daemon gets ready"
        )

    async def is_ready(self) -> bool:
        """True when the daemon says that it can take a swap now."""
        return await self._is_serving(SERVICE)

    async def answers(self) -> bool:
        """True when the daemon answers at all."""
        return await self._is_serving("")

    async def _is_serving(self, service: str) -> bool:
        stub = health_pb2_grpc.HealthStub(self.channel())
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def channel(self) -> grpc.aio.Channel:
        """One channel for all calls of this lab; it reconnects after a restart."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        return self._channel

    def stub(self) -> "swap_pb2_grpc.SwapServiceAsyncStub":
        """Client of `SwapService`."""
        return swap_pb2_grpc.SwapServiceStub(self.channel())

    @property
    def operator_address(self) -> str:
        """Where the daemon listens for its operator."""
        return f"unix:{self.directory / 'operator.sock'}"

    def operator_stub(self) -> "swap_pb2_grpc.OperatorServiceAsyncStub":
        """Client of `OperatorService`, on the daemon's unix socket."""
        if self._operator_channel is None:
            self._operator_channel = grpc.aio.insecure_channel(
                self.operator_address, options=CHANNEL_OPTIONS
            )
        return swap_pb2_grpc.OperatorServiceStub(self._operator_channel)

    @property
    def pid(self) -> int | None:
        """Process id of the running daemon; None in a container."""
        return self._run.pid

    def host_pids(self) -> list[int]:
        """Ids of its processes as this host counts them, in a container too; none when dead."""
        return self._run.host_pids()

    @property
    def where(self) -> str:
        """Process or container that it is, for people."""
        return self._run.where

    @property
    def log(self) -> Path:
        """Its log file, up to date now."""
        return self._run.log

    def check_alive(self) -> None:
        """Raise `NodeDiedError`, with its last log lines, when it is dead."""
        self._run.check_alive()

    def is_running(self) -> bool:
        """True while it lives."""
        return self._run.is_running()

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait for that."""
        await self._run.stop()

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        await self._run.kill()

    async def wait_dead(self, timeout_secs: float = 30.0) -> None:
        """Wait until it ended by itself, at a crash point."""
        from lnlab.wait import wait_for

        await wait_for(
            lambda: not self.is_running(),
            timeout_secs=timeout_secs,
            message="the daemon stops dead",
        )
        await self.stop()

    async def restart(self, env: Mapping[str, str] | None = None) -> None:
        """Kill it and start it on the same files."""
        await self.kill()
        await self.start(env)

    def check_log(self) -> None:
        """Raise when the log holds a traceback or an internal error: nothing may go so wrong."""
        text = self.log.read_text(errors="replace")
        if "Traceback" in text or "internal error" in text:
            raise NodeDiedError(f"the daemon's log shows a fault:\n{log_tail(self.log, 40)}")

    async def close(self) -> None:
        """Close the connections; the process goes on."""
        for channel in (self._channel, self._operator_channel):
            if channel is not None:
                await channel.close()
        self._channel = self._operator_channel = None

    async def __aenter__(self) -> Self:
        """Return the daemon itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection and end the process."""
        await self.close()
        await self.stop()
