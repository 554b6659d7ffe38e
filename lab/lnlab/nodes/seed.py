"""First blocks of a fresh chain, the same on embedded and real nodes."""

import secrets
from collections.abc import Collection

from embit.liquid.transaction import LTransaction

from lnlab.actors.faucet import COINBASE_MATURITY_BLOCKS, FAUCET_SCRIPT, SPLIT_COUNT, Faucet
from lnlab.nodes.record import POLICY_ASSET
from lnlab.nodes.rpc import NodeRpc

FEE_BLOCKS = 6
FEE_TARGET_BLOCKS = 6
FEE_PAYMENTS_PER_BLOCK = 10
P2WPKH_NOBODY = b"\x00\x14" + bytes(20)


async def mine(rpc: NodeRpc, count: int = 1) -> list[str]:
    """Mine ``count`` blocks and return their hashes.

    They pay to an OP_RETURN with a random number: fees are burnt, so that no coinbase output gets
    among the lab's coins, and a block never equals an invalidated one of the same second, which
    elementsd would refuse.
    """
    script = b"\x6a\x08" + secrets.token_bytes(8)
    hashes: list[str] = await rpc.call("generatetodescriptor", count, f"raw({script.hex()})")
    return hashes


async def mine_without(rpc: NodeRpc, count: int, left_out: Collection[str]) -> list[str]:
    """Mine ``count`` blocks that leave these transactions, and what spends from them, unconfirmed.

    Returns the blocks' hashes. They stay in the mempool, for ``mine`` to take.
    """
    hashes = []
    for _ in range(count):
        waiting = set(left_out)
        chosen = []
        for txid in await rpc.call("getrawmempool"):  # parents come before children
            raw = bytes.fromhex(await rpc.call("getrawtransaction", txid))
            parents = {spent.txid.hex() for spent in LTransaction.parse(raw).vin}
            if txid in waiting or parents & waiting:
                waiting.add(txid)
            else:
                chosen.append(txid)
        script = b"\x6a\x08" + secrets.token_bytes(8)
        made = await rpc.call("generateblock", f"raw({script.hex()})", chosen)
        hashes.append(str(made["hash"]))
    return hashes


async def seed_chain(rpc: NodeRpc, faucet: Faucet) -> None:
    """Leave initial block download and give the faucet its coins.

    They are the genesis block's free ones, split, or block subsidies where it has none.
    """
    await mine(rpc)
    if await faucet.has_coins():
        await faucet.split()
        await mine(rpc)
    else:
        await rpc.call("generatetodescriptor", SPLIT_COUNT, f"raw({FAUCET_SCRIPT.hex()})")
        await mine(rpc, COINBASE_MATURITY_BLOCKS)


async def wake_chain(rpc: NodeRpc, faucet: Faucet) -> None:
    """Make a chain that was at rest usable again: a new block, and fee estimates if it has none.

    Without the block electrs may wait for ever for the end of initial block download.
    """
    await mine(rpc)
    if "feerate" not in await rpc.call("estimatesmartfee", FEE_TARGET_BLOCKS):
        await seed_fee_estimates(rpc, faucet)


async def seed_fee_estimates(rpc: NodeRpc, faucet: Faucet) -> None:
    """Make ``estimatesmartfee`` answer, for some forty blocks at least.

    Core Lightning opens no channel on Liquid before that. elementsd wants a few blocks between the
    first and the last, and forgets: its short memory keeps 96 % a block and needs 13 transactions.
    """
    for _ in range(FEE_BLOCKS):
        for _ in range(FEE_PAYMENTS_PER_BLOCK):
            await faucet.fund(P2WPKH_NOBODY, [(POLICY_ASSET, 1000)])
        await mine(rpc)
