"""The one place that reads the chain for the daemon: histories, heights, spenders, under one tip.

`ChainView` holds the swaps under watch and what the chain was last seen to hold of each. It only
reads. What follows from that is decided by `reconcile` and carried out by the watcher.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.ports import Chain, ExpectedHistories, HistoryItem
from lnliquid.domain.reconcile import ChainFacts
from lnliquid.domain.swap import Swap, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.watchers import observe
from lnliquid.watchers.backoff import Backoff
from lnliquid.watchers.observe import ScriptHistory
from lnliquid.watchers.wakeups import Notices

log = structlog.get_logger()


class TipMoved(Exception):
    """Blocks came while the chain was read; the next round looks again."""

    def __str__(self) -> str:
        return "a block came meanwhile"


async def require_tip(chain: Chain, tip: Tip) -> None:
    """All that was read since the tip was this one is of this tip. Raises `TipMoved` if not."""
    if await chain.tip() != tip:
        raise TipMoved


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
            parsed[txid] = parse_transaction(raw)
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
    swap_of = {observe.output_script(s): s for s in swaps}
    fundings = {s.funding_txid for s in swaps if s.funding_txid}
    found, refused = await read_scripts(chain, list(swap_of), fundings)
    facts = {swap_of[s].swap_id: observe.facts_of(swap_of[s], seen) for s, seen in found.items()}
    return facts, {swap_of[script].swap_id: reason for script, reason in refused.items()}


@dataclass(eq=False)
class ChainView:
    """Every swap that has a funding transaction and is not final.

    `on_forget` is told the id of each swap that is not watched any more.
    """

    _database: Database
    _chain: Chain
    _notices: Notices
    _backoff: Backoff
    _on_forget: Callable[[str], None]
    swaps: dict[str, Swap] = field(default_factory=dict, init=False)
    """By id, as stored."""
    facts: dict[str, tuple[ChainFacts, Tip]] = field(default_factory=dict, init=False)
    """What the chain held of each swap, and the tip under which that was read."""
    _by_script: dict[bytes, str] = field(default_factory=dict, init=False)
    _vanished: set[str] = field(default_factory=set, init=False)

    async def load(self, everything: bool) -> None:
        """Take in what is stored, all of it or what changed.

        Raises `StoreFailure`, and `BackendError` when a script cannot be watched.
        """
        news, self._notices.news = self._notices.news, set()
        at_start = not self.swaps

        def look(session: Transaction) -> tuple[list[Swap], dict[str, int]]:
            if everything:
                heights = tx_store.open_funding_heights(session) if at_start else {}
                return swap_store.watched(session), heights
            found = sorted(swap_store.get_all(session, news).values(), key=lambda s: s.key_index)
            return [s for s in found if s.funding_txid and not s.finished], {}

        swaps, heights = await self._database.read(look)
        if everything:
            self.forget(set(self.swaps) - {s.swap_id for s in swaps})
        fresh = ExpectedHistories()
        for swap in swaps:
            known = self.swaps.get(swap.swap_id)
            if known == swap:
                continue
            if known and known.funding_txid != swap.funding_txid:
                self.forget([swap.swap_id])
                known = None
            self.swaps[swap.swap_id] = swap
            if known is None:
                script = observe.output_script(swap)
                self._by_script[script] = swap.swap_id
                fresh[script] = observe.expected_history(swap, heights)
                if fresh[script]:
                    # If that is so it was not read under any tip, so that whatever is decided on
                    # it is decided on a reading of its own.
                    facts = observe.facts_of(swap, ScriptHistory(fresh[script]))
                    self.facts[swap.swap_id] = (facts, observe.NEVER)
        if fresh:
            await self._chain.watch(fresh)

    def forget(self, swap_ids: Iterable[str]) -> None:
        """Follow these no longer."""
        gone = set(swap_ids)
        scripts = [s for s, swap_id in self._by_script.items() if swap_id in gone]
        self._chain.unwatch(scripts)
        for script in scripts:
            del self._by_script[script]
        for swap_id in gone:
            self.swaps.pop(swap_id, None)
            self.facts.pop(swap_id, None)
            self._on_forget(swap_id)

    async def read_changed(self, changed: Iterable[bytes], tip: Tip, last: Tip | None) -> None:
        """Read these swaps' scripts, and what else is due, all under this tip.

        `last` is the tip of the round before. Raises `BackendError`, after which all of these count
        as changed again, and `TipMoved` when a block came meanwhile.
        """
        others = {*changed, *self._refused_and_due()}
        swaps = [self.swaps[self._by_script[s]] for s in others if s in self._by_script]
        try:
            await self.read_facts(swaps, tip)
            if tip != last:
                await self._look_again(tip)
        except BaseException:
            self._chain.mark_changed(others)
            raise
        await require_tip(self._chain, tip)

    async def read_facts(self, swaps: Sequence[Swap], tip: Tip) -> None:
        """Read these swaps' scripts; one that is refused has no facts until it can be read."""
        if not swaps:
            return
        facts, refused = await read_facts(self._chain, swaps)
        for swap in swaps:
            if swap.swap_id in self.facts and swap.swap_id in facts:
                before = observe.heights_of(swap, self.facts[swap.swap_id][0])
                now = observe.heights_of(swap, facts[swap.swap_id])
                self._vanished |= before.keys() - now.keys()
        self.facts.update({swap_id: (found, tip) for swap_id, found in facts.items()})
        for swap in swaps:
            if swap.swap_id in refused:
                self.facts.pop(swap.swap_id, None)
                self.put_aside(swap, refused[swap.swap_id])

    def put_aside(self, swap: Swap, reason: str) -> None:
        """Leave a swap's script and actions alone for a while (money rule 10)."""
        self._backoff.add(swap.swap_id, "swap put aside", **swap.ids, reason=reason)

    def _refused_and_due(self) -> list[bytes]:
        """Scripts of swaps without facts, other than those that are put aside."""
        return [
            script
            for script, swap_id in self._by_script.items()
            if swap_id not in self.facts and swap_id not in self._backoff
        ]

    def take_vanished(self) -> set[str]:
        """Transactions that swaps had and chain and mempool lost since; each told once."""
        vanished, self._vanished = self._vanished, set()
        return vanished

    async def _look_again(self, tip: Tip) -> None:
        """Read a few that have heard nothing though they wait for something: news can be lost.

        What one of them tells of its transaction holds for all that wait for the same.
        """
        waiting = observe.waiting_for(self.swaps.values(), self.facts)
        overdue = observe.overdue(waiting, self.facts, tip)
        before = {swap.swap_id: self.facts[swap.swap_id][0] for swap in overdue}
        await self.read_facts(overdue, tip)
        for txid, swaps in waiting.items():
            probe = next((s for s in swaps if s.swap_id in before), None)
            if probe is None or len(swaps) == 1:
                continue
            now = self.facts.get(probe.swap_id)
            if now is not None and now[0] != before[probe.swap_id]:
                log.warning("news was lost", txid=txid, swaps=len(swaps))
                self._chain.mark_changed(observe.output_script(swap) for swap in swaps)
                self._notices.wake_watcher()

    def read_what_moved(self, heights: Mapping[str, int | None]) -> None:
        """Have those swaps read again that have not heard where a transaction of ours is now.

        Whoever waits for an invoice does not wait for one more block because a notice was lost.
        """
        unheard = [
            observe.output_script(self.swaps[swap_id])
            for swap_id, (facts, _) in (self.facts.items() if heights else ())
            if observe.is_elsewhere(self.swaps[swap_id], facts, heights)
        ]
        if unheard:
            self._chain.mark_changed(unheard)
            self._notices.wake_watcher()
