"""Blocks, reorganisations and queries of the embedded chain."""

import hashlib

import pytest

from lnlab.nodes.embedded.chain import Chain, ChainEvent, HistoryItem, Rejected
from lnlab.nodes.embedded.encode import encode_output
from lnlab.nodes.embedded.txmodel import electrum_scripthash, parse_tx

from .chainkit import COIN_SATS, OP_TRUE, OPEN_SCRIPT, START_SECS, Kit, ManualClock, p2wsh

HERE = p2wsh(b"\x01\x07")
THERE = p2wsh(b"\x01\x08")


@pytest.fixture
def kit() -> Kit:
    """A chain with coins to spend."""
    return Kit()


def txid_of(raw: bytes) -> str:
    """The txid of raw bytes."""
    return parse_tx(raw).txid


def test_genesis_is_elementsds() -> None:
    """Hash, asset and free coins are those of a real node with the same parameters."""
    chain = Chain(clock=ManualClock())
    assert chain.tip_hash == "068388eefc88ddf3713d840db3012167be93dc94b487b3806d73d8f269c98272"
    assert chain.policy_asset == "ceb851388a62039c49710566bc8b0b229eaa8a92bafbca512d8f7fd363b9e75c"
    free = chain.coins_with_script(OP_TRUE)
    assert [(coin.txid, coin.vout, coin.value, coin.height) for coin in free] == [
        (
            "caf0fed86733a4200079a204e94035ae8fd906490c4aab04d6226afe6b3419a3",
            0,
            2_100_000_000_000_000,
            0,
        )
    ]
    assert chain.raw_tx(free[0].txid)[1] == chain.tip_hash


def test_headers_link_and_hash(kit: Kit) -> None:
    """A header holds the hash before it and its height; its hash leaves out the solution."""
    for height in range(1, kit.chain.tip_height + 1):
        header = kit.chain.header(height)
        assert header[4:36][::-1].hex() == kit.chain.block_hash(height - 1)
        assert int.from_bytes(header[72:76], "little") == height
        digest = hashlib.sha256(hashlib.sha256(header[:-1]).digest()).digest()
        assert digest[::-1].hex() == kit.chain.block_hash(height)
        assert kit.chain.block_height(kit.chain.block_hash(height)) == height


def test_unknown_blocks_and_transactions_are_lookup_errors(kit: Kit) -> None:
    """What is not there raises LookupError, and is None where the answer may be nothing."""
    for height in (-1, kit.chain.tip_height + 1):
        with pytest.raises(LookupError):
            kit.chain.block_hash(height)
        with pytest.raises(LookupError):
            kit.chain.header(height)
    for call in (kit.chain.block_txids, kit.chain.raw_tx, kit.chain.invalidate):
        with pytest.raises(LookupError):
            call("00" * 32)
    assert kit.chain.block_height("00" * 32) is None
    assert kit.chain.coin("00" * 32, 0) is None
    assert kit.chain.spender("00" * 32, 0) is None
    assert kit.chain.history("00" * 32) == []
    with pytest.raises(ValueError, match="genesis"):
        kit.chain.invalidate(kit.chain.block_hash(0))


def test_block_takes_parents_first_and_pays_the_fees(kit: Kit) -> None:
    """A mined line keeps its order, and the coinbase gets the fees."""
    line = kit.pass_on(kit.coin(), 5, fee_sats=300)
    block = kit.chain.generate(1, HERE)[0]
    coinbase, *others = kit.chain.block_txids(block)
    assert others == [coin.txid for coin in line]
    reward = kit.chain.coin(coinbase, 0)
    assert reward is not None
    assert (reward.value, reward.script_pubkey) == (1500, HERE)


def test_full_block_prefers_fees_and_leaves_the_rest(kit: Kit) -> None:
    """Eleven transactions of nearly the standard size: the poorest waits for the next block."""
    cheap = b""
    for number in range(11):
        outs = [(kit.asset, 100, OPEN_SCRIPT)] * 1270
        fee_sats = 20_000 - 1000 * (number == 4)
        outs.append((kit.asset, COIN_SATS - 127_000 - fee_sats, OPEN_SCRIPT))
        raw = kit.tx([kit.coin()], outs, fee_sats=fee_sats)
        kit.send(raw)
        cheap = raw if number == 4 else cheap
    kit.chain.generate()
    left = kit.chain.mempool_txids()
    assert txid_of(cheap) in left
    assert 1 <= len(left) <= 2
    kit.chain.generate()
    assert kit.chain.mempool_txids() == []


def test_history_and_coins_of_a_script(kit: Kit) -> None:
    """Electrum's view: 0 unconfirmed, -1 on unconfirmed parents, then the height; no fees."""
    name = electrum_scripthash(HERE)
    amount = (kit.asset, 5000, HERE)
    change = (kit.asset, COIN_SATS - 6000, OPEN_SCRIPT)
    first = kit.tx([kit.coin()], [amount, change])
    outs = kit.send(first)
    second = kit.tx([outs[1]], [amount], fee_sats=COIN_SATS - 11_000)
    kit.send(second)
    assert kit.chain.history(name) == [
        HistoryItem(txid_of(first), 0),
        HistoryItem(txid_of(second), -1),
    ]
    assert [coin.height for coin in kit.chain.unspent(name)] == [None, None]
    assert kit.chain.coins_with_script(HERE) == []
    kit.chain.generate()
    height = kit.chain.tip_height
    assert [item.height for item in kit.chain.history(name)] == [height, height]
    assert {coin.txid for coin in kit.chain.coins_with_script(HERE)} == {
        txid_of(first),
        txid_of(second),
    }


def test_spent_in_mempool_is_gone_from_unspent_only(kit: Kit) -> None:
    """A coin that an unconfirmed transaction spends is still confirmed, and its spender known."""
    coin = kit.coin()
    outpoint = (coin.txid, coin.vout)
    spend = kit.tx([coin])
    kit.send(spend)
    assert kit.chain.coin(*outpoint) is None
    assert kit.chain.coin(*outpoint, include_mempool=False) == coin
    assert coin not in kit.chain.unspent(electrum_scripthash(OPEN_SCRIPT))
    assert coin in kit.chain.coins_with_script(OPEN_SCRIPT)
    assert kit.chain.spender(*outpoint) == txid_of(spend)
    kit.chain.generate()
    assert kit.chain.spender(*outpoint) == txid_of(spend)
    assert kit.chain.coin(*outpoint, include_mempool=False) is None


def test_invalidated_block_returns_its_transactions(kit: Kit) -> None:
    """Its transactions are unconfirmed again, and reconsidering confirms them in the same block."""
    line = kit.pass_on(kit.coin(), 3)
    block = kit.chain.generate()[0]
    height = kit.chain.tip_height
    kit.chain.invalidate(block)
    assert kit.chain.tip_height == height - 1
    assert kit.chain.block_height(block) is None
    assert kit.chain.mempool_txids() == [coin.txid for coin in line]
    assert kit.chain.raw_tx(line[0].txid)[1] is None
    kit.chain.reconsider(block)
    assert kit.chain.tip_hash == block
    assert kit.chain.mempool_txids() == []
    assert kit.chain.raw_tx(line[0].txid)[1] == block


def test_block_mined_again_differs(kit: Kit) -> None:
    """A block mined in place of an invalid one is another block even in the same second."""
    frozen = Chain(clock=lambda: START_SECS)
    block = frozen.generate()[0]
    frozen.invalidate(block)
    assert frozen.generate()[0] != block


def test_conflict_mined_after_reorg_evicts_the_loser(kit: Kit) -> None:
    """A rival confirmed in the other branch removes the returned one and what built on it."""
    coin = kit.coin()
    ours = kit.send(kit.tx([coin]))[0]
    block = kit.chain.generate()[0]
    kit.chain.invalidate(block)
    kit.send(kit.tx([ours]))
    kit.chain.drop_mempool(ours.txid)
    assert kit.chain.mempool_txids() == []
    rival = kit.send(kit.tx([coin], fee_sats=2000))[0]
    kit.chain.generate(2)
    kit.chain.reconsider(block)  # shorter: stays stale
    assert kit.chain.spender(coin.txid, coin.vout) == rival.txid
    assert kit.chain.mempool_txids() == []
    # It can still be read, as from the index of a real node, but from the stale block.
    assert kit.chain.raw_tx(ours.txid)[1] == block


def test_longer_branch_with_a_conflict_wins(kit: Kit) -> None:
    """Switching back drops what conflicts with the confirmed side, children included."""
    coin = kit.coin()
    ours = kit.send(kit.tx([coin]))[0]
    first = kit.chain.generate(2)[0]
    kit.chain.invalidate(first)
    kit.chain.drop_mempool(ours.txid)
    rival = kit.send(kit.tx([coin], fee_sats=2000))[0]
    kit.chain.generate()
    child = kit.send(kit.tx([rival]))[0]
    kit.chain.reconsider(first)
    assert kit.chain.spender(coin.txid, coin.vout) == ours.txid
    assert kit.chain.mempool_txids() == []
    stale = kit.chain.raw_tx(rival.txid)[1]
    assert stale is not None
    assert kit.chain.block_height(stale) is None
    with pytest.raises(LookupError):
        kit.chain.raw_tx(child.txid)


def test_of_equal_branches_the_first_seen_is_active(kit: Kit) -> None:
    """Reconsidering a block of the same height as the tip goes back to the older one."""
    first = kit.chain.generate()[0]
    kit.chain.invalidate(first)
    second = kit.chain.generate()[0]
    kit.chain.reconsider(first)
    assert kit.chain.tip_hash == first
    kit.chain.invalidate(first)
    assert kit.chain.tip_hash == second


def test_lock_time_no_longer_met_leaves_the_mempool(kit: Kit) -> None:
    """When the tip falls below a lock height, the refund and its children are forgotten."""
    kit.chain.generate(3)
    block = kit.chain.tip_hash
    locked = kit.send(kit.tx([kit.coin()], lock_time=kit.chain.tip_height))[0]
    kit.send(kit.tx([locked]))
    free = kit.send(kit.tx([kit.coin()]))[0]
    kit.chain.invalidate(block)
    assert kit.chain.mempool_txids() == [free.txid]


def test_deep_invalidation_forgets_the_deeper_transactions(kit: Kit) -> None:
    """As elementsd does, more than ten blocks at once bring back only the newest ten's."""
    deep = kit.send(kit.tx([kit.coin()]))[0]
    oldest = kit.chain.generate()[0]
    kit.chain.generate()
    shallow = kit.send(kit.tx([kit.coin()]))[0]
    kit.chain.generate(9)
    kit.chain.invalidate(oldest)
    assert kit.chain.mempool_txids() == [shallow.txid]
    assert kit.chain.raw_tx(deep.txid)[1] == oldest


def test_long_line_over_two_blocks_returns_up_to_the_limit(kit: Kit) -> None:
    """Of forty in a line, confirmed by two blocks, the first 25 come back to the mempool."""
    line = kit.pass_on(kit.coin(), 25)
    first = kit.chain.generate()[0]
    line += kit.pass_on(line[-1], 15)
    kit.chain.generate()
    kit.chain.invalidate(first)
    assert set(kit.chain.mempool_txids()) == {coin.txid for coin in line[:25]}


def test_events_name_the_touched_scripts(kit: Kit) -> None:
    """Each change is told once, with the scripts whose history or coins it changed."""
    events: list[ChainEvent] = []
    unsubscribe = kit.chain.subscribe(events.append)
    here, there = electrum_scripthash(HERE), electrum_scripthash(THERE)
    halves = [(kit.asset, 4000, HERE), (kit.asset, COIN_SATS - 5000, OPEN_SCRIPT)]
    parent = kit.send(kit.tx([kit.coin()], halves))
    kit.send(kit.tx([parent[1]], [(kit.asset, 1000, THERE)], fee_sats=COIN_SATS - 6000))
    block = kit.chain.generate()[0]
    kit.chain.invalidate(block)
    kit.chain.drop_mempool(parent[0].txid)
    kit.chain.reconsider(block)
    unsubscribe()
    kit.chain.generate()
    kinds = ["mempool", "mempool", "block", "reorg", "mempool", "reorg"]
    assert [event.kind for event in events] == kinds
    assert here in events[0].scripthashes
    assert there not in events[0].scripthashes
    assert there in events[1].scripthashes
    assert all({here, there} <= event.scripthashes for event in events[2:])


def test_confirming_a_parent_touches_its_childs_scripts(kit: Kit) -> None:
    """The child's height goes from -1 to 0, so its scripts are told although it did not move."""
    outs = kit.send(kit.tx([kit.coin()], change_count=2))
    block = kit.chain.generate()[0]
    pays_there = [(kit.asset, 1000, THERE)]
    child_fee = outs[0].value - 1000
    child = kit.tx([outs[0]], pays_there, fee_sats=child_fee)
    events: list[ChainEvent] = []
    kit.send(child)
    kit.chain.subscribe(events.append)
    there = electrum_scripthash(THERE)
    kit.chain.invalidate(block)
    assert kit.chain.history(there) == [HistoryItem(txid_of(child), -1)]
    assert there in events[-1].scripthashes
    kit.chain.reconsider(block)
    assert kit.chain.history(there) == [HistoryItem(txid_of(child), 0)]
    assert there in events[-1].scripthashes


def test_dropping_takes_descendants_along(kit: Kit) -> None:
    """The lab fault forgets a transaction with all that spend it; what it spent is free again."""
    coin = kit.coin()
    line = kit.pass_on(coin, 3)
    kit.chain.drop_mempool(line[0].txid)
    assert kit.chain.mempool_txids() == []
    assert kit.chain.coin(coin.txid, coin.vout) == coin
    with pytest.raises(LookupError):
        kit.chain.drop_mempool(line[0].txid)


def test_fee_rate_needs_a_few_busy_blocks(kit: Kit) -> None:
    """None while too few blocks held transactions, then a rate in BTC/kvB."""
    quiet = Chain(clock=ManualClock())
    quiet.generate(10)
    assert quiet.fee_rate() is None
    raw = kit.tx([kit.coin()])
    size = kit.chain.test_accept(raw).vsize
    assert size is not None
    for _ in range(3):
        kit.send(raw)
        kit.chain.generate()
        raw = kit.tx([kit.coin()])
    assert kit.chain.fee_rate() == pytest.approx(1000 * 1000 // size / 1e8)


def test_confirmed_outputs_that_cannot_be_spent_are_no_coins(kit: Kit) -> None:
    """Burnt and fee outputs of a transaction are not found by `coin`."""
    raw = kit.tx([kit.coin()], [(kit.asset, COIN_SATS - 1000, b"\x6a")])
    assert encode_output(kit.asset, 1000) in raw
    txid = kit.chain.submit(raw)
    assert [kit.chain.coin(txid, vout) for vout in (0, 1)] == [None, None]
    kit.chain.generate()
    assert [kit.chain.coin(txid, vout) for vout in (0, 1)] == [None, None]


def test_stale_spend_is_refused_after_the_coin_is_gone(kit: Kit) -> None:
    """A coin spent in the chain cannot be spent again: the reason is the broadcast's own."""
    coin = kit.coin()
    kit.send(kit.tx([coin]))
    kit.chain.generate()
    with pytest.raises(Rejected, match=r"^bad-txns-inputs-missingorspent$"):
        kit.chain.submit(kit.tx([coin], fee_sats=5000))
