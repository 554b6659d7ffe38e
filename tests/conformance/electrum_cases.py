"""What an Electrum server answers and tells, for the calls of our client and their neighbours."""

import json

from lnlab.actors.faucet import Payment
from lnlab.nodes.record import POLICY_ASSET

from .cases import case
from .money import OPEN_COIN_SATS, OPEN_SCRIPT, change_of, script_of, scripthash_of, spend, txid_of
from .wire import ElectrumWire
from .world import World

HISTORY = "blockchain.scripthash.get_history"
LISTUNSPENT = "blockchain.scripthash.listunspent"
SUBSCRIBE = "blockchain.scripthash.subscribe"
GET = "blockchain.transaction.get"
BROADCAST = "blockchain.transaction.broadcast"
HEADERS = "blockchain.headers.subscribe"
UNKNOWN = "cd" * 32


async def pay(w: World, script: bytes, sats: int = 5_000) -> str:
    """Pay to a script from a coin of its own and return the txid; nothing is mined."""
    coin = await w.money.coin()
    raw = spend([coin], [(sats, script), (OPEN_COIN_SATS - 1_000 - sats, script_of(999))])
    return str(await w.lab.rpc.call("sendrawtransaction", raw.hex()))


@case
async def handshake(w: World) -> None:
    """Version, ping and fee figures."""
    wire = await w.wire()
    answer = await wire.ask("server.version", ["conformance", "1.4"])
    w.note("electrum", "protocol version", answer["result"][1])
    await w.electrum("ping", "server.ping")
    await w.electrum("donation address", "server.donation_address")
    await w.electrum("peers", "server.peers.subscribe")
    await w.electrum("relay fee", "blockchain.relayfee")


@case
async def headers(w: World) -> None:
    """The tip, headers by height, and heights that there are not."""
    await w.electrum("tip", HEADERS)
    await w.electrum("header", "blockchain.block.header", w.at(-1))
    await w.electrum("header above the tip", "blockchain.block.header", w.at(50))
    await w.electrum("header at no number", "blockchain.block.header", "one")
    await w.electrum("header without a height", "blockchain.block.header")
    await w.electrum("header at a negative height", "blockchain.block.header", -1)
    await w.electrum("two headers", "blockchain.block.headers", w.at(-1), 2)
    await w.electrum("headers past the tip", "blockchain.block.headers", w.at(0), 5)
    await w.electrum("no headers", "blockchain.block.headers", w.at(50), 5)


@case
async def unused_script(w: World) -> None:
    """A script that nobody used has an empty history, no coins and the status null."""
    key = scripthash_of(script_of(100))
    await w.electrum("history", HISTORY, key)
    await w.electrum("coins", LISTUNSPENT, key)
    await w.electrum("status", SUBSCRIBE, key)


@case
async def payment(w: World) -> None:
    """A payment is at height 0 until its block; history, coins and status follow."""
    script = script_of(101)
    key = scripthash_of(script)
    await pay(w, script)
    await w.until_history(key, 1, 1)
    await w.electrum("unconfirmed: history", HISTORY, key)
    await w.electrum("unconfirmed: coins", LISTUNSPENT, key)
    await w.electrum("unconfirmed: status", SUBSCRIBE, key)
    await w.lab.mine()
    await w.until_history(key, 1, 0)
    await w.electrum("confirmed: history", HISTORY, key)
    await w.electrum("confirmed: coins", LISTUNSPENT, key)
    await w.electrum("confirmed: status", SUBSCRIBE, key)


@case
async def unconfirmed_parent(w: World) -> None:
    """What spends an unconfirmed output is at height -1, and at 0 once its parent is in a block."""
    script, coin = script_of(102), await w.money.coin()
    key = scripthash_of(script)
    parent = spend([coin])
    change = change_of(parent, [coin])
    child = spend([change], [(change.value - 1_000, script)])
    for raw in (parent, child):
        await w.lab.rpc.call("sendrawtransaction", raw.hex())
    await w.until_history(key, 1, 1)
    await w.electrum("parent unconfirmed", HISTORY, key)
    await w.electrum("its status", SUBSCRIBE, key)
    await w.electrum("its coin", LISTUNSPENT, key)
    await w.lab.mine(without=[txid_of(child)])

    async def parent_is_known() -> bool:
        wire = await w.wire()
        (item,) = (await wire.ask(HISTORY, [key]))["result"]
        return bool(item["height"] == 0)

    await w.until(parent_is_known, "the child's parent is in a block")
    await w.electrum("parent confirmed", HISTORY, key)
    await w.electrum("its status then", SUBSCRIBE, key)


@case
async def order_of_history(w: World) -> None:
    """Blocks come in their order, transactions of one block in the block's, the mempool last."""
    script = script_of(103)
    key = scripthash_of(script)
    for _ in range(2):
        await pay(w, script)
        await w.lab.mine()
    # A chain within one block: its order there is not free.
    coin = await w.money.coin()
    for _ in range(3):
        raw = spend([coin], [(coin.value - 6_000, OPEN_SCRIPT), (5_000, script)])
        await w.lab.rpc.call("sendrawtransaction", raw.hex())
        coin = change_of(raw, [coin], fee_sats=6_000)
    await w.lab.mine()
    await pay(w, script)
    await w.until_history(key, 6, 1)
    await w.electrum("history", HISTORY, key)
    await w.electrum("status", SUBSCRIBE, key)


@case
async def spent_coin(w: World) -> None:
    """A spend counts from the mempool on: it is in the history and the coin is gone."""
    coin = await w.money.coin()
    raw = spend([coin])
    await w.lab.rpc.call("sendrawtransaction", raw.hex())
    own = change_of(raw, [coin])
    await w.lab.mine()
    await w.lab.rpc.call(
        "sendrawtransaction",
        spend([own], [(900_000, script_of(104))], fee_sats=98_000 + 1_000).hex(),
    )
    key = scripthash_of(script_of(104))
    await w.until_history(key, 1, 1)
    await w.electrum("spending script", HISTORY, key)
    await w.electrum("its coins", LISTUNSPENT, key)


@case
async def issued_asset(w: World) -> None:
    """A coin of an issued asset names it."""
    asset = await w.money.asset()
    # One script each: the coins of a script come in no order.
    scripts = {asset: script_of(105), POLICY_ASSET: script_of(115)}
    await w.lab.faucet.pay([Payment(script, name, 777) for name, script in scripts.items()])
    await w.lab.mine()
    for name, script in scripts.items():
        await w.until_history(scripthash_of(script), 1, 0)
        why = "L-BTC" if name == POLICY_ASSET else "the asset"
        await w.electrum(why, LISTUNSPENT, scripthash_of(script))


@case
async def get_transaction(w: World) -> None:
    """A transaction is the same bytes in mempool and block; an unknown one is an error."""
    script = script_of(106)
    txid = await pay(w, script)
    await w.until_history(scripthash_of(script), 1, 1)
    await w.electrum("unconfirmed", GET, txid)
    await w.lab.mine()
    await w.until_history(scripthash_of(script), 1, 0)
    await w.electrum("confirmed", GET, txid)
    await w.electrum("in capitals", GET, txid.upper())
    await w.electrum("unknown", GET, UNKNOWN)
    await w.electrum("not hex", GET, "zz")
    await w.electrum("too short", GET, "ab")
    await w.electrum("nothing", GET)
    await w.electrum("a number", GET, 7)
    await w.electrum("verbose", GET, txid, True)
    await w.electrum("verbose false", GET, txid, False)


@case
async def broadcast(w: World) -> None:
    """A taken transaction gives its txid, also again; a refused one elementsd's code and reason."""
    coin = await w.money.coin()
    raw = spend([coin], [(OPEN_COIN_SATS - 1_000, script_of(107))])
    await w.electrum("broadcast", BROADCAST, raw.hex())
    await w.electrum("again", BROADCAST, raw.hex())
    await w.electrum(
        "a conflict that pays too little", BROADCAST, spend([coin], fee_sats=1_001).hex()
    )
    await w.lab.mine()
    await w.electrum("again, confirmed", BROADCAST, raw.hex())
    await w.electrum("a spent coin", BROADCAST, spend([coin]).hex())
    fresh = await w.money.coin()
    await w.electrum("no fee", BROADCAST, spend([fresh], fee_sats=0).hex())
    await w.electrum("under the floor", BROADCAST, spend([fresh], fee_sats=17).hex())
    early = spend([fresh], lock_time=w.start_height + 100)
    await w.electrum("not final", BROADCAST, early.hex())
    await w.electrum("wrong witness", BROADCAST, spend([fresh], witness=(b"\x51",)).hex())
    await w.electrum("cut short", BROADCAST, raw.hex()[:-2])
    await w.electrum("not hex", BROADCAST, "zz")
    await w.electrum("a number", BROADCAST, 7)
    await w.electrum("nothing", BROADCAST)


@case
async def script_parameters(w: World) -> None:
    """Script hashes that are none."""
    for method in (HISTORY, LISTUNSPENT, SUBSCRIBE):
        await w.electrum("not hex", method, "zz")
        await w.electrum("too short", method, "ab" * 31)
        await w.electrum("nothing", method)
        await w.electrum("null", method, None)


@case
async def merkle(w: World) -> None:
    """The branch of a confirmed transaction, and the errors for others."""
    method = "blockchain.transaction.get_merkle"
    script = script_of(108)
    txid = await pay(w, script)
    await w.until_history(scripthash_of(script), 1, 1)
    await w.electrum("unconfirmed", method, txid, w.at(0))
    await w.lab.mine()
    await w.until_history(scripthash_of(script), 1, 0)
    height = (await w.lab.tip()).height - w.start_height
    await w.electrum("confirmed", method, txid, w.at(height))
    await w.electrum("another height", method, txid, w.at(height - 1))
    await w.electrum("unknown", method, UNKNOWN, w.at(height))
    position = "blockchain.transaction.id_from_pos"
    await w.electrum("first of the block", position, w.at(height), 1, False)
    await w.electrum("with its branch", position, w.at(height), 1, True)
    await w.electrum("beyond the block", position, w.at(height), 9, False)


@case
async def unknown_methods(w: World) -> None:
    """What Liquid's electrs does not have is refused by an object, not by a string."""
    for method in (
        "blockchain.scripthash.get_balance",
        "blockchain.scripthash.get_mempool",
        "blockchain.scripthash.unsubscribe",
        "server.features",
        "nosuch.method",
    ):
        await w.electrum(method, method, scripthash_of(script_of(100)))


@case
async def lines(w: World) -> None:
    """Arrays are answered by arrays; what is no request gets an error and no hanging up."""
    wire = await w.wire()
    requests = [
        {"id": 7, "method": "server.ping", "params": []},
        {"id": 8, "method": GET, "params": [UNKNOWN]},
        {"id": 9, "method": HISTORY, "params": [scripthash_of(script_of(100))]},
        {"id": 10, "method": "nosuch.method", "params": []},
    ]
    w.note("electrum", "an array", await wire.exchange(json.dumps(requests)))
    for why, line in (
        ("an empty array", "[]"),
        ("no method", '{"id": 11, "params": []}'),
        ("no parameters", '{"id": 12, "method": "server.ping"}'),
        ("parameters by name", '{"id": 13, "method": "server.ping", "params": {}}'),
        ("id of text", '{"id": "x", "method": "server.ping", "params": []}'),
        ("version 1.0", '{"jsonrpc": "1.0", "id": 14, "method": "server.ping", "params": []}'),
        ("no JSON", "hello"),
        ("no id", '{"method": "server.ping", "params": []}'),
    ):
        w.note("electrum", why, await _exchange(w, line))


async def _exchange(w: World, line: str) -> object:
    wire = await w.wire()
    try:
        return await wire.exchange(line)
    except ConnectionError:
        return "hung up"


async def _told(w: World, wire: ElectrumWire, key: str, status: object) -> object:
    """Wait until the last notice about a script has this status; returns the methods of all."""

    async def heard() -> bool:
        await wire.listen(0.1)
        notices = [n["params"][1] for n in wire.notifications if n["params"][0] == key]
        return bool(notices) and notices[-1] == status

    await w.until(heard, "the subscriber is told the script's status")
    return sorted({notice["method"] for notice in wire.notifications})


@case
async def notifications(w: World) -> None:
    """A subscriber hears of a payment, of its block, and of a reorg that takes the block back."""
    script = script_of(109)
    key = scripthash_of(script)
    wire = await w.wire()
    w.note("electrum", "status of a new script", (await wire.ask(SUBSCRIBE, [key]))["result"])
    await wire.ask(HEADERS, [])
    txid = await pay(w, script)
    await w.until_history(key, 1, 1)
    status = await w.electrum("unconfirmed", SUBSCRIBE, key)
    w.note("electrum", "told of the payment", await _told(w, wire, key, status))
    wire.notifications.clear()
    (block,) = await w.lab.mine()
    await w.until_history(key, 1, 0)
    status = await w.electrum("confirmed", SUBSCRIBE, key)
    w.note("electrum", "told of the block", await _told(w, wire, key, status))
    w.note("electrum", "the tip that was told", await _told_tip(w, wire))
    wire.notifications.clear()
    await w.lab.invalidate(block)
    await w.lab.mine(2, without=[txid])
    await w.until_history(key, 1, 1)
    status = await w.electrum("after the reorg", SUBSCRIBE, key)
    w.note("electrum", "told of the reorg", await _told(w, wire, key, status))
    w.note("electrum", "the tip that was told then", await _told_tip(w, wire))
    await w.electrum("history after the reorg", HISTORY, key)
    await w.electrum("coins after the reorg", LISTUNSPENT, key)


async def _told_tip(w: World, wire: ElectrumWire) -> object:
    """Wait until the last tip that was told is the node's; returns its height."""
    height = (await w.lab.tip()).height

    async def heard() -> bool:
        told = [n["params"][0]["height"] for n in wire.notifications if n["method"] == HEADERS]
        if told and told[-1] == height:
            return True
        await wire.listen(0.1)
        return False

    await w.until(heard, "the subscriber is told the tip")
    return {"height": height}
