"""What histories tell of swaps: funding height, and who spent each HTLC output, how. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lnliquid.domain import htlc
from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.reconcile import ChainFacts, Spend
from lnliquid.domain.swap import InvoiceMark, Outpoint, State, Swap, Tip
from lnliquid.domain.transaction import Transaction, TxInput
from lnliquid.liquid import coin_selection

REORG_BLOCKS = 12
"""What is buried less deep is looked at again: a reorg may undo it."""

SILENT_BLOCKS = 2
"""Who waits for something and has heard nothing for so many blocks may have missed it."""
LOOKS_A_BLOCK = 4
"""Scripts read at a new block for that reason alone; those read longest ago come first."""
NEVER = Tip(-1, "")
"""In place of the tip under which facts were read, when they were not read."""


@dataclass(frozen=True)
class ScriptHistory:
    """The history of one script, and the transactions in it, but those the reader knew."""

    items: tuple[HistoryItem, ...]
    transactions: Mapping[str, Transaction] = field(default_factory=dict)

    @property
    def heights(self) -> dict[str, int | None]:
        """By txid; None in the mempool."""
        return {item.txid: item.height for item in self.items}

    def spends(self, outpoints: Iterable[Outpoint]) -> dict[Outpoint, tuple[HistoryItem, TxInput]]:
        """Who spends these outputs, and how. The one answer for swaps, coins and rivals."""
        wanted = dict.fromkeys(outpoints).keys()
        return {
            outpoint: (item, transaction.input_of[outpoint])
            for item in self.items
            if (transaction := self.transactions.get(item.txid)) is not None
            for outpoint in transaction.input_of.keys() & wanted
        }


def witness_script(swap: Swap) -> bytes:
    """Witness script of a swap whose funding is signed."""
    assert swap.refund_lock_height is not None, "set together with the funding transaction"
    return coin_selection.htlc_script(swap, swap.refund_lock_height)


def output_script(swap: Swap) -> bytes:
    """The script that both HTLC outputs of this swap pay to."""
    return htlc.output_script(witness_script(swap))


def facts_of(swap: Swap, seen: ScriptHistory) -> ChainFacts:
    """Facts from the history of the swap's output script."""
    spends: dict[Outpoint | None, Spend] = {
        outpoint: Spend(item.txid, item.height, spend_kind(swap, spent))
        for outpoint, (item, spent) in seen.spends(
            o for o in (swap.asset_outpoint, swap.subsidy_outpoint) if o is not None
        ).items()
    }
    heights = seen.heights
    return ChainFacts(
        swap.funding_txid in heights,
        heights.get(swap.funding_txid or ""),
        spends.get(swap.asset_outpoint),
        spends.get(swap.subsidy_outpoint),
    )


def spend_kind(swap: Swap, spent: TxInput) -> SpendKind | None:
    """Which branch of the swap's HTLC this input takes, None when neither."""
    read = htlc.read_spend_witness(spent.witness, witness_script(swap), swap.payment_hash)
    return read.kind if read else None


def expected_history(swap: Swap, funding_heights: Mapping[str, int]) -> tuple[HistoryItem, ...]:
    """What the history of a swap's script should be by the record: its funding and no spend.

    Empty when the record does not tell. `funding_heights` are of confirmed fundings, as stored.
    """
    height = funding_heights.get(swap.funding_txid or "")
    if swap.funding_txid is None or height is None or swap.spend_txid is not None:
        return ()
    return (HistoryItem(swap.funding_txid, height),)


def heights_of(swap: Swap, facts: ChainFacts) -> dict[str, int | None]:
    """Where the facts have the transactions of this swap, by txid; None in the mempool."""
    funding = {swap.funding_txid or "": facts.funding_height} if facts.funding_seen else {}
    return funding | {spend.txid: spend.height for spend in facts.spends}


def is_elsewhere(swap: Swap, facts: ChainFacts, heights: Mapping[str, int | None]) -> bool:
    """True when a transaction of this swap is, by these heights, not where the facts have it.

    `heights` by txid, None in the mempool; transactions that are not in it are as the facts say.
    """
    known = {swap.funding_txid or "": None} | heights_of(swap, facts)
    return any(txid in heights and heights[txid] != height for txid, height in known.items())


Read = Mapping[str, tuple[ChainFacts, Tip]]
"""Facts by swap id, each with the tip under which they were read."""


def waiting_for(swaps: Iterable[Swap], read: Read) -> dict[str, list[Swap]]:
    """Swaps that wait for something on the chain, by what they wait for.

    That is a transaction in the mempool, which has to get into a block, or for a paid swap its
    claim, which has no txid yet: there the swap's id stands for it.
    """
    waiting: defaultdict[str, list[Swap]] = defaultdict(list)
    for swap in swaps:
        if swap.swap_id not in read:
            continue
        facts, _ = read[swap.swap_id]
        unconfirmed = [spend.txid for spend in facts.spends if spend.height is None]
        if unconfirmed:
            waiting[unconfirmed[0]].append(swap)
        elif swap.state is State.CREATED:
            waiting[swap.funding_txid or ""].append(swap)
        elif swap.state is State.FUNDED and swap.invoice_mark >= InvoiceMark.PAID:
            waiting[swap.swap_id].append(swap)
    return waiting


def overdue(waiting: Mapping[str, Sequence[Swap]], read: Read, tip: Tip) -> list[Swap]:
    """One swap for each thing waited for that nothing was heard of lately, a few at most."""
    heights = {swaps[0].swap_id: read[swaps[0].swap_id][1].height for swaps in waiting.values()}
    silent = [
        swaps[0]
        for swaps in waiting.values()
        if not 0 <= tip.height - heights[swaps[0].swap_id] < SILENT_BLOCKS
    ]
    return sorted(silent, key=lambda swap: heights[swap.swap_id])[:LOOKS_A_BLOCK]
