"""Starts the embedded nodes' process and waits until it is ready."""

import sys
from pathlib import Path

from lnlab.actors.faucet import Faucet
from lnlab.nodes import record
from lnlab.nodes.children import check_alive, spawn
from lnlab.nodes.record import NodeProcess, NodesRecord
from lnlab.nodes.rpc import NodeRpc
from lnlab.nodes.seed import seed_chain
from lnlab.wait import wait_for

START_TIMEOUT_SECS = 30.0


async def launch(directory: Path, started: list[NodeProcess]) -> NodesRecord:
    """Start the nodes in ``directory`` and return where they listen; adds to ``started``.

    Raises NodeDiedError when the process ends early, WaitTimeoutError when it is not ready in time.
    """
    command = [sys.executable, "-m", "lnlab.nodes.embedded", "--dir", str(directory)]
    started.append(spawn("nodes", command, directory / "nodes.log"))
    await wait_for(
        (directory / record.FILE_NAME).exists,
        timeout_secs=START_TIMEOUT_SECS,
        message="embedded nodes are ready",
        check_alive=lambda: check_alive(started),
    )
    nodes = record.load(directory)
    async with NodeRpc(nodes.rpc_url, nodes.rpc_user, nodes.rpc_password) as rpc:
        await seed_chain(rpc, Faucet(rpc, directory))
    return nodes
