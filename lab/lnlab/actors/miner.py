"""The block timer: ``python -m lnlab.actors.miner --dir DIR --every SECS`` mines until stopped.

It is a child process of a lab with nodes of any kind. SIGTERM ends it with exit code 0; nodes that
do not answer end it with a message.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from lnlab.nodes import record
from lnlab.nodes.rpc import NodeRpc, NodeUnreachableError
from lnlab.nodes.seed import mine

log = logging.getLogger("lnlab.actors.miner")


async def mine_until(stop: asyncio.Event, rpc: NodeRpc, every_secs: float) -> None:
    """Mine a block every ``every_secs`` until ``stop`` is set."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_secs)
            return
        (block_hash,) = await mine(rpc)
        log.info("mined %s", block_hash)


async def serve(directory: Path, every_secs: float) -> None:
    """Mine on the lab in ``directory`` until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    nodes = record.load(directory)
    async with NodeRpc(nodes.rpc_url, nodes.rpc_user, nodes.rpc_password) as rpc:
        await mine_until(stop, rpc, every_secs)


def main() -> int:
    """Run the timer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lnlab.actors.miner", description=__doc__)
    parser.add_argument("--dir", required=True, type=Path, help="directory of the lab")
    parser.add_argument("--every", required=True, type=float, help="seconds between blocks")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(arguments.dir, arguments.every))
    except (record.NoLabError, NodeUnreachableError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
