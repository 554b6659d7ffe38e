"""Swaps in a block, weight a swap, pairs a transaction: what batches over lanes bring.

Both sides are built by the service's wallet code and judged by the embedded chain.
"""

from pathlib import Path

from bench.figures import Figure
from bench.world import World, swaps_funded_by, world
from lnlab.nodes.embedded.chain import Rejected
from lnlab.nodes.embedded.txmodel import parse_tx
from lnliquid.domain.terms import MAX_SWAPS_PER_FUNDING
from lnliquid.liquid import coin_selection
from lnliquid.liquid.mempool_limits import Chains
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store

BURST = 1_000
LANES = 4
LOCK_HEIGHT = 2_000
CHAIN_IS_FULL = "too-long-mempool-chain"


async def measure(folder: Path) -> list[Figure]:
    """The three figures of one burst against swaps that are funded one by one."""
    async with world(folder / "batches", lanes=LANES) as batched:
        await batched.create(range(BURST))
        while await batched.funder.fund_waiting():
            pass
        block = pairs_and_weights(batched)
    async with world(folder / "single") as one_by_one:
        single = await fund_one_by_one(one_by_one)
    pairs, weight = max(block)
    return [
        Figure(
            "swaps funded in one block",
            "",
            sum(pairs for pairs, _ in block),
            sum(pairs for pairs, _ in single),
            "one transaction a swap, from one coin",
            20,
        ),
        Figure(
            "weight a swap in a full batch",
            "WU",
            weight / pairs,
            single[0][1],
            "a swap funded alone",
            0.33,
            at_most=True,
        ),
        Figure(
            "swaps in one transaction",
            "",
            pairs,
            MAX_SWAPS_PER_FUNDING,
            "what elementsd takes",
            1,
        ),
    ]


async def fund_one_by_one(seller: World) -> list[tuple[int, int]]:
    """Chain funding on funding, each of one swap, until the mempool takes no more; mine them.

    The planner is not told of the chain that it builds, so that the limit is the mempool's.
    """
    await seller.create(range(MAX_SWAPS_PER_FUNDING))
    waiting, coins = await seller.database.read(
        lambda tx: (swap_store.waiting(tx, BURST), coin_store.available_coins(tx))
    )
    for number, swap in enumerate(waiting):
        plan = coin_selection.FundingPlanner(
            coins,
            Chains(),
            keys=seller.keys,
            refund_lock_height=LOCK_HEIGHT,
            change_indexes=(2 * number, 2 * number + 1),
            rate_sats_per_kvb=seller.settings.fee_floor_sats_per_kvb,
        ).plan([swap])
        try:
            seller.chain.submit(plan.signed.raw)
        except Rejected as refusal:
            if refusal.code != CHAIN_IS_FULL:
                raise
            return pairs_and_weights(seller)
        coins = list(plan.change)
    raise AssertionError("the mempool took every transaction, and should not have")


def pairs_and_weights(seller: World) -> list[tuple[int, int]]:
    """Mine a block; for each funding in it the swaps that it funds and its weight."""
    [block] = seller.chain.generate()
    found = []
    for txid in seller.chain.block_txids(block)[1:]:
        transaction = parse_tx(seller.chain.raw_tx(txid)[0])
        found.append((swaps_funded_by(transaction), transaction.weight))
    return found
