"""The seller daemon as an operator's container: `deploy/Dockerfile` run by `deploy/compose.yaml`.

What the compose file hardens is what is tested. On the embedded lab one thing is changed, in an
override file: those nodes listen on loopback alone, so the container shares the host's network.
"""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lnlab.actors.daemon import SellerDaemon
from lnlab.lab import Lab
from lnlab.nodes.children import NodeDiedError, log_tail
from lnlab.nodes.compose_containers import engine

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
IMAGE = f"lnliquid-test:{os.getpid()}"
"""The image that this test process builds and removes."""
SERVICE = "lnliquid"
COMPOSE_SECS = 60.0
OUTPUT_SECS = 30.0

ON_THE_HOST = """\
services:
  lnliquid:
    network_mode: host
    networks: !reset null
    environment:
      LNLIQUID_LISTEN: {address}
      LNLIQUID_ALLOW_NONLOCAL_LISTEN: "false"
"""


class ComposeFailure(AssertionError):
    """A `docker compose` command ended with another exit code than 0; the text is its output."""


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Deployment:
    """One Compose project of the files in `deploy/`, with its environment file in `directory`."""

    def __init__(self, directory: Path, files: Sequence[Path] = (), name: str = "") -> None:
        self.name = name or f"lnliquid-test-{os.getpid()}"
        self._env_file = directory / "container.env"
        paths = [DEPLOY / "compose.yaml", *files]
        self._options = ["--project-name", self.name, "--env-file", str(self._env_file)]
        self._options += [word for path in paths for word in ("--file", str(path))]
        self._client: Any = engine()

    def write_environment(self, lightning: Path, settings: Mapping[str, Any]) -> None:
        """Write what an operator would write into `.env`; lets the container use the socket."""
        group = 0
        if lightning.exists():
            lightning.parent.chmod(0o750)
            lightning.chmod(0o660)
            group = lightning.stat().st_gid
        values = {
            "IMAGE": IMAGE,
            "SETTINGS_FILE": self._env_file,
            "NETWORK": self.name,
            "LIGHTNING_DIR": lightning.parent,
            "LIGHTNING_GID": group,
            **{f"LNLIQUID_{name.upper()}": value for name, value in settings.items()},
        }
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    async def compose(self, *arguments: str) -> str:
        """Run `docker compose …` on this project and return what it printed. `ComposeFailure`."""
        process = await asyncio.create_subprocess_exec(
            "docker",
            "compose",
            *self._options,
            *arguments,
            # Nothing of the tester's own environment may decide what runs.
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMPOSE_SECS):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ComposeFailure(f"docker compose {' '.join(arguments)}:\n{errors.decode()}")
        return output.decode()

    def containers(self) -> list[Any]:
        """Every container of the project, running or not."""
        label = f"com.docker.compose.project={self.name}"
        return list(self._client.containers.list(all=True, filters={"label": label}))

    @property
    def container(self) -> Any:
        """The daemon's container, as it is now. `LookupError` when there is none."""
        for found in self.containers():
            if found.labels["com.docker.compose.service"] == SERVICE:
                return found
        raise LookupError(f"project {self.name} has no container of {SERVICE}")

    async def run_in(self, *command: str, check: bool = True) -> str:
        """Run a command in the daemon's container, as its user, and return the output."""
        code, output = await asyncio.to_thread(self.container.exec_run, list(command))
        assert not (check and code), f"{command} ended with {code}: {output.decode()}"
        return str(output.decode())

    def health(self) -> str:
        """What Docker says of the container's health check."""
        return str(self.container.attrs["State"]["Health"]["Status"])

    async def remove(self) -> None:
        """Remove containers, networks and volumes."""
        await self.compose("--profile", "tools", "down", "--volumes", "--timeout", "10")

    def left(self) -> list[str]:
        """What of the project is still there."""
        label = {"label": f"com.docker.compose.project={self.name}"}
        return [
            *(container.name for container in self.containers()),
            *(volume.name for volume in self._client.volumes.list(filters=label)),
            *(network.name for network in self._client.networks.list(filters=label)),
        ]

    def close(self) -> None:
        """Close the connection to the engine."""
        self._client.close()


class DeployedRun:
    """The place where `ImageDaemon` runs: the service of a `Deployment`."""

    pid: None = None

    def __init__(self, deployment: Deployment, log: Path) -> None:
        self._deployment = deployment
        self._log = log

    @property
    def log(self) -> Path:
        """The container's log, written to a file now."""
        self._log.write_bytes(self._deployment.container.logs())
        return self._log

    @property
    def where(self) -> str:
        """What runs, for people."""
        return f"container {self._deployment.container.name}"

    def host_pids(self) -> list[int]:
        """Ids of its processes as this host counts them."""
        listed = self._deployment.container.top(ps_args="-o pid")
        return [int(row[0]) for row in listed["Processes"]]

    def is_running(self) -> bool:
        """True while the container lives."""
        return bool(self._deployment.container.status == "running")

    def check_alive(self) -> None:
        """Raise `NodeDiedError` when it is dead."""
        if not self.is_running():
            raise NodeDiedError(f"{self.where} is dead; end of its log:\n{log_tail(self.log)}")

    async def launch(
        self, env: Mapping[str, str], *, prefix: Sequence[str] = (), stderr: int | None = None
    ) -> None:
        """Start the container, or make it first."""
        assert not env, "its variables are in the environment file"
        await self._deployment.compose("up", "--detach", SERVICE)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the compose file's grace period."""
        await asyncio.to_thread(self._deployment.container.stop)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""

        def kill_and_wait() -> None:
            container = self._deployment.container
            container.kill("SIGKILL")
            container.wait(timeout=OUTPUT_SECS)

        await asyncio.to_thread(kill_and_wait)


class ImageDaemon(SellerDaemon):
    """A `SellerDaemon` whose files are in volumes and whose program is in the image."""

    def __init__(
        self, lab: Lab, settings: Mapping[str, Any] | None = None, *, through_proxies: bool = False
    ) -> None:
        self._override = lab.directory / "override.yaml"
        self.deployment = Deployment(lab.directory, [self._override])
        super().__init__(lab, settings, through_proxies=through_proxies)

    def _place(self, *, in_container: bool) -> DeployedRun:
        return DeployedRun(self.deployment, self.lab.directory / "lnliquid.log")

    async def configure(self, asset_id: str) -> None:
        """Write the environment file and make the mnemonic, as the operator's guide says."""
        address = f"127.0.0.1:{free_port()}"
        self._override.write_text(ON_THE_HOST.format(address=address))
        settings = {
            **self._settings,
            "asset_id": asset_id,
            "electrum_url": self.lab.electrum_url,
        }
        self.deployment.write_environment(Path(self.lab.lightning["seller"]), settings)
        # For whoever asks this object; the container does not see it.
        self.directory.mkdir(mode=stat.S_IRWXU)
        lines = {"asset_id": asset_id, "listen": address}
        self.config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in lines.items()))
        await self.deployment.compose("run", "--rm", "init")

    async def receive_address(self) -> str:
        """The wallet's first address, asked for in a container of its own."""
        printed = await self.deployment.compose("run", "--rm", "--no-deps", SERVICE, "address")
        return printed.split()[-1]
