"""Whatever a chain went through, it ends where one that only saw the active blocks would be."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnlab.nodes.embedded.chain import Chain, Coin, Rejected
from lnlab.nodes.embedded.ledger import Ledger
from lnlab.nodes.embedded.txmodel import electrum_scripthash, parse_tx

from .chainkit import OP_TRUE, REPLACEABLE, Kit, p2wsh

SCRIPTS = [p2wsh(OP_TRUE), *(p2wsh(bytes([0x51 + number])) for number in range(1, 4))]
WITNESSES = {p2wsh(bytes([0x51 + number])): bytes([0x51 + number]) for number in range(4)}
NAMES = [electrum_scripthash(script) for script in (*SCRIPTS, OP_TRUE)]

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1 << 30)),
        st.tuples(st.just("generate"), st.integers(1, 3)),
        st.tuples(st.just("invalidate"), st.integers(0, 11)),
        st.tuples(st.just("reconsider"), st.integers(0, 1 << 30)),
        st.tuples(st.just("drop"), st.integers(0, 1 << 30)),
    ),
    min_size=5,
    max_size=40,
)


class Story:
    """Carries out actions on a chain and remembers the coins and blocks it has seen."""

    def __init__(self) -> None:
        self.kit = Kit(coin_count=12)
        self.chain = self.kit.chain
        self.coins = [self.kit.coin() for _ in range(12)]
        self.blocks: list[str] = []
        self.base_height = self.chain.tip_height

    def act(self, action: str, number: int) -> None:
        """Do one thing; what is refused is refused."""
        if action == "send":
            self._send(random.Random(number))
        elif action == "generate":
            self.blocks += self.chain.generate(number)
        elif action == "invalidate":
            height = self.chain.tip_height - number
            if height > self.base_height:
                self.chain.invalidate(self.chain.block_hash(height))
        elif action == "reconsider" and self.blocks:
            self.chain.reconsider(self.blocks[number % len(self.blocks)])
        elif action == "drop" and self.chain.mempool_txids():
            txids = self.chain.mempool_txids()
            self.chain.drop_mempool(txids[number % len(txids)])

    def _send(self, choice: random.Random) -> None:
        spent = choice.sample(self.coins[-8:] + self.coins[:4], choice.choice([1, 1, 2]))
        if len({(coin.txid, coin.vout) for coin in spent}) < len(spent):
            return
        fee_sats = choice.choice([500, 5000])
        rest_sats = sum(coin.value for coin in spent) - fee_sats
        if rest_sats < 1000:
            return
        outs = [
            (self.kit.asset, rest_sats // 2, choice.choice(SCRIPTS)),
            (self.kit.asset, rest_sats - rest_sats // 2, choice.choice(SCRIPTS)),
        ]
        if len({coin.script_pubkey for coin in spent}) > 1:
            return  # the kit puts one witness on all inputs
        raw = self.kit.tx(
            spent,
            outs,
            fee_sats=fee_sats,
            sequence=choice.choice([REPLACEABLE, 0xFFFFFFFE]),
            lock_time=choice.choice([0, self.chain.tip_height]),
            witness=[WITNESSES[spent[0].script_pubkey]],
        )
        try:
            self.coins += self.kit.send(raw)
        except Rejected:
            return


def replayed(chain: Chain) -> Ledger:
    """A ledger that saw the active blocks once, in order."""
    ledger = Ledger()
    for height in range(chain.tip_height + 1):
        txs = [parse_tx(chain.raw_tx(t)[0]) for t in chain.block_txids(chain.block_hash(height))]
        if height == 0:  # its issuing transaction spends an outpoint that never was
            txs = [replace(tx, inputs=()) for tx in txs]
        ledger.connect(txs, height)
    return ledger


def expected_mempool_view(chain: Chain, name: str) -> tuple[set[str], set[tuple[str, int]]]:
    """Unconfirmed txids touching a script and outpoints they spend, from the raw bytes alone."""
    txids: set[str] = set()
    spent: set[tuple[str, int]] = set()
    for txid in chain.mempool_txids():
        tx = parse_tx(chain.raw_tx(txid)[0])
        spent |= {txin.outpoint for txin in tx.inputs}
        coins: list[Coin | None] = list(tx.coins(None))
        for txin in tx.inputs:
            source = parse_tx(chain.raw_tx(txin.outpoint[0])[0])
            coins.append(source.coin(txin.outpoint[1], None))
        if any(coin and electrum_scripthash(coin.script_pubkey) == name for coin in coins):
            txids.add(txid)
    return txids, spent


@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_indices_equal_a_fresh_replay(actions: list[tuple[str, int]]) -> None:
    """After any actions, histories, coins and spenders follow from blocks and mempool alone."""
    story = Story()
    for action, number in actions:
        story.act(action, number)
    chain, ledger = story.chain, replayed(story.chain)
    for name in NAMES:
        assert chain.ledger.history(name) == ledger.history(name)
        assert chain.ledger.unspent(name) == ledger.unspent(name)
        txids, spent = expected_mempool_view(chain, name)
        assert {item.txid for item in chain.history(name) if item.height <= 0} - {
            chain.block_txids(chain.block_hash(0))[1]
        } == txids
        assert not {(coin.txid, coin.vout) for coin in chain.unspent(name)} & spent
    for coin in story.coins:
        outpoint = (coin.txid, coin.vout)
        assert chain.ledger.spender(outpoint) == ledger.spender(outpoint)


@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_mempool_stays_valid_and_linked(actions: list[tuple[str, int]]) -> None:
    """After any actions, a fresh node would take the whole mempool, and its links are true."""
    story = Story()
    for action, number in actions:
        story.act(action, number)
    chain = story.chain
    raws = {txid: chain.raw_tx(txid)[0] for txid in chain.mempool_txids()}
    for txid in raws:
        entry = chain.mempool_entry(txid)
        inputs = {txin.outpoint[0] for txin in entry.tx.inputs}
        assert entry.parents == inputs & raws.keys()
        assert {other for other in raws if txid in chain.mempool_entry(other).parents} == (
            entry.children
        )
    chain.mempool.remove(list(raws))
    assert chain.mempool.spenders == {}
    waiting = dict(raws)
    while waiting:
        taken = [txid for txid, raw in waiting.items() if chain.test_accept(raw).allowed]
        assert taken, {txid: chain.test_accept(raw) for txid, raw in waiting.items()}
        for txid in taken:
            chain.submit(waiting.pop(txid))


@pytest.mark.parametrize("seed", range(3))
def test_long_story(seed: int) -> None:
    """Three hundred actions in a row end in the state of a fresh replay too."""
    choice, story = random.Random(seed), Story()
    for _ in range(300):
        action = choice.choice(["send"] * 8 + ["generate", "invalidate", "reconsider"])
        number = choice.randrange(1, 4) if action != "send" else choice.randrange(1 << 30)
        story.act(action, number)
    ledger = replayed(story.chain)
    for name in NAMES:
        assert story.chain.ledger.history(name) == ledger.history(name)
        assert story.chain.ledger.unspent(name) == ledger.unspent(name)
