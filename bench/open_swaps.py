"""A seller with many unfinished swaps in mixed states, over the lab's embedded chain.

Everything came about as it would have: requests, batches, blocks, claims with the buyer's
signature, refunds by the watcher. What is in the mempool at the end stays there, because blocks are
mined without it.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.world import ASSET, BUYER_KEY, World, world
from lnlab.nodes.embedded import chain as embedded
from lnliquid.domain import htlc
from lnliquid.domain.swap import Outpoint, State, Swap
from lnliquid.domain.terms import FEE_FLOOR_SATS_PER_KVB
from lnliquid.liquid import tx_builder
from lnliquid.liquid.coin_selection import MustWait, htlc_script
from lnliquid.liquid.networks import REGTEST
from lnliquid.watchers.observe import REORG_BLOCKS

LANES = 4
REFUND_DELTA_BLOCKS = 400
FEW = 0.05
"""Share of each state but FUNDED, which has the rest."""
FEE_COIN_SATS = 200
NEVER = 1_000


@dataclass
class Crowd:
    """The seller, and which of its swaps are in which state. `parked` are txids not to be mined."""

    seller: World
    refunded: list[str]
    claimed: list[str]
    half_claimed: list[str]
    created: list[str]
    parked: set[str] = field(default_factory=set)

    @property
    def open_swaps(self) -> int:
        """Number of unfinished swaps."""
        return len(self.seller.watcher.swaps)

    def states(self) -> Counter[State]:
        """Unfinished swaps by state."""
        return Counter(swap.state for swap in self.seller.watcher.swaps.values())

    def waiting_for_payment(self) -> list[Swap]:
        """FUNDED swaps with an invoice, oldest first."""
        swaps = self.seller.watcher.swaps.values()
        return [s for s in swaps if s.state is State.FUNDED and s.bolt11 is not None]

    def mine(self, blocks: int = 1) -> None:
        """Blocks of all that is not parked."""
        for _ in range(blocks):
            pool = self.seller.chain.mempool_txids()
            self.seller.chain.generate(only=[txid for txid in pool if txid not in self.parked])

    def claim(self, swaps: Iterable[Swap], *, whole: bool = True) -> list[str]:
        """The buyers' claims go to the mempool; returns their txids.

        Without `whole` only the asset is taken, with another wallet's coin for the fee.
        """
        return [self._claim(swap, whole) for swap in swaps]

    def _claim(self, swap: Swap, whole: bool) -> str:
        assert swap.asset_outpoint is not None
        assert swap.subsidy_outpoint is not None
        assert swap.refund_lock_height is not None
        script = htlc_script(swap, swap.refund_lock_height)
        preimage = self.seller.keys.preimage(swap.key_index, swap.swap_id)
        asset = tx_builder.claim_spend(
            swap.asset_outpoint, swap.asset_amount, BUYER_KEY, script, preimage
        )
        if whole:
            spends, lbtc_sats = (
                [
                    asset,
                    tx_builder.claim_spend(
                        swap.subsidy_outpoint, swap.subsidy_sats, BUYER_KEY, script, preimage
                    ),
                ],
                swap.subsidy_sats,
            )
        else:
            coin = fee_coin(self.seller, swap.key_index)
            spends, lbtc_sats = (
                [asset, tx_builder.wallet_spend(coin, FEE_COIN_SATS, BUYER_KEY)],
                FEE_COIN_SATS,
            )
        signed = tx_builder.claim(
            spends=spends,
            asset_id=ASSET,
            asset_amount=swap.asset_amount,
            subsidy_sats=lbtc_sats,
            script_pubkey=htlc.p2wpkh_script(BUYER_KEY.key_hash),
            policy_asset=REGTEST.policy_asset,
            rate_sats_per_kvb=FEE_FLOOR_SATS_PER_KVB,
        )
        return self.seller.chain.submit(signed.raw)


def fee_coin(seller: World, number: int) -> Outpoint:
    """A small L-BTC coin of the buyer's, out of nothing."""
    outpoint = Outpoint(number.to_bytes(4, "big").hex() + "fe" * 28, 0)
    script = htlc.p2wpkh_script(BUYER_KEY.key_hash)
    seller.chain.ledger.add(
        [embedded.Coin(outpoint.txid, 0, REGTEST.policy_asset, FEE_COIN_SATS, script, 1)]
    )
    return outpoint


@asynccontextmanager
async def crowd(folder: Path, swaps: int) -> AsyncIterator[Crowd]:
    """So many unfinished swaps: 80 % FUNDED and unpaid, and 5 % each of these.

    CREATED with the funding in the mempool; CLAIMED in the mempool; CLAIMED and buried with the
    subsidy not yet spent; REFUNDED in the mempool.
    """
    few = int(swaps * FEW)
    async with world(
        folder,
        lanes=LANES,
        refund_delta_blocks=REFUND_DELTA_BLOCKS,
        bump_after_blocks=NEVER,
        stall_after_secs=864_000,
    ) as seller:
        made = Crowd(seller, [], [], [], [])
        numbers = iter(range(swaps))

        async def sell(count: int) -> list[str]:
            before = set(seller.watcher.swaps)
            await seller.create([next(numbers) for _ in range(count)])
            while True:
                try:
                    while await seller.funder.fund_waiting():
                        pass
                    break
                except MustWait:
                    made.mine()
                    await rounds(seller)
            return [swap_id for swap_id in await watched(seller) if swap_id not in before]

        made.refunded = await sell(few)
        made.mine()
        await rounds(seller)
        made.mine(REFUND_DELTA_BLOCKS // 2)
        await rounds(seller)  # deletes their invoices, so that all are refunded at once then
        made.mine(REFUND_DELTA_BLOCKS // 2)
        await rounds(seller)
        made.parked.update(seller.chain.mempool_txids())
        paying = await sell(swaps - 2 * few)
        made.mine()
        await rounds(seller)
        made.half_claimed, made.claimed = paying[:few], paying[few : 2 * few]
        made.claim([seller.watcher.swaps[i] for i in made.half_claimed], whole=False)
        made.mine()
        await rounds(seller)
        made.parked.update(made.claim([seller.watcher.swaps[i] for i in made.claimed]))
        made.mine(REORG_BLOCKS)
        await rounds(seller)
        made.created = await sell(few)
        made.parked.update(seller.chain.mempool_txids())
        await rounds(seller)
        wanted = Counter(
            {
                State.FUNDED: swaps - 4 * few,
                State.CREATED: few,
                State.CLAIMED: 2 * few,
                State.REFUNDED: few,
            }
        )
        if made.states() != wanted:
            raise AssertionError(f"the crowd should be {wanted} and is {made.states()}")
        yield made


async def watched(seller: World) -> list[str]:
    """Ids of all swaps with a funding, oldest first."""
    await rounds(seller)
    return list(seller.watcher.swaps)


async def rounds(seller: World) -> None:
    """Watch until nothing is left to do."""
    while True:
        seller.notices.watcher.clear()
        await seller.watcher.round(reload_all=False)
        if not seller.notices.watcher.is_set():
            return
