"""The swaps under watch, and what the chain was last seen to hold of each.

It only reads. What follows from that is decided by `reconcile` and carried out by the watcher.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from lnliquid.ports import Chain, ExpectedHistories
from lnliquid.seller import observe
from lnliquid.seller.inventory import Inventory
from lnliquid.seller.notices import Notices
from lnliquid.seller.observe import require_tip
from lnliquid.seller.reconcile import ChainFacts
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.swap import Swap, Tip

log = structlog.get_logger()


class Following:
    """Every swap that has a funding transaction and is not final."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        inventory: Inventory,
        notices: Notices,
        on_forget: Callable[[str], None],
    ) -> None:
        """`on_forget` is told the id of each swap that is not followed any more."""
        self._database = database
        self._chain = chain
        self._inventory = inventory
        self._notices = notices
        self._on_forget = on_forget
        self.swaps: dict[str, Swap] = {}
        """By id, as stored."""
        self.facts: dict[str, tuple[ChainFacts, Tip]] = {}
        """What the chain held of each swap, and the tip under which that was read."""
        self._by_script: dict[bytes, str] = {}
        self._vanished: set[str] = set()

    async def load(self, everything: bool) -> None:
        """Take in what is stored, all of it or what changed.

        Raises `StoreFailure`, and `BackendError` when a script cannot be watched.
        """
        news, self._notices.news = self._notices.news, set()
        at_start = not self.swaps

        def look(session: Transaction) -> tuple[list[Swap], dict[str, int]]:
            if everything:
                heights = own_tx_store.open_funding_heights(session) if at_start else {}
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
                    facts = observe.facts_of(swap, observe.ScriptHistory(fresh[script]))
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

    async def read_chain(self, tip: Tip, last: Tip | None) -> None:
        """Read all that changed, under this tip. `last` is the tip of the round before.

        Raises `BackendError`, and `TipMoved` when a block came meanwhile.
        """
        self._chain.mark_changed(self._refused_and_due())
        others = await self._inventory.sync(self._chain.take_changed())
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
        facts, refused = await observe.read_facts(self._chain, swaps)
        for swap in swaps:
            if swap.swap_id in self.facts and swap.swap_id in facts:
                before, _ = self.facts[swap.swap_id]
                self._vanished |= observe.vanished(swap, before, facts[swap.swap_id])
        self.facts.update({swap_id: (found, tip) for swap_id, found in facts.items()})
        for swap in swaps:
            if swap.swap_id in refused:
                self.facts.pop(swap.swap_id, None)
                self.put_aside(swap, refused[swap.swap_id])

    def put_aside(self, swap: Swap, reason: str) -> None:
        """Leave a swap's script and actions alone for a while (money rule 10)."""
        self._inventory.backoff.add(swap.swap_id, "swap put aside", **swap.ids, reason=reason)

    def _refused_and_due(self) -> list[bytes]:
        """Scripts of swaps without facts, other than those that are put aside."""
        return [
            script
            for script, swap_id in self._by_script.items()
            if swap_id not in self.facts and swap_id not in self._inventory.backoff
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
