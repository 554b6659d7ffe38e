"""Reorgs: what elementsd and the Electrum server make of blocks that are taken back."""

from .cases import case
from .money import FINAL, OPEN_COIN_SATS, change_of, script_of, scripthash_of, spend, txid_of
from .world import World

HISTORY = "blockchain.scripthash.get_history"
LISTUNSPENT = "blockchain.scripthash.listunspent"
GET = "blockchain.transaction.get"


@case
async def confirmed_elsewhere(w: World) -> None:
    """What a block held goes to the mempool and confirms in another block."""
    script, coin = script_of(201), await w.money.coin()
    key = scripthash_of(script)
    parent = spend([coin])
    change = change_of(parent, [coin])
    child = spend([change], [(change.value - 1_000, script)])
    for raw in (parent, child):
        await w.lab.rpc.call("sendrawtransaction", raw.hex())
    (block,) = await w.lab.mine()
    await w.until_history(key, 1, 0)
    await w.electrum("confirmed", HISTORY, key)
    await w.lab.invalidate(block)
    await w.elementsd("the mempool has both, parent first", "getrawmempool")
    await w.elementsd("the block is none of the chain's", "getblockheader", block)
    await w.elementsd("the coin is there again", "gettxout", coin.txid, coin.vout, False)
    await w.elementsd("the child can be read", "getrawtransaction", txid_of(child))
    await w.lab.mine(2)
    await w.until_history(key, 1, 0)
    await w.electrum("confirmed again", HISTORY, key)
    await w.electrum("coins", LISTUNSPENT, key)


@case
async def left_unconfirmed(w: World) -> None:
    """What the new blocks leave out stays in the mempool, and so does what spends it."""
    script, coin = script_of(202), await w.money.coin()
    key = scripthash_of(script)
    raw = spend([coin], [(OPEN_COIN_SATS - 1_000, script)])
    await w.lab.rpc.call("sendrawtransaction", raw.hex())
    (block,) = await w.lab.mine()
    await w.until_history(key, 1, 0)
    await w.lab.invalidate(block)
    await w.lab.mine(3, without=[txid_of(raw)])
    await w.until_history(key, 1, 1)
    await w.electrum("history", HISTORY, key)
    await w.electrum("coins", LISTUNSPENT, key)
    await w.electrum("transaction", GET, txid_of(raw))
    await w.elementsd("send it again", "sendrawtransaction", raw.hex())
    await w.lab.mine()
    await w.until_history(key, 1, 0)
    await w.electrum("history in the end", HISTORY, key)


@case
async def double_spent(w: World) -> None:
    """A transaction whose coin went elsewhere in the new blocks is gone, and so is its child."""
    mine, theirs, coin = script_of(203), script_of(204), await w.money.coin()
    first = spend([coin], [(OPEN_COIN_SATS - 1_000, mine)], sequence=FINAL)
    other = spend([coin], [(OPEN_COIN_SATS - 9_000, theirs)], fee_sats=9_000)
    await w.lab.rpc.call("sendrawtransaction", other.hex())
    (block,) = await w.lab.mine()
    await w.until_history(scripthash_of(theirs), 1, 0)
    await w.elementsd("the first is refused", "sendrawtransaction", first.hex())
    await w.lab.invalidate(block)
    await w.elementsd("beside the replaceable one, too cheap", "testmempoolaccept", [first.hex()])
    dear = spend([coin], [(OPEN_COIN_SATS - 20_000, mine)], fee_sats=20_000)
    await w.elementsd("dear enough", "sendrawtransaction", dear.hex())
    await w.lab.mine(2)
    await w.until_history(scripthash_of(mine), 1, 0)
    await w.electrum("history of the winner", HISTORY, scripthash_of(mine))
    await w.electrum("history of the loser", HISTORY, scripthash_of(theirs))
    await w.electrum("coins of the loser", LISTUNSPENT, scripthash_of(theirs))
    await w.electrum("the loser", GET, txid_of(other))
    await w.elementsd("the loser again", "sendrawtransaction", other.hex())
    await w.elementsd("the loser, asked for", "getrawtransaction", txid_of(other))


@case
async def not_final_any_more(w: World) -> None:
    """A transaction with a lock time leaves the mempool when the chain is too low for it."""
    coin = await w.money.coin()
    raw = spend([coin], lock_time=w.start_height + 2)
    await w.elementsd("too early", "testmempoolaccept", [raw.hex()])
    _, block = await w.lab.mine(2)
    await w.elementsd("in time", "sendrawtransaction", raw.hex())
    await w.lab.invalidate(block)
    await w.elementsd("the mempool a block lower", "getrawmempool")
    await w.elementsd("the verdict a block lower", "testmempoolaccept", [raw.hex()])
    await w.lab.mine(2)
    await w.elementsd("the verdict two blocks later", "testmempoolaccept", [raw.hex()])


@case
async def deep(w: World) -> None:
    """Three blocks with a payment each are replaced; histories follow in the new order."""
    script = script_of(205)
    key = scripthash_of(script)
    hashes = []
    for _ in range(3):
        coin = await w.money.coin()
        raw = spend([coin], [(5_000, script), (OPEN_COIN_SATS - 6_000, script_of(999))])
        await w.lab.rpc.call("sendrawtransaction", raw.hex())
        hashes += await w.lab.mine()
    await w.until_history(key, 3, 0)
    await w.electrum("three blocks", HISTORY, key)
    await w.lab.invalidate(hashes[0])
    await w.lab.mine(4)
    await w.until_history(key, 3, 0)

    wire = await w.wire()
    items = (await wire.ask(HISTORY, [key]))["result"]
    w.note("electrum", "heights after the reorg", [{"height": item["height"]} for item in items])
