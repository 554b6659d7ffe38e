"""``DIR/nodes.json``: where a running lab's nodes listen, and which processes they are."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FILE_NAME = "nodes.json"
STOPPED_NAME = "stopped.json"
"""The record of a lab that was ended and can go on: its data is in the same directory."""
FORMAT = 1

POLICY_ASSET = "ceb851388a62039c49710566bc8b0b229eaa8a92bafbca512d8f7fd363b9e75c"
"""L-BTC on ``liquid-regtest``, the only chain name that Core Lightning accepts there."""


class NoLabError(Exception):
    """The directory holds no lab, or one that this program cannot read."""


@dataclass(frozen=True)
class NodeProcess:
    """One process of the lab.

    ``started`` is the kernel's start time of ``pid`` (clock ticks since boot, 0 if unknown), which
    tells the process from a later one with the same number. ``command`` starts it again.
    """

    name: str
    pid: int
    started: int
    log: str
    command: list[str]


@dataclass(frozen=True)
class NodesRecord:
    """Endpoints and processes. All addresses are on loopback; ``lightning`` maps name to socket.

    ``kind`` is ``embedded``, ``process`` or ``compose``; containers are not among ``processes``.
    """

    kind: str
    rpc_url: str
    rpc_user: str
    rpc_password: str
    electrum_url: str
    lightning: dict[str, str]
    processes: list[NodeProcess] = field(default_factory=list)
    network: str = "liquid-regtest"
    policy_asset: str = POLICY_ASSET
    proxied: dict[str, str] = field(default_factory=dict)
    """Endpoints behind proxies that misbehave on demand, by proxy; empty when none run."""

    def pid_of(self, name: str) -> int:
        """Return the pid of the process called ``name``; LookupError if the lab has none such."""
        for process in self.processes:
            if process.name == name:
                return process.pid
        raise LookupError(f"this lab has no process {name!r}")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace ``path`` with ``data`` so that a reader sees the old file or the new, whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2) + "\n")
    temporary.chmod(0o600)
    temporary.replace(path)


def save(directory: Path, record: NodesRecord) -> None:
    """Write ``nodes.json`` atomically."""
    write_json(directory / FILE_NAME, {"format": FORMAT, **asdict(record)})


def load(directory: Path, name: str = FILE_NAME) -> NodesRecord:
    """Read ``nodes.json``. Raises NoLabError when there is none or it is of another format."""
    path = directory / name
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        if name == FILE_NAME and (directory / STOPPED_NAME).exists():
            raise NoLabError(
                f"the lab in {directory} is stopped: `lnlab up` goes on with it"
            ) from None
        raise NoLabError(f"no lab in {directory}: start one with `lnlab up`") from None
    except ValueError:
        raise NoLabError(f"{path} is damaged: remove it") from None
    if data.pop("format", None) != FORMAT:
        raise NoLabError(f"{path} was written by another version of lnlab: remove {directory}")
    data["processes"] = [NodeProcess(**process) for process in data["processes"]]
    return NodesRecord(**data)


def remove(directory: Path) -> None:
    """Remove ``nodes.json``, and the sockets that a real lightningd leaves when it ends."""
    (directory / FILE_NAME).unlink(missing_ok=True)
    for socket_path in directory.glob("*/lightning-rpc"):
        socket_path.unlink(missing_ok=True)


def set_aside(directory: Path) -> None:
    """Make ``nodes.json``, if it is there, the record of a lab that was ended and can go on."""
    with contextlib.suppress(FileNotFoundError):
        (directory / FILE_NAME).replace(directory / STOPPED_NAME)


def stopped_ports(directory: Path) -> dict[str, int]:
    """Return the ports that the lab which was ended here had: ``rpc`` and ``electrum``."""
    try:
        nodes = load(directory, STOPPED_NAME)
    except NoLabError:
        return {}
    found = {"rpc": urlsplit(nodes.rpc_url).port, "electrum": urlsplit(nodes.electrum_url).port}
    return {name: port for name, port in found.items() if port}


def stopped_kind(directory: Path) -> str | None:
    """Return the kind of nodes of the lab that was ended here and can go on; None without one."""
    try:
        return load(directory, STOPPED_NAME).kind
    except NoLabError:
        return None
