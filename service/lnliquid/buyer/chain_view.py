"""What the buyer's own Electrum server shows: an HTLC with its spenders, and the buyer's coins."""

from dataclasses import dataclass

from lnliquid.buyer.checks import FundingView, SwapReply
from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendUnavailable
from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Coin, Outpoint, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid.keys import RECEIVE, WalletKeys

_READS = 5


@dataclass(frozen=True, slots=True)
class Spender:
    """A transaction that spends an HTLC output. `kind` is None when its witness tells nothing.

    `height` is None while it is unconfirmed.
    """

    txid: str
    height: int | None
    kind: SpendKind | None


@dataclass(frozen=True, slots=True)
class HtlcView:
    """The funding and the spenders of its outputs, all read at one tip."""

    tip: Tip
    funding: FundingView
    spenders: dict[Outpoint, Spender]


async def look_at_htlc(chain: Chain, swap: SwapReply) -> HtlcView:
    """Read everything that touches the HTLC's script. Raises the kinds of `BackendError`.

    The tip is read before and after; when it moved, heights may be of two different chains, so
    the reading starts over.
    """
    for _ in range(_READS):
        tip = await chain.tip()
        view = await _read(chain, swap, tip)
        if await chain.tip() == tip:
            return view
    raise BackendUnavailable("electrum", "the tip moves faster than the chain can be read")


async def _read(chain: Chain, swap: SwapReply, tip: Tip) -> HtlcView:
    script_pubkey = htlc.output_script(swap.witness_script)
    history = (await chain.histories([script_pubkey]))[script_pubkey]
    heights = {item.txid: item.height for item in history}
    raws = await chain.transactions(list(heights), strict=True)
    spenders = {}
    for txid, raw in raws.items():
        if txid == swap.funding_txid:
            continue
        try:
            inputs = parse_transaction(raw).inputs
        except ValueError:
            continue  # anyone can send such things to the script; they must not stop the claim
        for spent in inputs:
            if spent.outpoint.txid == swap.funding_txid:
                spenders[spent.outpoint] = Spender(txid, heights[txid], _kind(spent.witness, swap))
    funding = FundingView(
        raws.get(swap.funding_txid),
        heights.get(swap.funding_txid),
        tuple((outpoint, spenders[outpoint].txid) for outpoint in sorted(spenders)),
    )
    return HtlcView(tip, funding, spenders)


def _kind(witness: list[bytes], swap: SwapReply) -> SpendKind | None:
    try:
        payment_hash = bytes.fromhex(swap.payment_hash)
    except ValueError:
        return None
    read = htlc.read_spend_witness(witness, swap.witness_script, payment_hash)
    return None if read is None else read.kind


async def read_coins(chain: Chain, keys: WalletKeys, index_count: int) -> list[Coin]:
    """The buyer's own coins: unspent explicit outputs of its first `index_count` claim addresses.

    In chain and mempool. Raises the kinds of `BackendError`.
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
    parsed = [parse_transaction(raw) for raw in raws.values()]
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
