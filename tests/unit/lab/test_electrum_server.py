"""The embedded Electrum server, asked over TCP by aiorpcX and by hand."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiorpcx import JSONRPCConnection, JSONRPCLoose, RPCError, RPCSession, connect_rs

from lnlab.nodes.embedded.chain import Chain, HistoryItem
from lnlab.nodes.embedded.electrum import ElectrumServer
from lnlab.nodes.embedded.electrum_calls import HISTORY_LIMIT, merkle_branch
from lnlab.nodes.embedded.rpc_methods import NodeMethods
from lnlab.nodes.record import POLICY_ASSET
from lnlab.wait import wait_for

from .conftest import ServedChain, script_of, scripthash_of

SCRIPT = script_of(1)
SCRIPTHASH = scripthash_of(SCRIPT)


class Client(RPCSession):  # type: ignore[misc]  # aiorpcX ships no types
    """An aiorpcX client that takes string errors and keeps notifications."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, connection=JSONRPCConnection(JSONRPCLoose), **kwargs)
        self.notifications: list[tuple[str, list[Any]]] = []

    async def handle_request(self, request: Any) -> None:
        """Keep what the server tells."""
        self.notifications.append((request.method, request.args))


@pytest.fixture
async def client(served: ServedChain) -> AsyncIterator[Client]:
    """A connected client of the served chain."""
    async with connect_rs("127.0.0.1", served.electrum_port, session_factory=Client) as session:
        yield session


@asynccontextmanager
async def raw_connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain TCP connection to the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def ask(port: int, line: str) -> Any:
    """Send one line and return the decoded line that answers it."""
    async with raw_connection(port) as (reader, writer):
        writer.write(line.encode() + b"\n")
        return json.loads(await asyncio.wait_for(reader.readline(), 5))


async def test_version_and_ping(client: Client) -> None:
    """The server speaks protocol 1.4 and answers a ping with null."""
    assert (await client.send_request("server.version", ["test", "1.4"]))[1] == "1.4"
    assert await client.send_request("server.ping") is None


async def test_history_moves_from_mempool_to_block(served: ServedChain, client: Client) -> None:
    """A payment shows with height 0, then with its block's height; its coin likewise."""
    txid = await served.pay(SCRIPT, 5000)
    history = await client.send_request("blockchain.scripthash.get_history", [SCRIPTHASH])
    assert [(item["tx_hash"], item["height"]) for item in history] == [(txid, 0)]
    served.chain.generate()
    height = served.chain.tip_height
    history = await client.send_request("blockchain.scripthash.get_history", [SCRIPTHASH])
    assert history == [{"tx_hash": txid, "height": height}]
    (coin,) = await client.send_request("blockchain.scripthash.listunspent", [SCRIPTHASH])
    assert (coin["tx_hash"], coin["tx_pos"], coin["height"]) == (txid, 0, height)
    assert coin["asset"] == [1, POLICY_ASSET]


async def test_coin_amount_is_printed_as_electrs_does(served: ServedChain, client: Client) -> None:
    """777 sat are printed as a real mempool/electrs 3.1.0 printed them: bytes swapped."""
    await served.pay(SCRIPT, 777)
    (coin,) = await client.send_request("blockchain.scripthash.listunspent", [SCRIPTHASH])
    assert (coin["value"], coin["nonce"]) == ([1, 649362771271483392], [0])


async def test_status_is_that_of_the_protocol(served: ServedChain, client: Client) -> None:
    """An unused script has status null, a used one sha256 over txid:height: in order."""
    assert await client.send_request("blockchain.scripthash.subscribe", [SCRIPTHASH]) is None
    first = await served.pay(SCRIPT)
    served.chain.generate()
    second = await served.pay(SCRIPT)
    text = f"{first}:{served.chain.tip_height}:{second}:0:"
    expected = hashlib.sha256(text.encode()).hexdigest()
    status = await client.send_request("blockchain.scripthash.subscribe", [SCRIPTHASH])
    assert status == expected


async def test_subscriptions_tell_changes(served: ServedChain, client: Client) -> None:
    """A subscriber is told a new header, and a new status of its script but not of others."""
    await client.send_request("blockchain.headers.subscribe")
    await client.send_request("blockchain.scripthash.subscribe", [SCRIPTHASH])
    await served.pay(script_of(2))
    await served.pay(SCRIPT)
    await wait_for(lambda: len(client.notifications) == 1, message="status of the payment")
    method, (told, status) = client.notifications[0]
    assert (method, told) == ("blockchain.scripthash.subscribe", SCRIPTHASH)
    served.chain.generate()
    await wait_for(lambda: len(client.notifications) == 3, message="header and status")
    kinds = dict(client.notifications[1:])
    header = kinds["blockchain.headers.subscribe"][0]
    assert header["height"] == served.chain.tip_height
    assert header["hex"] == served.chain.header(served.chain.tip_height).hex()
    assert kinds["blockchain.scripthash.subscribe"][1] != status


async def test_reorg_is_told(served: ServedChain, client: Client) -> None:
    """After a block is invalidated the status is that of the unconfirmed payment again."""
    await served.pay(SCRIPT)
    before = await client.send_request("blockchain.scripthash.subscribe", [SCRIPTHASH])
    (block,) = served.chain.generate()
    await wait_for(lambda: len(client.notifications) == 1, message="confirmation")
    served.chain.invalidate(block)
    await wait_for(lambda: len(client.notifications) == 2, message="reorg")
    assert client.notifications[1][1] == [SCRIPTHASH, before]


async def test_broadcast_and_get(served: ServedChain, client: Client) -> None:
    """A transaction taken from one place can be read, and sending it again gives its txid."""
    txid = await served.pay(SCRIPT)
    raw = await client.send_request("blockchain.transaction.get", [txid])
    assert raw == served.chain.raw_tx(txid)[0].hex()
    assert await client.send_request("blockchain.transaction.broadcast", [raw]) == txid


async def test_broadcast_refusal_carries_the_node_s_answer(
    served: ServedChain, client: Client
) -> None:
    """A refused broadcast is a string that holds elementsd's code and reason."""
    txid = await served.pay(SCRIPT)
    raw = served.chain.raw_tx(txid)[0].hex()
    served.chain.generate()
    with pytest.raises(RPCError) as refusal:
        await client.send_request("blockchain.transaction.broadcast", [raw])
    assert refusal.value.message == (
        'sendrawtransaction RPC error: {"code":-27,"message":"Transaction already in block chain"}'
    )


async def test_array_is_answered_by_one_array(served: ServedChain, client: Client) -> None:
    """A batch comes back as one batch; its failed member does not spoil the others."""
    async with client.send_batch() as batch:
        batch.add_request("blockchain.block.header", [1])
        batch.add_request("blockchain.block.header", [99])
        batch.add_request("blockchain.relayfee")
    header, failure, fee = batch.results
    assert header == served.chain.header(1).hex()
    assert (failure.message, fee) == ("missing header", 0.000001)


async def test_array_order_is_kept_on_the_wire(served: ServedChain) -> None:
    """The members of an answer stand in the order of the requests, in a single line."""
    requests = [{"id": number, "method": "server.ping"} for number in (3, 1, 2)]
    answer = await ask(served.electrum_port, json.dumps(requests))
    assert [member["id"] for member in answer] == [3, 1, 2]


@pytest.mark.parametrize(
    ("request_json", "expected"),
    [
        ('{"id":1,"method":"blockchain.scripthash.get_history","params":["x"]}', "bad script_hash"),
        ('{"id":1,"method":"blockchain.scripthash.get_history"}', "bad script_hash"),
        (
            '{"id":1,"method":"blockchain.transaction.get","params":["%s"]}' % ("0" * 64),
            "missing transaction",
        ),
        (
            '{"id":1,"method":"blockchain.transaction.get","params":["%s",true]}' % ("0" * 64),
            "verbose transactions are currently unsupported",
        ),
        ('{"id":1,"method":"blockchain.block.header","params":["a"]}', "non-integer height"),
        ('{"id":1,"method":"blockchain.transaction.broadcast"}', "missing tx"),
    ],
)
async def test_failed_call_has_a_string_error(
    served: ServedChain, request_json: str, expected: str
) -> None:
    """The error of a known call is a plain string, as electrs sends it."""
    answer = await ask(served.electrum_port, request_json)
    assert answer == {"jsonrpc": "2.0", "id": 1, "error": expected}


@pytest.mark.parametrize(
    "method",
    [
        "blockchain.scripthash.get_balance",
        "blockchain.scripthash.get_mempool",
        "blockchain.scripthash.unsubscribe",
        "server.features",
        "nosuch",
    ],
)
async def test_unknown_method_has_an_error_object(served: ServedChain, method: str) -> None:
    """What electrs does not have is answered with an error object, code 1."""
    answer = await ask(served.electrum_port, f'{{"id":1,"method":"{method}","params":[]}}')
    assert answer["error"]["code"] == 1
    assert f"unknown method {method}" in answer["error"]["message"]


@pytest.mark.parametrize(
    "line", ["nonsense", '{"method":"server.ping"}', '{"id":1,"method":"server.ping","params":{}}']
)
async def test_invalid_request_is_told(served: ServedChain, line: str) -> None:
    """No JSON, no id, or named parameters: an invalid request, code -32600."""
    answer = await ask(served.electrum_port, line)
    assert answer["error"]["code"] == -32600
    assert answer["id"] is None


async def test_merkle_branch_leads_to_the_header_s_root(
    served: ServedChain, client: Client
) -> None:
    """Hashing a txid up its branch gives the Merkle root in the block header."""
    txids = [await served.pay(script_of(number)) for number in range(4)]
    served.chain.generate()
    height = served.chain.tip_height
    root = served.chain.header(height)[36:68]
    for txid in txids:
        proof = await client.send_request("blockchain.transaction.get_merkle", [txid, height])
        node, position = bytes.fromhex(txid)[::-1], proof["pos"]
        for sibling_hex in proof["merkle"]:
            sibling = bytes.fromhex(sibling_hex)[::-1]
            pair = sibling + node if position % 2 else node + sibling
            node = hashlib.sha256(hashlib.sha256(pair).digest()).digest()
            position //= 2
        assert node == root


def test_merkle_branch_of_a_lone_transaction_is_empty() -> None:
    """A block with one transaction needs no siblings."""
    assert merkle_branch(["ab" * 32], 0) == []


class LongHistoryChain(Chain):
    """A chain whose ``busy`` script has as much history as ``entries`` says."""

    busy = scripthash_of(script_of(7))
    entries = HISTORY_LIMIT

    def history(self, scripthash: str) -> list[HistoryItem]:
        """Give the busy script its entries."""
        if scripthash != self.busy:
            return super().history(scripthash)
        return [HistoryItem("00" * 32, height) for height in range(1, self.entries + 1)]


async def test_long_history_is_refused_and_closes_subscribers() -> None:
    """500 entries can be read, 501 cannot, and a subscriber of such a script is cut off."""
    chain = LongHistoryChain()
    server = ElectrumServer(chain, NodeMethods(chain, lambda: None))
    port = await server.start()
    request = {"id": 1, "method": "blockchain.scripthash.get_history", "params": [chain.busy]}
    subscribe = {**request, "method": "blockchain.scripthash.subscribe"}
    assert len((await ask(port, json.dumps(request)))["result"]) == HISTORY_LIMIT
    async with raw_connection(port) as (reader, writer):
        writer.write(json.dumps(subscribe).encode() + b"\n")
        await reader.readline()
        chain.entries = HISTORY_LIMIT + 1
        answer = await ask(port, json.dumps(request))
        assert answer["error"].startswith("Too many history transactions (>500)")
        server.on_change(frozenset([chain.busy]))
        assert await asyncio.wait_for(reader.read(), 5) == b""
    await server.close()


async def test_server_closes_with_clients_connected(served: ServedChain) -> None:
    """Closing the server ends connections that are open and takes no more."""
    server = ElectrumServer(served.chain, NodeMethods(served.chain, lambda: None))
    port = await server.start()
    async with raw_connection(port) as (reader, _):
        await ask(port, '{"id":1,"method":"server.ping"}')
        await server.close()
        assert await asyncio.wait_for(reader.read(), 5) == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
