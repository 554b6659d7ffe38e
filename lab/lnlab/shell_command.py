"""`lnlab shell`: a shell inside a container, or one that knows the lab."""

import os
import shutil
from pathlib import Path

from lnlab.lab import absolute
from lnlab.nodes import record
from lnlab.nodes.compose_containers import Containers
from lnlab.nodes.compose_project import ComposeError, project_name
from lnlab.nodes.record import NoLabError

IN_CONTAINER = "command -v bash >/dev/null && exec bash || exec sh"


def shell(directory: Path, service: str | None) -> None:
    """Become a shell in the container of ``service``, or one with the lab's ``env`` file read.

    Raises NoLabError without a lab, ComposeError for a service that has no running container.
    """
    path = absolute(directory)
    nodes = record.load(path)
    if service is None:
        environment = path / "env"
        if not environment.exists():
            raise NoLabError(f"{path} has no env file: this lab was not started by `lnlab up`")
        script = '. "$0" && exec "${SHELL:-sh}"'
        os.execvp("sh", ["sh", "-c", script, str(environment)])
    if nodes.kind != "compose":
        raise ComposeError(
            f"the nodes of this lab are {nodes.kind}: only containers have a shell of their own. "
            "`lnlab shell` without a service opens one for the lab"
        )
    name = running_container(path, service)
    docker = shutil.which("docker")
    if docker is None:
        raise ComposeError("not found on PATH: docker")
    terminal = ["-it"] if os.isatty(0) else ["-i"]
    os.execv(docker, [docker, "exec", *terminal, name, "sh", "-c", IN_CONTAINER])


def running_container(directory: Path, service: str) -> str:
    """Return the name of the service's running container. Raises ComposeError."""
    containers = Containers(project_name(directory))
    try:
        states = containers.states()
    finally:
        containers.close()
    running = {name: state.name for name, state in states.items() if state.status == "running"}
    if service not in running:
        have = ", ".join(running) or "none"
        raise ComposeError(f"no container of {service} is running; there are: {have}")
    return running[service]
