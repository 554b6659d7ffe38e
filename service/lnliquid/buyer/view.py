"""What the buyer's own Electrum server shows of an HTLC: its funding, and who spent its outputs."""

from dataclasses import dataclass

from lnliquid.buyer.facts import FundingView, SwapReply
from lnliquid.errors import BackendUnavailable
from lnliquid.liquid import htlc, tx
from lnliquid.liquid.htlc import SpendKind
from lnliquid.ports import Chain
from lnliquid.swap import Outpoint, Tip

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
            inputs = tx.parse(raw).inputs
        except ValueError:
            continue  # anybody can send strange things to the script; nobody may stop the claim
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
