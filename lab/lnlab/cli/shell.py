"""`lnlab shell`: a shell inside a container, or one that knows the lab."""

import os
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from lnlab.cli.base import DEFAULT_DIRECTORY, Directory
from lnlab.lab import absolute
from lnlab.nodes import record
from lnlab.nodes.compose_containers import Containers
from lnlab.nodes.compose_project import ComposeError, project_name
from lnlab.nodes.record import NodesRecord, NoLabError

RPC_PORT = 18884
"""Where elementsd listens in its container, see ``deploy/compose/compose.yaml``."""


def shell(
    service: Annotated[
        str | None, typer.Argument(help="Container; without it, a shell for the whole lab.")
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Open a shell in a container of the lab, or one with the lab's variables and programs.

    Example: `lnlab shell elementsd`
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
    options = ["-it"] if os.isatty(0) else ["-i"]
    for client, arguments in clients(nodes).get(service, {}).items():
        # A function as bash takes it from its environment, so that the client finds its server.
        function = f'() {{ command {client} {arguments} "$@"; }}'
        options += ["--env", f"BASH_FUNC_{client}%%={function}"]
    os.execv(docker, [docker, "exec", *options, name, "bash"])


def clients(nodes: NodesRecord) -> dict[str, dict[str, str]]:
    """Return, by service, its client program and the options with which that finds its server."""
    login = f"-rpcport={RPC_PORT} -rpcuser={nodes.rpc_user} -rpcpassword={nodes.rpc_password}"
    sockets = {
        f"lightningd-{name}": {"lightning-cli": f"--rpc-file={shlex.quote(path)}"}
        for name, path in nodes.lightning.items()
    }
    return {"elementsd": {"elements-cli": login}, **sockets}


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
