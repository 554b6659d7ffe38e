"""The watcher: brings every swap's record in line with the chain and its invoice, until the end.

It works by level, not by edge: notices only wake it. A round reads what changed, makes sure that
the tip did not move meanwhile, decides with the pure `reconcile`, commits, and acts. Whatever a
decision changes rests on facts read under the very tip it was made for. One swap that cannot be
advanced is put aside for a while and stops no other (money rule 10).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain.errors import BackendError, BackendRejected, ReplicaFailure, StoreFailure
from lnliquid.domain.ports import Chain, Invoice
from lnliquid.domain.reconcile import (
    ChainFacts,
    Decision,
    DropInvoice,
    MakeInvoice,
    Policy,
    Refund,
    reconcile,
)
from lnliquid.domain.swap import InvoiceMark, State, Swap, Tip
from lnliquid.liquid import coin_selection
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.coins import CoinsGone
from lnliquid.store.database import Database
from lnliquid.store.swaps import Change
from lnliquid.watchers.chain_incidents import ChainIncidents
from lnliquid.watchers.chain_view import ChainView, TipMoved, require_tip
from lnliquid.watchers.fee_bump import Bumper
from lnliquid.watchers.funding import FUNDING, Funder
from lnliquid.watchers.invoices import Invoices
from lnliquid.watchers.outbox import Outbox
from lnliquid.watchers.refund_gate import RefundGate
from lnliquid.watchers.refunds import Refunds
from lnliquid.watchers.transactions import TransactionTracker
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

log = structlog.get_logger()

WATCHING, REFUNDING = "watching", "refunding"
MAKING, DROPPING = "making invoices", "deleting invoices"
LIGHTNING_CALLS = 8
MAX_DECISIONS = 10
"""Times that acting may bring a swap to its next decision in one round."""
MAX_REFUNDS = 300
"""Swaps refunded in one round: as many as one transaction takes."""
ACT_AT_ONCE = 64
"""Actions between two looks at the chain, so that a slow Lightning node delays no other work."""


@dataclass(eq=False)
class Watcher:
    """Follows every swap that has a funding transaction and is not final."""

    _database: Database
    _chain: Chain
    _invoices: Invoices
    _inventory: Inventory
    _outbox: Outbox
    _refunds: Refunds
    _funder: Funder
    _bumper: Bumper
    _settings: Settings
    _notices: Notices
    _refunds_at_once: int = field(default=MAX_REFUNDS, init=False)
    _at_rest: dict[str, tuple[Swap, ChainFacts, Invoice | None, Tip]] = field(
        default_factory=dict, init=False
    )
    """What a swap was judged on when nothing was to be done; judged alike, it is skipped."""
    _tip: Tip | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Put together what it works with."""
        database, chain, settings = self._database, self._chain, self._settings
        self._incidents = ChainIncidents(database, chain, self._inventory, self._notices)
        self._policy = Policy(settings.funding_confs, settings.final_confs, settings.timelocks)
        self._view = ChainView(
            database, chain, self._notices, self._inventory.backoff, self._forgotten
        )
        self._gate = RefundGate(chain, self._view, self._invoices, self._policy)
        self._own_txs = TransactionTracker(
            database, chain, self._outbox, settings.final_confs, self._gate.may_send
        )
        self.swaps = self._view.swaps
        """What is watched, as stored."""

    async def run(self) -> None:
        """Watch until cancelled. Dead backends cost time only: the next round starts over."""
        now = asyncio.get_running_loop().time
        reload_at = now()  # not moved by wake-ups: steady ones would put it off for ever
        while True:
            self._notices.watcher.clear()
            reload_all = now() >= reload_at
            try:
                await self.round(reload_all)
                self._inventory.work.done(WATCHING)
                if reload_all:
                    reload_at = now() + self._settings.poll_interval_secs
                look_at = min(reload_at, self._inventory.backoff.next_due)
            except TipMoved:
                look_at = now() + 0.05
            except (BackendError, StoreFailure) as error:
                log.warning("watching is delayed", reason=str(error))
                self._inventory.work.failed(WATCHING, str(error))
                reload_at, look_at = now(), now() + 1.0
            except Exception as error:  # money is locked: keep trying and keep saying so
                log.exception("watching failed")
                self._inventory.work.failed(WATCHING, type(error).__name__)
                reload_at, look_at = now(), now() + 5.0
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it loses a cancellation that meets the wake-up.
                async with asyncio.timeout_at(look_at):
                    await self._notices.watcher.wait()

    async def round(self, reload_all: bool = True) -> None:
        """Read what changed, decide, commit, act; again while acting made more to decide.

        Raises `BackendError`, `StoreFailure` or `TipMoved` when it could not be finished.
        """
        await self._view.load(reload_all)
        tip = await self._chain.tip()
        await self._incidents.check(tip)
        # Last of all that is read: what is decided now is decided on nothing older.
        others = await self._inventory.sync(self._chain.take_changed())
        await self._view.read_changed(others, tip, self._tip)
        if self.swaps:
            reach("watch.read")
        await self._advance(list(self.swaps.values()), tip)
        vanished = self._view.take_vanished()
        self._own_txs.mark_stale(vanished)
        if reload_all or vanished or tip != self._tip or self._outbox.underpaid:
            changed = await self._own_txs.check(tip, mempool_too=reload_all)
            if changed:
                self._view.forget(changed)
                self._notices.swaps_changed(changed)
            self._view.read_what_moved(self._own_txs.take_moved())
            if tip != self._tip or self._outbox.underpaid:
                await self._bumper.bump_stuck(tip, self._own_txs.unconfirmed(tip), self._gate)
                self._funder.wake()  # full chains are free again; idle lanes can be evened
            self._tip = tip
        self._inventory.work.hold(FUNDING, await self._outbox.refused_funding())
        self._inventory.synced = True
        self._notices.caught_up.set()

    def _forgotten(self, swap_id: str) -> None:
        self._at_rest.pop(swap_id, None)
        self._inventory.backoff.forget(swap_id)
        self._inventory.work.forget(swap_id)
        self._invoices.forget(swap_id)

    async def _advance(self, swaps: Sequence[Swap], tip: Tip) -> None:
        """Decide for these swaps and act, and once more for those that acting changed."""
        if await self._invoices.refresh(self.swaps.values(), tip):
            self._notices.wake_watcher()
        try:
            for _ in range(MAX_DECISIONS):
                decisions = await self._decide(swaps, tip)
                await self._save(decisions)
                acting = [d for d in decisions if d.action and d.swap.swap_id in self.swaps]
                if not acting:
                    return
                again = await self._act(acting, tip)
                swaps = [swap for i, swap in self.swaps.items() if i in again]
        except TipMoved:
            # Reading took longer than a block: what is read for refunds must become less.
            self._refunds_at_once = max(1, self._refunds_at_once // 2)
            raise

    def _limited(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Leave the actions beyond a round's measure, and their marks, for the next round.

        Refunds that are due longest come first.
        """
        left = {Refund: self._refunds_at_once, MakeInvoice: ACT_AT_ONCE, DropInvoice: ACT_AT_ONCE}
        limited = []
        for decision in sorted(decisions, key=lambda d: d.swap.refund_lock_height or 0):
            kept = decision
            if decision.action is not None:
                kind = type(decision.action)
                left[kind] -= 1
                if left[kind] < 0:
                    self._notices.wake_watcher()
                    mark = self.swaps[decision.swap.swap_id].invoice_mark
                    unmarked = replace(decision.swap, invoice_mark=mark)
                    kept = replace(decision, action=None, swap=unmarked)
            if kept.action or kept.swap != self.swaps[kept.swap.swap_id]:
                limited.append(kept)
        return limited

    async def _decide(self, swaps: Sequence[Swap], tip: Tip) -> list[Decision]:
        """Decisions that change or do something, each on facts read under this very tip."""
        decisions = await self._judged(swaps, tip)
        old = [
            self.swaps[d.swap.swap_id]
            for d in decisions
            if self._view.facts[d.swap.swap_id][1] != tip
        ]
        if old:
            await self._view.read_facts(old, tip)
            await require_tip(self._chain, tip)
            decisions = await self._judged([self.swaps[d.swap.swap_id] for d in decisions], tip)
        return decisions

    async def _judged(self, swaps: Sequence[Swap], tip: Tip) -> list[Decision]:
        decisions = [d for d in (self._judge(s, tip) for s in swaps) if d is not None]
        wanted = [o for d in decisions if isinstance(d.action, Refund) for o in d.action.outpoints]
        if wanted:  # a refund that is signed and not seen yet must not keep the others waiting
            taken = await self._database.read(lambda s: coin_store.bound_outpoints(s, wanted))
            decisions = [
                replace(d, action=None)
                if isinstance(d.action, Refund) and taken.issuperset(d.action.outpoints)
                else d
                for d in decisions
            ]
        return self._limited(decisions)

    def _judge(self, swap: Swap, tip: Tip) -> Decision | None:
        if swap.swap_id not in self._view.facts:
            return None
        facts, _ = self._view.facts[swap.swap_id]
        judged_on = (swap, facts, self._invoices.view(swap), tip)
        if self._at_rest.get(swap.swap_id) == judged_on:
            return None
        try:
            decision = reconcile(*judged_on, self._policy)
        except Exception:  # a defect shown by one swap must not stop the others (rule 10)
            log.exception("swap cannot be judged", **swap.ids)
            self._view.put_aside(swap, "a fault of the program, see the log line before")
            return None
        if decision.action is None and judged_on[2] is not None:
            # A call that hung did it, or it is too late for it: what failed is not to be done.
            self._inventory.work.forget(swap.swap_id)
        if decision.action is None and decision.swap == swap:
            self._at_rest[swap.swap_id] = judged_on
            return None
        if decision.action and swap.swap_id in self._inventory.backoff:
            # What was seen is stored all the same. The mark of the action is too: it only ever
            # makes the program more careful.
            decision = replace(decision, action=None)
        return decision if decision.action or decision.swap != swap else None

    async def _save(self, decisions: Sequence[Decision]) -> None:
        changed = [d for d in decisions if d.swap != self.swaps[d.swap.swap_id]]
        if not changed:
            return

        changes = [
            Change(self.swaps[d.swap.swap_id], d.swap, d.cause, d.txid, d.height) for d in changed
        ]
        written = await self._database.write(lambda tx: swap_store.save_all(tx, changes))
        for decision, saved in zip(changed, written, strict=True):
            self._saved(decision, saved)
        self._notices.swaps_changed(d.swap.swap_id for d in changed)
        self._notices.news -= {d.swap.swap_id for d in changed if d.swap.swap_id in self.swaps}

    def _saved(self, decision: Decision, saved: bool) -> None:
        swap = decision.swap
        if not saved:  # somebody else changed it: look again
            self._view.forget([swap.swap_id])
            self._notices.news.add(swap.swap_id)
            return
        before = self.swaps[swap.swap_id]
        self.swaps[swap.swap_id] = swap
        if swap.state is not before.state:
            reach("claim.saved" if swap.state is State.CLAIMED else "watch.saved")
            log.info(
                "state changed",
                **swap.ids,
                state=swap.state.name,
                cause=decision.cause,
                txid=decision.txid,
            )
        if swap.bolt11 is not None and before.bolt11 is None:
            reach("invoice.stored")
            log.info("invoice made", **swap.ids, expires_at=swap.invoice_expires_at)
            self._inventory.work.forget(swap.swap_id)  # it may have been made by a call that hung
        if swap.paid_unclaimed and not before.paid_unclaimed:
            log.error("paid and not claimed: this needs the operator", **swap.ids)
        if swap.finished:
            reach("finish.saved")
            self._view.forget([swap.swap_id])

    async def _act(self, decisions: Sequence[Decision], tip: Tip) -> set[str]:
        """Carry out actions; returns the swaps to decide on again."""
        gate = asyncio.Semaphore(LIGHTNING_CALLS)
        again: set[str] = set()

        async def one(swap: Swap, action: MakeInvoice | DropInvoice) -> None:
            name = MAKING if isinstance(action, MakeInvoice) else DROPPING
            async with gate:
                try:
                    if isinstance(action, MakeInvoice):
                        # Were the database lost, its absence would pass for never asked for.
                        self._database.require_replica()
                        await self._invoices.make(swap, action)
                    elif not await self._invoices.drop(swap, action):
                        await self._lose_invoice(swap)
                except (BackendError, ReplicaFailure) as error:
                    self._view.put_aside(swap, str(error))
                    self._inventory.work.failed(name, str(error), swap.swap_id)
                else:
                    self._inventory.work.done(name)
                    self._inventory.backoff.forget(swap.swap_id)
                    again.add(swap.swap_id)

        calls = [
            one(d.swap, d.action)
            for d in decisions
            if isinstance(d.action, MakeInvoice | DropInvoice)
        ]
        # Every call is waited for, also when one of them fails: none may act on after this round.
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        refunds = [d.swap for d in decisions if isinstance(d.action, Refund)]
        if refunds:
            await self._refund(refunds, tip)
        return again

    async def _lose_invoice(self, swap: Swap) -> None:
        """Somebody else removed the invoice, perhaps after it was paid: no refund by ourselves."""
        after = replace(swap, invoice_mark=InvoiceMark.LOST)
        if await self._database.write(lambda tx: swap_store.save(tx, swap, after)):
            self.swaps[swap.swap_id] = after
        log.error("invoice gone, not by our doing: this needs the operator", **swap.ids)

    async def _refund(self, swaps: Sequence[Swap], tip: Tip) -> None:
        """Refund what passes the gate: most in one transaction, what a buyer may spend apart."""
        passed = await self._gate.open(swaps, tip)
        together = [p for p in passed if not p.is_alone]
        for batch in ([together] if together else []) + [[p] for p in passed if p.is_alone]:
            try:
                await self._refunds.refund(batch)
            except (BackendRejected, coin_selection.NotEnoughCoins, CoinsGone) as error:
                for item in batch:
                    self._view.put_aside(item.swap, str(error))
                self._inventory.work.failed(REFUNDING, str(error), batch[0].swap.swap_id)
            except StoreFailure:
                # Perhaps there is room for a smaller write: what is refunded at once becomes less.
                self._refunds_at_once = max(1, self._refunds_at_once // 2)
                raise
            else:
                self._inventory.work.done(REFUNDING)
        self._refunds_at_once = min(MAX_REFUNDS, 2 * self._refunds_at_once)
