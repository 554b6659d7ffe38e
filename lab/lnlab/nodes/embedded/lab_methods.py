"""Faults of the embedded nodes as RPC methods beside elementsd's; their names begin with ``lab_``.

They reach from outside what the embedded process can do and a real node cannot, or only in another
way (see ``lnlab.faults.control``).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.lightning import LightningNetwork
from lnlab.nodes.embedded.rpc_values import CallError, hash_argument, whole_argument
from lnlab.nodes.rpc import RpcCode


def lab_methods(chain: Chain, network: LightningNetwork) -> dict[str, Callable[..., Any]]:
    """The methods by name; what they do is said at the methods of chain and network."""

    def lab_fail_payments(count: object = 1) -> None:
        network.fail_next_payment(whole_argument(count))

    def lab_hang(node: object) -> None:
        network.hang(_node(node))

    def lab_wake(node: object) -> None:
        network.wake(_node(node))

    def lab_stop(node: object) -> None:
        network.nodes[_node(node)].stop_soon()

    starting: set[asyncio.Task[None]] = set()

    def lab_start(node: object) -> None:
        task = asyncio.get_running_loop().create_task(network.nodes[_node(node)].start())
        starting.add(task)
        task.add_done_callback(starting.discard)

    def _node(name: object) -> str:
        if name not in network.nodes:
            have = ", ".join(network.nodes)
            raise CallError(RpcCode.INVALID_PARAMETER, f"no node {name!r}; there are: {have}")
        return str(name)

    def lab_drop_transaction(txid: object) -> None:
        try:
            chain.drop_mempool(hash_argument(txid, "txid"))
        except LookupError as error:
            raise CallError(RpcCode.INVALID_ADDRESS_OR_KEY, str(error)) from None

    return {
        "lab_drop_transaction": lab_drop_transaction,
        "lab_fail_payments": lab_fail_payments,
        "lab_hang": lab_hang,
        "lab_held_payments": lambda: network.held_payments,
        "lab_hold_payments": network.hold_payments,
        "lab_release_payments": network.release_payments,
        "lab_start": lab_start,
        "lab_stop": lab_stop,
        "lab_wake": lab_wake,
    }
