"""Several buyers: wallets of their own, programs of their own, one seller, all at the same time."""

import asyncio
import uuid

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnlab.scenarios.sale import Say, require
from lnlab.scenarios.steps import (
    CLAIMED,
    CREATED,
    FUNDED,
    available,
    look,
    require_path,
    require_spends,
    until_available,
    until_final,
)

BUYERS = 4
AMOUNT = 1_000
PRICE_CAP_MSAT = 10**12


async def several_buyers(daemon: SellerDaemon, say: Say) -> None:
    """Wallets that buy at once from processes of their own get what they paid for, each its own."""
    before = await available(daemon)
    crowd = uuid.uuid4().hex[:8]
    buyers = [Buyer(daemon, f"{crowd}-{number}") for number in range(BUYERS)]
    amounts = [AMOUNT * (number + 1) for number in range(BUYERS)]
    say(f"{BUYERS} wallets buy {', '.join(map(str, amounts))} at the same time")
    async with mining(daemon.lab):
        records = await asyncio.gather(
            *(
                buyer.buy(amount, max_price_msat=PRICE_CAP_MSAT)
                for buyer, amount in zip(buyers, amounts, strict=True)
            )
        )
    balances = await asyncio.gather(*(buyer.balance() for buyer in buyers))
    require(balances == amounts, f"the wallets hold {balances}, bought were {amounts}")
    say("each holds what it bought")
    swaps = [await _finished(daemon, str(record["swap"]["swap_id"])) for record in records]
    require(len({swap.swap_id for swap in swaps}) == BUYERS, "two buyers have the same swap")
    outputs = {(s.funding_txid, vout) for s in swaps for vout in (s.asset_vout, s.subsidy_vout)}
    require(len(outputs) == 2 * BUYERS, "two swaps have the same HTLC output")
    await until_available(daemon, before - sum(amounts))
    fundings = len({swap.funding_txid for swap in swaps})
    say(f"{BUYERS} swaps in {fundings} funding transactions, each claimed whole")
    daemon.check_log()


async def _finished(daemon: SellerDaemon, swap_id: str) -> pb.Swap:
    """The swap, once its claim is final; it must have gone the way of a sale."""
    await until_final(daemon, swap_id, CLAIMED)
    swap: pb.Swap = (await look(daemon, swap_id)).swap
    await require_path(daemon, swap_id, (CREATED, FUNDED, CLAIMED))
    await require_spends(daemon, swap, "claim", "claim")
    return swap
