"""Refunds in batches: elementsd accepts each, and together they take back everything."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lnlab.nodes.embedded.chain import Coin as ChainCoin
from lnliquid.config import Settings
from lnliquid.domain import htlc
from lnliquid.domain.swap import Swap
from lnliquid.domain.terms import MAX_AMOUNT
from lnliquid.domain.transaction import Transaction, parse_transaction
from lnliquid.store.database import Database
from lnliquid.watchers.observe import witness_script
from lnliquid.watchers.refund_gate import Passed

from ..builders import (
    ASSET,
    LOCK_HEIGHT,
    POLICY_ASSET,
    Judge,
    Spenders,
    StillClock,
    make_swap,
    migrated,
    outpoints,
    put_coins,
    settings_values,
    txid_of,
    wallet_coin,
)
from ..fakes import FakeChain


class JudgedChain(FakeChain):
    """Sends to the embedded chain, which must take it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = Judge(LOCK_HEIGHT)
        self.sent: list[Transaction] = []

    async def broadcast(self, raw: bytes) -> None:
        """Judge, note, and put it into the mempool."""
        assert self.judge.verdict(raw).reject_reason is None
        self.judge.chain.submit(raw)
        self.sent.append(parse_transaction(raw))

    def locked(self, number: int, amount: int) -> Swap:
        """A swap whose HTLC outputs are on the chain, in a transaction of their own."""
        swap = make_swap(
            number, asset_amount=amount, funding_txid=txid_of(number), asset_vout=0, subsidy_vout=1
        )
        script = htlc.output_script(witness_script(swap))
        held = ((ASSET, amount), (POLICY_ASSET, swap.subsidy_sats))
        self.judge.chain.ledger.add(
            [
                ChainCoin(txid_of(number), vout, asset, value, script, 10)
                for vout, (asset, value) in enumerate(held)
            ]
        )
        return swap


class World:
    """Refunds over a wallet of two coins of L-BTC."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(**settings_values(folder))
        self.database = Database(migrated(settings.database), StillClock())
        self.chain = JudgedChain()
        self.refunds = Spenders(self.database, self.chain, settings).refunds


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The larger coin is the one that refunds would be topped up from."""
    made = World(tmp_path)
    coins = [wallet_coin(501, 10**9), wallet_coin(502, 100_000)]
    made.chain.judge.give(coins)
    await made.database.write(lambda session: put_coins(session, coins))
    yield made
    made.database.close()


async def test_a_batch_stays_below_21_million_units(world: World) -> None:
    """Twelve swaps of a tenth of it each are refunded in several valid transactions."""
    swaps = [world.chain.locked(n, MAX_AMOUNT // 10) for n in range(12)]
    tip = await world.chain.tip()
    for _ in swaps:
        await world.refunds.refund([Passed(s, outpoints(s), tip) for s in swaps])
    refunded = {i.outpoint for sent in world.chain.sent for i in sent.inputs}
    assert refunded == {o for s in swaps for o in outpoints(s)}
    assert 1 < len(world.chain.sent) < len(swaps)


async def test_what_tops_a_refund_up_counts_too(world: World) -> None:
    """A swap of nearly all that fits, its subsidy taken: the fee comes from a coin that fits."""
    swap = world.chain.locked(0, MAX_AMOUNT - 200_000)
    await world.refunds.refund([Passed(swap, outpoints(swap)[:1], await world.chain.tip())])
    [sent] = world.chain.sent
    assert sent.inputs[-1].outpoint == wallet_coin(502, 100_000).outpoint
