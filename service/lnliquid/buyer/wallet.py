"""The buyer's own coins: outputs to the claim addresses of its earlier swaps."""

from lnliquid.liquid import htlc, tx
from lnliquid.liquid.keys import RECEIVE, WalletKeys
from lnliquid.ports import Chain
from lnliquid.swap import Coin, Outpoint


async def read_coins(chain: Chain, keys: WalletKeys, index_count: int) -> list[Coin]:
    """Unspent explicit outputs of the first `index_count` claim addresses, in chain and mempool.

    Raises the kinds of `BackendError`.
    """
    index_of = {
        htlc.p2wpkh_script(keys.wallet_key(RECEIVE, index).key_hash): index
        for index in range(index_count)
    }
    if not index_of:
        return []
    histories = await chain.histories(list(index_of))
    heights = {item.txid: item.height for items in histories.values() for item in items}
    raws = await chain.transactions(list(heights), strict=True)
    parsed = [tx.parse(raw) for raw in raws.values()]
    spent = {spend.outpoint for transaction in parsed for spend in transaction.inputs}
    coins = []
    for transaction in parsed:
        for vout, output in enumerate(transaction.outputs):
            outpoint = Outpoint(transaction.txid, vout)
            index = index_of.get(output.script_pubkey)
            if index is None or outpoint in spent:
                continue
            if output.asset_id is not None and output.value is not None:
                height = heights[transaction.txid]
                coins.append(Coin(outpoint, output.asset_id, output.value, RECEIVE, index, height))
    return coins
