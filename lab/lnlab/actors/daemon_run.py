"""Where the seller daemon runs: as a process on the host, or as a container of a compose lab.

Both run `lnliquid serve` on the same settings file and the same data, so that a daemon can move
from one to the other. ``SellerDaemon`` is their only user.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lnlab.lab import Lab
from lnlab.nodes import record
from lnlab.nodes.children import NodeDiedError, check_alive, end, is_alive, kill, log_tail, spawn
from lnlab.nodes.compose_containers import SELLER, Containers
from lnlab.nodes.compose_project import ComposeError, Project
from lnlab.nodes.record import NodeProcess

NAME = SELLER
ENVIRONMENT_FILE = "container.env"


class DaemonRun(Protocol):
    """A place where the daemon runs."""

    @property
    def log(self) -> Path:
        """Its log, up to date when it is asked for."""

    @property
    def where(self) -> str:
        """What runs, for people."""

    @property
    def pid(self) -> int | None:
        """Its process id on the host, None in a container."""

    def host_pids(self) -> list[int]:
        """Ids of its processes as this host counts them, in a container too; none when dead."""

    def is_running(self) -> bool:
        """True while it lives."""

    def check_alive(self) -> None:
        """Raise `NodeDiedError`, with its last log lines, when it is dead."""

    async def launch(
        self, env: Mapping[str, str], *, prefix: Sequence[str] = (), stderr: int | None = None
    ) -> None:
        """Start it with these variables besides its own.

        On the host it may be started by another command, `prefix`, and with another stderr.
        """

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait for that."""

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""


class ProcessRun:
    """The daemon as a child process."""

    def __init__(self, lab: Lab, config: Path) -> None:
        self._lab = lab
        self._config = config
        self._process = _recorded(lab)

    @property
    def log(self) -> Path:
        """Its log."""
        return self._lab.directory / f"{NAME}.log"

    @property
    def where(self) -> str:
        """What runs, for people."""
        return f"process {self.pid}"

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return None if self._process is None else self._process.pid

    def host_pids(self) -> list[int]:
        """Its process id, in a list."""
        return [] if self.pid is None else [self.pid]

    def is_running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and is_alive(self._process)

    def check_alive(self) -> None:
        """Raise `NodeDiedError`, with its last log lines, when the process is dead."""
        if self._process is not None:
            check_alive([self._process])

    async def launch(
        self, env: Mapping[str, str], *, prefix: Sequence[str] = (), stderr: int | None = None
    ) -> None:
        """Start the process."""
        serve = [sys.executable, "-m", "lnliquid", "serve", "--config", str(self._config)]
        variables = {**os.environ, **env}
        self._process = spawn(NAME, [*prefix, *serve], self.log, env=variables, stderr=stderr)
        # On disk only, for `lnlab down`: the nodes live on while the daemon is dead on purpose.
        # One that died by itself, or by somebody's hand, is replaced.
        nodes = record.load(self._lab.directory)
        others = [one for one in nodes.processes if one.name != NAME or is_alive(one)]
        record.save(self._lab.directory, replace(nodes, processes=[*others, self._process]))

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait for that."""
        if self._process is not None:
            await asyncio.to_thread(end, [self._process])
            self._forget(self._process)

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._process is not None:
            await asyncio.to_thread(kill, [self._process])
            self._forget(self._process)

    def _forget(self, process: NodeProcess) -> None:
        nodes = record.load(self._lab.directory)
        rest = [one for one in nodes.processes if one.pid != process.pid]
        record.save(self._lab.directory, replace(nodes, processes=rest))
        self._process = None


def _recorded(lab: Lab) -> NodeProcess | None:
    """The daemon that an earlier command started."""
    return next((one for one in lab.nodes.processes if one.name == NAME), None)


class ContainerRun:
    """The daemon as the service `lnliquid` of the lab's project.

    Its image comes from ``deploy/Dockerfile``; `docker compose` builds it when it is not there.
    """

    def __init__(self, lab: Lab) -> None:
        assert lab.containers is not None, "only a compose lab has containers"
        self._directory = lab.directory
        self._containers: Containers = lab.containers
        self._env: dict[str, str] | None = None

    @property
    def log(self) -> Path:
        """Its log, of earlier containers too, written to the lab's directory now."""
        return self._containers.save_log(SELLER, self._directory)

    @property
    def where(self) -> str:
        """What runs, for people."""
        state = self._containers.states().get(SELLER)
        return "no container" if state is None else f"container {state.name}"

    @property
    def pid(self) -> None:
        """None: a container is known by its name."""

    def host_pids(self) -> list[int]:
        """Ids of its processes as this host counts them: the daemon's and that of its init."""
        return self._containers.host_pids(SELLER)

    def is_running(self) -> bool:
        """True while the container lives."""
        state = self._containers.states().get(SELLER)
        return state is not None and state.is_alive

    def check_alive(self) -> None:
        """Raise `NodeDiedError`, with its last log lines, when the container is dead."""
        state = self._containers.states().get(SELLER)
        if state is not None and not state.is_alive:
            tail = log_tail(self.log)
            raise NodeDiedError(f"{state.name} is {state.status}; end of its log:\n{tail}")

    async def launch(
        self, env: Mapping[str, str], *, prefix: Sequence[str] = (), stderr: int | None = None
    ) -> None:
        """Start the container: again, or a new one if the variables are others."""
        if prefix or stderr is not None:
            raise ValueError("these are for a process on the host")
        if self._env == dict(env) and SELLER in self._containers.states():
            await asyncio.to_thread(self._containers.start, SELLER)
            return
        await asyncio.to_thread(self._containers.archive_log, SELLER, self._directory)
        path = self._directory / "daemon" / ENVIRONMENT_FILE
        path.write_text("".join(f"{name}={value}\n" for name, value in env.items()))
        project = Project.load(self._directory)
        if project is None:
            raise ComposeError(f"{self._directory} holds no compose lab")
        # The nodes are there already; some may be held still on purpose.
        await project.run("up", "--detach", "--no-deps", "--force-recreate", SELLER)
        self._env = dict(env)

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait for that."""
        await asyncio.to_thread(self._containers.stop, SELLER)

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        await asyncio.to_thread(self._containers.kill, SELLER)
