"""Reads what the chain holds of swaps: funding height, and who spent each HTLC output, how."""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lnliquid.errors import BackendRejected
from lnliquid.liquid import htlc, tx, wallet
from lnliquid.liquid.htlc import SpendKind
from lnliquid.liquid.tx import TxInput
from lnliquid.ports import Chain, HistoryItem
from lnliquid.seller.reconcile import ChainFacts, Spend
from lnliquid.swap import InvoiceMark, Outpoint, State, Swap, Tip

REORG_BLOCKS = 12
"""What is buried less deep is looked at again: a reorg may undo it."""

SILENT_BLOCKS = 2
"""Who waits for something and has heard nothing for so many blocks may have missed it."""
LOOKS_A_BLOCK = 4
"""Scripts read at a new block for that reason alone; those read longest ago come first."""
NEVER = Tip(-1, "")
"""In place of the tip under which facts were read, when they were not read."""


class TipMoved(Exception):
    """Blocks came while the chain was read; the next round looks again."""

    def __str__(self) -> str:
        return "a block came meanwhile"


async def require_tip(chain: Chain, tip: Tip) -> None:
    """All that was read since the tip was this one is of this tip. Raises `TipMoved` if not."""
    if await chain.tip() != tip:
        raise TipMoved


@dataclass(frozen=True)
class ScriptHistory:
    """The history of one script, and the transactions in it, but those the reader knew."""

    items: tuple[HistoryItem, ...]
    transactions: Mapping[str, tx.Transaction] = field(default_factory=dict)

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
    return wallet.htlc_script(swap, swap.refund_lock_height)


def output_script(swap: Swap) -> bytes:
    """The script that both HTLC outputs of this swap pay to."""
    return htlc.output_script(witness_script(swap))


async def histories(
    chain: Chain, scripts: Sequence[bytes]
) -> tuple[dict[bytes, tuple[HistoryItem, ...]], dict[bytes, str]]:
    """Histories of all scripts in one go, and the reason for each script that has none.

    A server can refuse one script (too long a history); that must not hide the others.
    """
    try:
        return await chain.histories(scripts), {}
    except BackendRejected:
        found: dict[bytes, tuple[HistoryItem, ...]] = {}
        refused: dict[bytes, str] = {}
        for script in scripts:
            try:
                found.update(await chain.histories([script]))
            except BackendRejected as error:
                refused[script] = error.message
        return found, refused


async def read_scripts(
    chain: Chain, scripts: Sequence[bytes], known: Collection[str] = ()
) -> tuple[dict[bytes, ScriptHistory], dict[bytes, str]]:
    """History and transactions of each script, and the reason for each that is not whole.

    `known` are txids whose bytes the caller has. A script whose history names a transaction that
    the server does not give is refused: a spend may hide in it.
    """
    found, refused = await histories(chain, scripts)
    wanted = {i.txid for items in found.values() for i in items} - set(known)
    raws = await chain.transactions(sorted(wanted)) if wanted else {}
    parsed = {}
    for txid, raw in raws.items():
        # One that cannot be read is as good as missing: its scripts are refused, no others.
        with contextlib.suppress(ValueError):
            parsed[txid] = tx.parse(raw)
    whole: dict[bytes, ScriptHistory] = {}
    for script, items in found.items():
        missing = [i.txid for i in items if i.txid in wanted and i.txid not in parsed]
        if missing:
            refused[script] = f"the server names transaction {missing[0]} and does not give it"
        else:
            whole[script] = ScriptHistory(items, parsed)
    return whole, refused


async def read_facts(
    chain: Chain, swaps: Sequence[Swap]
) -> tuple[dict[str, ChainFacts], dict[str, str]]:
    """Facts of each swap by id, and the reason for each swap that could not be read.

    Raises `BackendUnavailable` or `BackendTimeout` when nothing can be read at all.
    """
    by_script = {output_script(s): s for s in swaps}
    fundings = {s.funding_txid for s in swaps if s.funding_txid}
    found, refused = await read_scripts(chain, list(by_script), fundings)
    facts = {by_script[s].swap_id: facts_of(by_script[s], seen) for s, seen in found.items()}
    return facts, {by_script[script].swap_id: reason for script, reason in refused.items()}


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


def is_elsewhere(swap: Swap, facts: ChainFacts, heights: Mapping[str, int | None]) -> bool:
    """True when a transaction of this swap is, by these heights, not where the facts have it.

    `heights` by txid, None in the mempool; transactions that are not in it are as the facts say.
    """
    known = {swap.funding_txid or "": facts.funding_height} | {
        spend.txid: spend.height
        for spend in (facts.asset_spend, facts.subsidy_spend)
        if spend is not None
    }
    return any(txid in heights and heights[txid] != height for txid, height in known.items())


def vanished(swap: Swap, before: ChainFacts, now: ChainFacts) -> set[str]:
    """Transactions of this swap that were in chain or mempool before and are in neither now."""
    return _shown(swap, before) - _shown(swap, now)


def _shown(swap: Swap, facts: ChainFacts) -> set[str]:
    spends = {s.txid for s in (facts.asset_spend, facts.subsidy_spend) if s is not None}
    return spends | ({swap.funding_txid or ""} if facts.funding_seen else set())


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
        unconfirmed = [
            spend.txid
            for spend in (facts.asset_spend, facts.subsidy_spend)
            if spend is not None and spend.height is None
        ]
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
