"""A lab's containers through the Docker SDK: what they are doing, and doing something to them.

Services have the names of ``deploy/compose/compose.yaml``. All calls block for some milliseconds;
those that wait for a container to end are marked.
"""

import contextlib
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnlab.nodes.children import NodeDiedError
from lnlab.nodes.compose_project import ComposeError

DEFAULT_HOST = "unix:///var/run/docker.sock"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
SELLER = "lnliquid"
"""The service of the seller daemon, which is no node: it may be dead on purpose."""
STOP_GRACE_SECS = 20
LAST_LINES = 15
EARLIER = ".earlier"
"""Ends the names of files with the logs of containers that were removed."""


@dataclass(frozen=True)
class State:
    """A container's state, in the engine's words."""

    container_id: str
    name: str
    status: str
    """``created``, ``running``, ``paused``, ``restarting``, ``exited``, ``dead``."""
    health: str
    """``starting``, ``healthy``, ``unhealthy``; empty without a healthcheck."""

    @property
    def is_alive(self) -> bool:
        """True while its process exists; a paused one does."""
        return self.status in ("running", "paused")


def engine() -> Any:
    """Return a client of the Docker engine; close it. Raises ComposeError when none answers."""
    import docker  # takes as long to load as half of lnlab, which mostly does without it
    from docker.errors import DockerException

    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if host.startswith("unix://"):
        # Asked here first, because the SDK leaves its socket open where nobody listens.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(host.removeprefix("unix://"))
            except OSError as error:
                raise ComposeError(f"no Docker engine answers: {host}: {error.strerror}") from None
    try:
        client = docker.from_env(timeout=60)
    except DockerException as error:
        raise ComposeError(f"no Docker engine answers: {error}") from None
    try:
        client.ping()
    except DockerException as error:
        client.close()
        raise ComposeError(f"no Docker engine answers: {error}") from None
    return client


def missing_images(names: list[str]) -> list[str]:
    """Return those images that the engine does not have. Raises ComposeError without an engine."""
    client = engine()
    try:
        return [name for name in names if not _has_image(client, name)]
    finally:
        client.close()


def _has_image(client: Any, name: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


class Containers:
    """The containers of one project. ``close`` it; a later call opens the connection again."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.down_on_purpose: set[str] = set()
        """Services that may be dead: somebody wanted it so."""
        self._client: Any = None

    def close(self) -> None:
        """Close the connection to the engine."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def states(self) -> dict[str, State]:
        """Return the state of each container by service, stopped ones included."""
        listed = self._engine().api.containers(
            all=True, filters={"label": f"{PROJECT_LABEL}={self.project}"}
        )
        found = {}
        for one in listed:
            # The list has the health in a text only: "Up 3 seconds (healthy)".
            _, _, words = str(one["Status"]).partition("(")
            health = next((w for w in ("unhealthy", "healthy", "starting") if w in words), "")
            found[str(one["Labels"][SERVICE_LABEL])] = State(
                str(one["Id"]), str(one["Names"][0]).lstrip("/"), str(one["State"]), health
            )
        return found

    def check_alive(self) -> None:
        """Raise NodeDiedError, with its last log lines, when the container of a node has died."""
        for service, state in self.states().items():
            if not state.is_alive and service not in (SELLER, *self.down_on_purpose):
                raise NodeDiedError(
                    f"{service} (container {state.name}) is {state.status}; end of its log:\n"
                    + self.logs(service, LAST_LINES)
                )

    def troubled(self) -> str:
        """Describe the containers that are dead or not healthy, each with its last log lines."""
        return "\n".join(
            f"{service} is {state.status} {state.health}".rstrip()
            + f"; end of its log:\n{self.logs(service, LAST_LINES)}"
            for service, state in self.states().items()
            if not state.is_alive or state.health in ("starting", "unhealthy")
        )

    def logs(self, service: str, lines: int | None = None) -> str:
        """Return what the service wrote, or its last ``lines``; empty without a container."""
        container = self._find(service)
        if container is None:
            return ""
        text: bytes = container.logs(tail="all" if lines is None else lines)
        return text.decode(errors="replace")

    def save_log(self, service: str, directory: Path) -> Path:
        """Write the log of a service, with that of its earlier containers, to ``directory``.

        Returns the file, SERVICE.log.
        """
        path = directory / f"{service}.log"
        earlier = directory / f"{service}{EARLIER}"
        path.write_text((earlier.read_text() if earlier.exists() else "") + self.logs(service))
        return path

    def archive_log(self, service: str, directory: Path) -> None:
        """Save the log of a service whose container is about to be removed."""
        shutil.copyfile(self.save_log(service, directory), directory / f"{service}{EARLIER}")

    def host_pids(self, service: str) -> list[int]:
        """Return the ids of a running service's processes, as this host counts them."""
        listed = self._get(service).top(ps_args="-o pid")
        return [int(row[0]) for row in listed["Processes"]]

    def signal(self, service: str, name: str) -> None:
        """Send a signal, like ``SIGUSR1``, to the service's process if it runs."""
        from docker.errors import APIError

        container = self._find(service)
        if container is not None:
            with contextlib.suppress(APIError):  # paused, or ended just now
                container.kill(signal=name)

    def pause(self, service: str) -> None:
        """Freeze the service: its sockets stay open, nothing answers."""
        self._get(service).pause()

    def unpause(self, service: str) -> None:
        """Let a frozen service go on; nothing happens to one that is not."""
        container = self._find(service)
        if container is not None and container.status == "paused":
            container.unpause()

    def kill(self, service: str) -> None:
        """SIGKILL the service, as a power cut would, and wait until it is dead."""
        from docker.errors import APIError

        self.down_on_purpose.add(service)
        container = self._get(service)
        if container.status == "paused":
            container.unpause()
        with contextlib.suppress(APIError):  # it is dead already
            container.kill()
        container.wait(timeout=STOP_GRACE_SECS)

    def stop(self, service: str) -> None:
        """Ask the service to end, wait for that, kill it when it does not."""
        self.down_on_purpose.add(service)
        container = self._find(service)
        if container is not None:
            container.stop(timeout=STOP_GRACE_SECS)

    def start(self, service: str) -> None:
        """Start a dead service again, on the same files and ports."""
        self._get(service).start()
        self.down_on_purpose.discard(service)

    def cut_off(self, service: str) -> None:
        """Take the service off its network: it lives, and nobody reaches it, nor it anybody."""
        container = self._get(service)
        for network in self._networks(container):
            network.disconnect(container)

    def join(self, service: str) -> None:
        """Give a service that was cut off its network back; nothing happens to one that was not."""
        container = self._get(service)
        client = self._engine()
        for network in client.networks.list(filters={"label": f"{PROJECT_LABEL}={self.project}"}):
            if network.name not in container.attrs["NetworkSettings"]["Networks"]:
                network.connect(container, aliases=[service])

    def _networks(self, container: Any) -> list[Any]:
        names = container.attrs["NetworkSettings"]["Networks"]
        return [self._engine().networks.get(name) for name in names]

    def _engine(self) -> Any:
        if self._client is None:
            self._client = engine()
        return self._client

    def _find(self, service: str) -> Any:
        from docker.errors import NotFound

        state = self.states().get(service)
        if state is None:
            return None
        try:
            return self._engine().containers.get(state.container_id)
        except NotFound:
            return None

    def _get(self, service: str) -> Any:
        container = self._find(service)
        if container is None:
            raise ComposeError(f"the lab has no container of {service}")
        return container
