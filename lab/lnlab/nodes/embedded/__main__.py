"""The embedded nodes' process: ``python -m lnlab.nodes.embedded --dir DIR``.

Starts chain, RPC, Electrum server and two Lightning nodes with a channel, then writes
``DIR/nodes.json``. SIGTERM, SIGINT and the RPC ``stop`` end it with exit code 0.
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from lnlab.nodes import record
from lnlab.nodes.children import start_time
from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.electrum import ElectrumServer
from lnlab.nodes.embedded.lab_methods import lab_methods
from lnlab.nodes.embedded.lightning import LightningNetwork
from lnlab.nodes.embedded.rpc import NodeRpcServer
from lnlab.nodes.record import NodeProcess, NodesRecord

PROCESS_NAME = "nodes"
RPC_USER = "lnlab"
CHANNEL_SATS = 1_000_000_000
PUSH_SATS = CHANNEL_SATS // 2
FAILED_PAYMENT_LINGERS_SECS = 0.04
"""Measured on v26.06.6: 25 to 90 ms."""

log = logging.getLogger("lnlab.nodes.embedded")


async def serve(directory: Path) -> None:
    """Run the nodes in ``directory`` until asked to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    password = secrets.token_hex(16)
    chain = Chain()
    async with AsyncExitStack() as running:
        rpc = NodeRpcServer(chain, user=RPC_USER, password=password, on_stop=stop.set)
        rpc_port = await rpc.start()
        running.push_async_callback(rpc.close)
        electrum = ElectrumServer(chain, rpc.node)
        electrum_port = await electrum.start()
        running.push_async_callback(electrum.close)
        network = LightningNetwork(
            block_height=lambda: chain.tip_height, linger_secs=FAILED_PAYMENT_LINGERS_SECS
        )
        sockets = {name: directory / name / "lightning-rpc" for name in ("seller", "buyer")}
        for name, path in sockets.items():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            network.add_node(name, path)
        network.open_channel("buyer", "seller", CHANNEL_SATS, PUSH_SATS)
        await network.start()
        running.push_async_callback(network.stop)
        rpc.node.methods |= lab_methods(chain, network)
        pid = os.getpid()
        process = NodeProcess(
            name=PROCESS_NAME,
            pid=pid,
            started=start_time(pid),
            log=str(directory / f"{PROCESS_NAME}.log"),
            command=[sys.executable, "-m", "lnlab.nodes.embedded", "--dir", str(directory)],
        )
        nodes = NodesRecord(
            kind="embedded",
            rpc_url=f"http://127.0.0.1:{rpc_port}/",
            rpc_user=RPC_USER,
            rpc_password=password,
            electrum_url=f"tcp://127.0.0.1:{electrum_port}",
            lightning={name: str(path) for name, path in sockets.items()},
            processes=[process],
        )
        record.save(directory, nodes)
        log.info("ready: rpc %s, electrum %s", nodes.rpc_url, nodes.electrum_url)
        await stop.wait()
        log.info("stopping")


def main() -> int:
    """Run the process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lnlab.nodes.embedded", description=__doc__)
    parser.add_argument("--dir", required=True, type=Path, help="directory of the lab")
    directory: Path = parser.parse_args().dir
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(serve(directory.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
