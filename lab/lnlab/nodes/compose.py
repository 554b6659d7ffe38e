"""Real nodes in containers: `docker compose` on ``deploy/compose``, one project a lab.

Everything that the containers write is in the lab's directory and belongs to its user. Ports are
published on loopback only, on free ones.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lnlab.actors.faucet import Faucet
from lnlab.nodes import record
from lnlab.nodes.channel import Peer, open_channel, reconnect
from lnlab.nodes.compose_containers import Containers, missing_images
from lnlab.nodes.compose_project import ComposeError, Project, project_name
from lnlab.nodes.process import RPC_USER, START_TIMEOUT_SECS, free_ports
from lnlab.nodes.record import NodesRecord
from lnlab.nodes.rpc import NodeRpc
from lnlab.nodes.seed import seed_chain, seed_fee_estimates, wake_chain
from lnlab.wait import wait_for

NODES = ("elementsd", "electrs", "lightningd-seller", "lightningd-buyer")
DIRECTORIES = ("elementsd", "electrs", "seller", "buyer", "daemon")
SELLER_AT = Peer("lightningd-seller", 9735)
"""Where the buyer's node finds the seller's, in the lab's network."""
WAIT_TIMEOUT_SECS = 120

Tell = Callable[[str], None]
"""Gets a line as each service is ready."""


def new_project(directory: Path) -> Project:
    """Return a project for a lab in ``directory``, with a new password and free ports.

    The ports are those that the lab had before, if it goes on and they are free.
    """
    preferred = record.stopped_ports(directory)
    if preferred and (earlier := Project.load(directory)) is not None:
        preferred["seller"] = int(earlier.variables["LNLAB_SELLER_PORT"])
    ports = free_ports(preferred)
    variables = {
        "LNLAB_DIR": str(directory),
        "LNLAB_USER": f"{os.getuid()}:{os.getgid()}",
        "LNLAB_RPC_PASSWORD": secrets.token_hex(16),
        "LNLAB_RPC_PORT": str(ports.rpc),
        "LNLAB_ELECTRUM_PORT": str(ports.electrum),
        "LNLAB_SELLER_PORT": str(ports.seller),
    }
    return Project(project_name(directory), str(directory), variables)


async def images_of(project: Project) -> list[str]:
    """Return the names of all images that the project runs."""
    return sorted(set((await project.run("config", "--images")).split()))


async def why_not(directory: Path) -> str | None:
    """Return why a compose lab cannot start here at once, None when it can.

    It wants Docker, Compose 2, a running engine, and all images: pulled and built.
    """
    try:
        images = await images_of(new_project(directory))
        missing = await asyncio.to_thread(missing_images, images)
    except ComposeError as error:
        first, *rest = str(error).splitlines()
        return " ".join([first, *rest[-1:]])
    return f"images missing: {', '.join(missing)}" if missing else None


class ComposeNodes:
    """Starts the containers of a lab in ``directory``; ``tell`` hears of each as it is ready."""

    def __init__(self, directory: Path, tell: Tell) -> None:
        self._directory = directory
        self._tell = tell
        self._project = new_project(directory)
        self._containers = Containers(self._project.name)
        self._sockets = {
            name: str(directory / name / "lightning-rpc") for name in ("seller", "buyer")
        }

    async def launch(self, *, resume: bool = False) -> NodesRecord:
        """Start the nodes and return where they listen, a channel with money on both ends included.

        With ``resume`` chain and channel are those that the directory holds from an earlier run.
        Raises ComposeError naming the service that does not get healthy, with its last log lines.
        """
        variables = self._project.variables
        rpc_url = f"http://127.0.0.1:{variables['LNLAB_RPC_PORT']}/"
        password = variables["LNLAB_RPC_PASSWORD"]
        for name in DIRECTORIES:
            (self._directory / name).mkdir(mode=0o700, exist_ok=True)
        try:
            await self._build_lightningd()
            # From here on there may be containers, which whoever ends the lab must know of.
            self._project.save()
            async with NodeRpc(rpc_url, RPC_USER, password) as rpc:
                await self._up("elementsd")
                faucet = Faucet(rpc, self._directory)
                if resume:
                    await wake_chain(rpc, faucet)
                    self._tell("chain: goes on, fees can be estimated")
                else:
                    await seed_chain(rpc, faucet)
                    await seed_fee_estimates(rpc, faucet)
                    self._tell("chain: seeded, fees can be estimated")
                await self._up("electrs", "lightningd-seller", "lightningd-buyer")
                if resume:
                    await reconnect(self._sockets, SELLER_AT, self._wait)
                else:
                    await open_channel(rpc, faucet, self._sockets, SELLER_AT, self._wait)
                self._tell("channel: usable from both sides")
        finally:
            self._containers.close()
        return NodesRecord(
            kind="compose",
            rpc_url=rpc_url,
            rpc_user=RPC_USER,
            rpc_password=password,
            electrum_url=f"tcp://127.0.0.1:{variables['LNLAB_ELECTRUM_PORT']}",
            lightning=self._sockets,
        )

    async def _build_lightningd(self) -> None:
        image = next(n for n in await images_of(self._project) if "lightningd-elements" in n)
        if await asyncio.to_thread(missing_images, [image]):
            self._tell(f"building {image}")
            await self._project.run("build", "lightningd-seller")

    async def _up(self, *services: str) -> None:
        started = time.monotonic()
        wait = ("--wait", "--wait-timeout", str(WAIT_TIMEOUT_SECS))
        try:
            await self._project.run("up", "--detach", *wait, *services)
        except ComposeError as error:
            troubled = await asyncio.to_thread(self._containers.troubled)
            raise ComposeError(f"{error}\n{troubled}".strip()) from None
        for service in services:
            self._tell(f"{service}: healthy ({time.monotonic() - started:.1f} s)")

    async def _wait(self, predicate: Callable[[], Any], message: str) -> None:
        await wait_for(
            predicate,
            timeout_secs=START_TIMEOUT_SECS,
            message=message,
            check_alive=self._containers.check_alive,
            interval_secs=0.05,
        )


def end_containers(directory: Path) -> list[str]:
    """End the containers of the lab in ``directory``, and return the services that were alive.

    Their logs are saved as SERVICE.log first. Nothing happens to a lab without any; one that is
    half started, or whose starter was killed, is ended too.
    """
    project = Project.load(directory)
    if project is None:
        return []
    containers = Containers(project.name)
    try:
        states = containers.states()
        for service in states:
            containers.archive_log(service, directory)
    finally:
        containers.close()
    project.down()
    return [service for service, state in states.items() if state.is_alive]
