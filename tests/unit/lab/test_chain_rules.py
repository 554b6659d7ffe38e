"""Mempool rules of the embedded chain that the recordings do not hold, or hold once."""

import pytest

from lnlab.nodes.embedded.chain import Coin, Rejected
from lnlab.nodes.embedded.encode import encode_input, encode_issuance, encode_output, encode_tx
from lnlab.nodes.embedded.policy import MAX_MONEY_SATS
from lnlab.nodes.embedded.txmodel import issued_assets, parse_tx

from .chainkit import COIN_SATS, OP_TRUE, OPEN_SCRIPT, REPLACEABLE, Kit

OP_RETURN = b"\x6a"
FINAL = 0xFFFFFFFF


@pytest.fixture
def kit() -> Kit:
    """A chain with coins to spend."""
    return Kit()


def test_undecodable_bytes_are_no_transaction(kit: Kit) -> None:
    """Truncated, trailing, or flagged bytes raise the error that elementsd's RPC gives."""
    raw = kit.tx([kit.coin()])
    for broken in (b"", raw[:-1], raw + b"\x00", raw[:4] + b"\x02" + raw[5:]):
        with pytest.raises(ValueError, match="TX decode failed"):
            kit.chain.test_accept(broken)
        with pytest.raises(ValueError, match="TX decode failed"):
            kit.chain.submit(broken)


def test_25_unconfirmed_in_a_line_and_no_more(kit: Kit) -> None:
    """The 25th of a line passes, the 26th does not, and passes once the line is mined."""
    line = kit.pass_on(kit.coin(), 25)
    child = kit.tx([line[-1]])
    assert kit.reason(child) == "too-long-mempool-chain"
    kit.chain.generate()
    assert kit.reason(child) is None


def test_25_relatives_of_a_parent_and_one_small_child_more(kit: Kit) -> None:
    """24 children fill a parent; one small single-parent child more is let in, and no other."""
    outs = kit.send(kit.tx([kit.coin()], change_count=30))
    for coin in outs[:24]:
        kit.send(kit.tx([coin]))
    assert (
        kit.reason(kit.tx(outs[24:25], change_count=150, fee_sats=5000)) == "too-long-mempool-chain"
    )
    kit.send(kit.tx(outs[24:25]))
    assert kit.reason(kit.tx(outs[25:26])) == "too-long-mempool-chain"


def fan(kit: Kit, coin: Coin, out_count: int, data_size: int = 1) -> bytes:
    """A spend of a coin to many tiny outputs, the rest of it last."""
    outs = [(kit.asset, 100, OPEN_SCRIPT)] * out_count
    outs.append((kit.asset, 0, OP_RETURN + b"\x4c" + bytes([data_size]) + bytes(data_size)))
    rest_sats = coin.value - 100 * out_count - 30_000
    return kit.tx([coin], [*outs, (kit.asset, rest_sats, OPEN_SCRIPT)], fee_sats=30_000)


def fan_of_size(kit: Kit, coin: Coin, vsize: int) -> bytes:
    """A fan of exactly that many virtual bytes."""
    most = (vsize - 200) // 78
    sized = (fan(kit, coin, most - less, data) for less in range(8) for data in range(1, 81))
    return next(raw for raw in sized if (parse_tx(raw).weight + 3) // 4 == vsize)


def test_101_kvb_in_a_line_and_no_more(kit: Kit) -> None:
    """A line may weigh 101,000 vB together, a byte more is refused."""
    coin = kit.coin()
    for _ in range(3):
        coin = kit.send(fan(kit, coin, 400))[-1]
    left = 101_000 - kit.chain.mempool.vsize_of(kit.chain.mempool_txids())
    assert kit.reason(fan_of_size(kit, coin, left)) is None
    assert kit.reason(fan_of_size(kit, coin, left + 1)) == "too-long-mempool-chain"


def test_101_kvb_of_descendants_and_a_small_one_more(kit: Kit) -> None:
    """A parent's family has the same limit; the carve-out lets a small child stretch it."""
    outs = kit.send(kit.tx([kit.coin()], change_count=5))
    for coin in outs[:2]:
        kit.send(fan(kit, coin, 400))
    left = 101_000 - kit.chain.mempool.vsize_of(kit.chain.mempool_txids())
    assert kit.reason(fan_of_size(kit, outs[2], left + 1)) == "too-long-mempool-chain"
    kit.send(fan_of_size(kit, outs[2], left))
    assert kit.reason(fan_of_size(kit, outs[3], 10_001)) == "too-long-mempool-chain"
    assert kit.reason(fan_of_size(kit, outs[3], 10_000)) is None


def test_height_lock_counts_to_the_next_block(kit: Kit) -> None:
    """A lock time equal to the tip's height is met, one more is not, final sequences ignore it."""
    coin, tip = kit.coin(), kit.chain.tip_height
    assert kit.reason(kit.tx([coin], lock_time=tip)) is None
    later = kit.tx([coin], lock_time=tip + 1)
    assert kit.reason(later) == "non-final"
    assert kit.reason(kit.tx([coin], lock_time=tip + 1, sequence=FINAL)) is None
    kit.chain.generate()
    assert kit.reason(later) is None


def test_time_lock_is_against_median_time(kit: Kit) -> None:
    """A lock by time is met once the median of eleven block times has passed it."""
    coin = kit.coin()
    median = kit.chain.median_time(kit.chain.tip_height)
    assert kit.reason(kit.tx([coin], lock_time=median - 1)) is None
    assert kit.reason(kit.tx([coin], lock_time=median)) == "non-final"


def test_relative_locks_by_blocks_and_time(kit: Kit) -> None:
    """BIP68 counts from the coin's block, from the next one for unconfirmed coins."""
    kit.chain.generate()  # coins have two confirmations: the next block is the third
    coin = kit.coin()
    assert kit.reason(kit.tx([coin], sequence=2)) is None
    assert kit.reason(kit.tx([coin], sequence=3)) == "non-BIP68-final"
    assert kit.reason(kit.tx([coin], sequence=3, version=1)) is None
    assert kit.reason(kit.tx([coin], sequence=1 << 22)) is None
    assert kit.reason(kit.tx([coin], sequence=1 << 22 | 1000)) == "non-BIP68-final"
    assert kit.reason(kit.tx([coin], sequence=1 << 31 | 1000)) is None
    unconfirmed = kit.send(kit.tx([coin]))[0]
    assert kit.reason(kit.tx([unconfirmed], sequence=0)) is None
    assert kit.reason(kit.tx([unconfirmed], sequence=1)) == "non-BIP68-final"


def test_all_assets_together_stay_under_21_million(kit: Kit) -> None:
    """Explicit outputs add up over all assets; at the limit they pass this rule, above not."""
    coin, other = kit.coin(), "11" * 32
    most = MAX_MONEY_SATS - 1000
    at_limit = kit.tx([coin], [(other, most, OPEN_SCRIPT)])
    above = kit.tx([coin], [(other, most, OPEN_SCRIPT), (kit.asset, 1, OPEN_SCRIPT)])
    assert kit.reason(at_limit) == "bad-txns-in-ne-out"
    assert kit.reason(above) == "bad-txns-txouttotal-toolarge"


def test_issuance_creates_its_assets_and_no_more(kit: Kit) -> None:
    """The issued amounts of asset and token can be paid out, exactly, and spent later."""
    coin = kit.coin()
    issuance = encode_issuance(5000, 7, b"\x01" * 32)
    txin = parse_tx(kit.tx([coin], issuance=issuance)).inputs[0]
    assert txin.issuance is not None
    asset, token = issued_assets(txin.outpoint, txin.issuance)
    rest = (kit.asset, COIN_SATS - 1000, OPEN_SCRIPT)

    def issue(asset_amount: int, token_amount: int) -> bytes:
        paid = [(asset, asset_amount, OPEN_SCRIPT), (token, token_amount, OPEN_SCRIPT), rest]
        return kit.tx([coin], paid, issuance=issuance)

    for amounts in ((5001, 7), (4999, 7), (5000, 8)):
        assert kit.reason(issue(*amounts)) == "bad-txns-in-ne-out"
    coins = kit.send(issue(5000, 7))
    assert {made.asset: made.value for made in coins} == {
        asset: 5000,
        token: 7,
        kit.asset: COIN_SATS - 1000,
    }
    burn = [(asset, 5000, OP_RETURN), (kit.asset, COIN_SATS - 2000, OPEN_SCRIPT)]
    assert kit.reason(kit.tx([coins[0], coins[2]], burn)) is None


def test_issuance_needs_a_witness(kit: Kit) -> None:
    """As in Elements, a transaction with no witness at all cannot issue."""
    bare = max(kit.chain.coins_with_script(OP_TRUE), key=lambda coin: coin.value)
    issuing = encode_input((bare.txid, bare.vout), issuance=encode_issuance(5, None, bytes(32)))
    change = encode_output(kit.asset, bare.value - 1000, OP_TRUE)
    raw = encode_tx([issuing], [change, encode_output(kit.asset, 1000)])
    assert kit.reason(raw) == "bad-txns-in-ne-out"


def test_confidential_output_is_refused_with_our_own_reason(kit: Kit) -> None:
    """A blinded amount is not judged wrongly: the refusal names the embedded chain's limit."""
    raw = kit.tx([kit.coin()])
    explicit = b"\x01" + (COIN_SATS - 1000).to_bytes(8, "big") + b"\x00"
    assert raw.count(explicit) == 1
    blinded = raw.replace(explicit, b"\x08" + bytes(32) + b"\x00")
    assert kit.reason(blinded) == "lab-confidential"


def test_replacement_pays_the_increment_and_evicts_descendants(kit: Kit) -> None:
    """A replacement adds 100 sat/kvB of its own size to all fees it removes."""
    coin = kit.coin()
    child = kit.send(kit.tx([coin], fee_sats=1000))
    kit.send(kit.tx(child, fee_sats=5000))
    size = kit.chain.test_accept(kit.tx([coin], fee_sats=9000, lock_time=1)).vsize
    assert size is not None
    increment_sats = -(-size // 10)
    short = kit.tx([coin], fee_sats=6000 + increment_sats - 1, lock_time=1)
    enough = kit.tx([coin], fee_sats=6000 + increment_sats, lock_time=1)
    assert kit.reason(short) == "insufficient fee"
    kit.send(enough)
    assert kit.chain.mempool_txids() == [parse_tx(enough).txid]


def test_replacement_rules(kit: Kit) -> None:
    """No replacing without the signal, with new unconfirmed inputs, or of what one spends."""
    silent, loud = kit.coin(), kit.coin()
    kit.send(kit.tx([silent], sequence=REPLACEABLE + 1))
    unconfirmed = kit.send(kit.tx([kit.coin()]))[0]
    child = kit.send(kit.tx([loud]))[0]
    rich = {"fee_sats": 100_000}
    assert kit.reason(kit.tx([silent], **rich)) == "txn-mempool-conflict"  # type: ignore[arg-type]
    adding = kit.tx([loud, unconfirmed], fee_sats=100_000)
    assert kit.reason(adding) == "replacement-adds-unconfirmed"
    own = kit.tx([loud, child], fee_sats=100_000)
    assert kit.reason(own) == "bad-txns-spends-conflicting-tx"


def test_no_more_than_100_are_replaced(kit: Kit) -> None:
    """A replacement that would remove over a hundred transactions is refused."""
    coins = [kit.coin() for _ in range(5)]
    for coin in coins:
        outs = kit.send(kit.tx([coin], change_count=25))
        for out in outs[:20]:
            kit.send(kit.tx([out]))
    assert kit.reason(kit.tx(coins[:4], fee_sats=300_000)) is None
    assert kit.reason(kit.tx(coins, fee_sats=300_000)) == "too many potential replacements"


def test_fresh_coinbase_is_immature(kit: Kit) -> None:
    """Fees paid to a miner can be spent in the hundredth block after, not before."""
    kit.send(kit.tx([kit.coin()], fee_sats=50_000))
    kit.chain.generate(1, OPEN_SCRIPT)
    coinbase = kit.chain.block_txids(kit.chain.tip_hash)[0]
    reward = kit.chain.coin(coinbase, 0)
    assert reward is not None
    assert (reward.value, reward.coinbase) == (50_000, True)
    kit.chain.generate(98)
    assert kit.reason(kit.tx([reward])) == "bad-txns-premature-spend-of-coinbase"
    kit.chain.generate()
    assert kit.reason(kit.tx([reward])) is None


def test_submit_of_what_is_known(kit: Kit) -> None:
    """Sending again succeeds silently while unconfirmed; confirmed, it is named so."""
    raw = kit.tx([kit.coin()])
    txid = kit.chain.submit(raw)
    assert kit.chain.submit(raw) == txid
    assert kit.reason(raw) == "txn-already-in-mempool"
    kit.chain.generate()
    with pytest.raises(Rejected) as refusal:
        kit.chain.submit(raw)
    assert refusal.value.reason == "Transaction already in block chain"
    assert kit.reason(raw) == "txn-already-known"


def test_refusal_carries_the_detail(kit: Kit) -> None:
    """`submit` refuses with reason and detail, and leaves nothing behind."""
    with pytest.raises(Rejected, match=r"^min relay fee not met, 17 < 18$") as refusal:
        kit.chain.submit(kit.tx([kit.coin()], fee_sats=17))
    assert refusal.value.code == "min relay fee not met"
    assert kit.chain.mempool_txids() == []
