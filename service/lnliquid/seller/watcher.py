"""The watcher: brings every swap's record in line with the chain and its invoice, until the end.

It works by level, not by edge: notices only wake it. A round reads what changed, makes sure that
the tip did not move meanwhile, decides with the pure `reconcile`, commits, and acts. One swap that
cannot be advanced is put aside for a while and stops no other (money rule 10).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import structlog

from lnliquid.crashpoints import reach
from lnliquid.errors import BackendError, BackendRejected
from lnliquid.liquid import wallet
from lnliquid.liquid.keys import Keychain
from lnliquid.ports import Chain, Clock, Invoice, InvoiceStatus, SellerLightning
from lnliquid.seller import observe
from lnliquid.seller.funder import Funder
from lnliquid.seller.inventory import Inventory
from lnliquid.seller.notices import Notices
from lnliquid.seller.own_txs import OwnTxs
from lnliquid.seller.reconcile import (
    Action,
    ChainFacts,
    Decision,
    DropInvoice,
    MakeInvoice,
    Policy,
    Refund,
    reconcile,
)
from lnliquid.seller.refunds import Refunds
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, StoreFailure, Transaction
from lnliquid.swap import Outpoint, State, Swap, Tip

log = structlog.get_logger()

LAST_PAY_INDEX = "last_pay_index"
PAID_WAIT_SECS = 60
MAX_REREADS = 10
FIRST_RETRY_SECS, LAST_RETRY_SECS = 2, 300
LIGHTNING_CALLS = 8


class TipMoved(Exception):
    """Blocks came faster than a round could be read; the next round looks again."""


class Watcher:
    """Follows every swap that has a funding transaction and is not final."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        lightning: SellerLightning,
        inventory: Inventory,
        refunds: Refunds,
        funder: Funder,
        keys: Keychain,
        settings: Settings,
        notices: Notices,
        clock: Clock,
    ) -> None:
        self._database = database
        self._chain = chain
        self._lightning = lightning
        self._inventory = inventory
        self._refunds = refunds
        self._funder = funder
        self._keys = keys
        self._settings = settings
        self._notices = notices
        self._clock = clock
        self._own_txs = OwnTxs(database, chain, settings.final_confs)
        self._policy = Policy(settings.funding_confs, settings.final_confs, settings.timelocks)
        self._swaps: dict[str, Swap] = {}
        self._by_script: dict[bytes, str] = {}
        self._facts: dict[str, ChainFacts] = {}
        self._invoices: dict[str, Invoice] = {}
        self._put_aside: dict[str, tuple[int, int]] = {}
        """Swap id to (attempts, not before)."""
        self._stale_invoices: set[str] = set()
        self._tip: Tip | None = None

    async def run(self) -> None:
        """Watch until cancelled. Dead backends cost time only: the next round starts over."""
        interval = self._settings.poll_interval_secs
        reload_all = True
        retry: float | None = None
        while True:
            self._notices.watcher.clear()
            try:
                await self.round(reload_all)
                reload_all, retry = False, None
            except (BackendError, StoreFailure, TipMoved) as error:
                log.warning("watching is delayed", reason=str(error))
                reload_all, retry = True, 1.0
            except Exception:  # money is locked: whatever is wrong, keep trying and keep saying so
                log.exception("watching failed")
                reload_all, retry = True, 5.0
            try:
                await asyncio.wait_for(self._notices.watcher.wait(), retry or interval)
            except TimeoutError:
                reload_all = True

    async def run_paid(self) -> None:
        """Wake the watcher at each paid invoice, from the stored index on."""
        while True:
            try:
                await self._next_paid()
            except (BackendError, StoreFailure) as error:
                log.warning("waiting for payments is delayed", reason=str(error))
                await asyncio.sleep(FIRST_RETRY_SECS)

    async def _next_paid(self) -> None:
        last = await self._database.read(lambda s: coin_store.cursor(s, LAST_PAY_INDEX))
        invoice = await self._lightning.wait_paid(last, PAID_WAIT_SECS)
        if invoice is None or invoice.pay_index is None:
            return
        index = invoice.pay_index
        if invoice.label in self._swaps:
            log.info("invoice paid", swap_id=invoice.label, amount_msat=invoice.amount_msat)
            self._stale_invoices.add(invoice.label)
            self._notices.wake_watcher()
        await self._database.write(lambda s: coin_store.set_cursor(s, LAST_PAY_INDEX, index))

    async def round(self, reload_all: bool = True) -> None:
        """Read what changed, decide, commit, act; again while acting made more to decide.

        Raises `BackendError`, `StoreFailure` or `TipMoved` when it could not be finished.
        """
        await self._load(reload_all)
        tip = await self._read_chain()
        if self._swaps:
            reach("watch.read")
        if reload_all or tip != self._tip:
            let_go = await self._own_txs.check(tip)
            if let_go:
                self._forget(let_go)
                self._funder.wake()
            self._tip = tip
        await self._advance(list(self._swaps.values()), tip)

    async def _load(self, everything: bool) -> None:
        news = self._notices.news
        self._notices.news = set()

        def look(session: Transaction) -> list[Swap]:
            if everything:
                return swap_store.watched(session)
            found = (swap_store.get(session, swap_id) for swap_id in sorted(news))
            return [s for s in found if s and s.funding_txid and not s.finished]

        swaps = await self._database.read(look)
        if everything:
            self._forget(set(self._swaps) - {s.swap_id for s in swaps})
        fresh = []
        for swap in swaps:
            known = self._swaps.get(swap.swap_id)
            if known and known.funding_txid != swap.funding_txid:
                self._forget([swap.swap_id])
            self._swaps[swap.swap_id] = swap
            script = observe.output_script(swap)
            if script not in self._by_script:
                self._by_script[script] = swap.swap_id
                fresh.append(script)
        if fresh:
            await self._chain.watch(fresh)

    def _forget(self, swap_ids: Iterable[str]) -> None:
        gone = set(swap_ids)
        scripts = [s for s, swap_id in self._by_script.items() if swap_id in gone]
        self._chain.unwatch(scripts)
        for script in scripts:
            del self._by_script[script]
        for swap_id in gone:
            self._swaps.pop(swap_id, None)
            self._facts.pop(swap_id, None)
            self._invoices.pop(swap_id, None)
            self._put_aside.pop(swap_id, None)
            self._stale_invoices.discard(swap_id)

    async def _read_chain(self) -> Tip:
        """Read all that changed, under one tip."""
        for _ in range(MAX_REREADS):
            tip = await self._chain.tip()
            others = await self._inventory.sync(self._chain.take_changed())
            swaps = [
                self._swaps[self._by_script[script]]
                for script in others
                if script in self._by_script
            ]
            try:
                await self._read_facts(swaps)
            except BaseException:
                self._chain.mark_changed(others)
                raise
            if await self._chain.tip() == tip:
                return tip
        raise TipMoved("the tip moved during every one of several readings")

    async def _read_facts(self, swaps: list[Swap]) -> None:
        if not swaps:
            return
        facts, refused = await observe.read_facts(self._chain, swaps)
        self._facts.update(facts)
        for swap_id, reason in refused.items():
            self._set_aside(swap_id, reason)

    async def _advance(self, swaps: list[Swap], tip: Tip) -> None:
        """Decide for these swaps and act, and once more for those that acting changed."""
        for _ in range(MAX_REREADS):
            await self._refresh_stale_invoices()
            decided = [self._decide(swap, tip) for swap in swaps]
            decisions = [d for d in decided if d is not None]
            await self._save(decisions)
            acting = [d for d in decisions if d.actions and d.swap.swap_id in self._swaps]
            if not acting:
                return
            again = await self._act(acting, tip)
            swaps = [self._swaps[i] for i in again if i in self._swaps]
            if not swaps:
                return

    def _decide(self, swap: Swap, tip: Tip) -> Decision | None:
        facts = self._facts.get(swap.swap_id)
        attempts_until = self._put_aside.get(swap.swap_id, (0, 0))[1]
        if facts is None or attempts_until > self._clock.now():
            return None
        try:
            decision = reconcile(swap, facts, self._invoice_view(swap), tip, self._policy)
        except Exception:  # a defect shown by one swap must not stop the others (rule 10)
            log.exception("swap cannot be judged", swap_id=swap.swap_id)
            self._set_aside(swap.swap_id, "a fault of the program, see the log line before")
            return None
        return decision if decision.actions or decision.swap != swap else None

    def _invoice_view(self, swap: Swap) -> Invoice | None:
        """The invoice as last read. One that was never made needs no call to be known absent."""
        known = self._invoices.get(swap.swap_id)
        if known is None and swap.bolt11 is None and swap.state is State.CREATED:
            return Invoice(swap.swap_id, InvoiceStatus.ABSENT)
        return known

    async def _refresh_stale_invoices(self) -> None:
        """Read invoices that were never read, were paid, or ran out."""
        now = self._clock.now()
        wanted = set(self._stale_invoices)
        for swap in self._swaps.values():
            known = self._invoices.get(swap.swap_id)
            if known is None:
                if swap.state is not State.CREATED or swap.bolt11 is not None:
                    wanted.add(swap.swap_id)
            elif known.status is InvoiceStatus.UNPAID and (known.expires_at or 0) <= now:
                wanted.add(swap.swap_id)
        await self._read_invoices(wanted & set(self._swaps))
        self._stale_invoices -= wanted

    async def _read_invoices(self, swap_ids: set[str]) -> None:
        """Ask Lightning; what cannot be asked becomes unknown, and unknown is not unpaid."""
        if not swap_ids:
            return
        for swap_id in swap_ids:
            self._invoices.pop(swap_id, None)
        try:
            self._invoices.update(await self._lightning.invoices(sorted(swap_ids)))
        except BackendError as error:
            log.warning("invoices cannot be read", invoices=len(swap_ids), reason=error.message)

    async def _save(self, decisions: list[Decision]) -> None:
        changed = [d for d in decisions if d.swap != self._swaps[d.swap.swap_id]]
        if not changed:
            return

        def write(session: Transaction) -> list[bool]:
            return [
                swap_store.save(
                    session,
                    self._swaps[d.swap.swap_id],
                    d.swap,
                    cause=d.cause,
                    txid=d.txid,
                    height=d.height,
                )
                for d in changed
            ]

        for decision, saved in zip(changed, await self._database.write(write), strict=True):
            swap = decision.swap
            if not saved:
                self._notices.news.add(swap.swap_id)
                self._forget([swap.swap_id])
                continue
            if swap.state is not self._swaps[swap.swap_id].state:
                reach("claim.saved" if swap.state is State.CLAIMED else "watch.saved")
                log.info(
                    "state changed",
                    swap_id=swap.swap_id,
                    state=swap.state.name,
                    cause=decision.cause,
                    txid=decision.txid,
                )
            self._swaps[swap.swap_id] = swap
            if swap.finished:
                reach("finish.saved")
                self._forget([swap.swap_id])
        self._notices.swaps_changed(d.swap.swap_id for d in changed)
        self._notices.news -= {d.swap.swap_id for d in changed if d.swap.swap_id in self._swaps}

    async def _act(self, decisions: list[Decision], tip: Tip) -> set[str]:
        """Carry out actions; returns the swaps to decide on again."""
        gate = asyncio.Semaphore(LIGHTNING_CALLS)
        again: set[str] = set()

        async def one(swap: Swap, action: Action) -> None:
            async with gate:
                try:
                    if isinstance(action, MakeInvoice):
                        await self._make_invoice(swap, action)
                    elif isinstance(action, DropInvoice):
                        await self._drop_invoice(swap, action)
                        again.add(swap.swap_id)
                except BackendError as error:
                    self._set_aside(swap.swap_id, str(error))

        await asyncio.gather(*(one(d.swap, a) for d in decisions for a in d.actions))
        refunds = [d for d in decisions if any(isinstance(a, Refund) for a in d.actions)]
        if refunds:
            await self._refund([d.swap for d in refunds], tip)
        return again

    async def _make_invoice(self, swap: Swap, action: MakeInvoice) -> None:
        invoice = await self._lightning.create_invoice(
            label=swap.swap_id,
            amount_msat=swap.total_price_msat,
            preimage=self._keys.preimage(swap.key_index),
            description=f"{swap.asset_amount} of {swap.asset_id[:8]}…, swap {swap.swap_id}",
            expiry_secs=action.expiry_secs,
            cltv_blocks=self._settings.invoice_cltv_blocks,
        )
        reach("invoice.made")
        self._invoices[swap.swap_id] = invoice
        await self._store_invoice(swap, invoice.bolt11, invoice.expires_at)
        reach("invoice.stored")

    async def _drop_invoice(self, swap: Swap, action: DropInvoice) -> None:
        """Delete it if it is still as it was seen; then read it again, whatever came of it."""
        await self._lightning.delete_invoice(swap.swap_id, action.status)
        reach("invoice.dropped")
        invoice = await self._lightning.invoice(swap.swap_id)
        self._invoices[swap.swap_id] = invoice
        if invoice.status is InvoiceStatus.ABSENT:
            await self._store_invoice(swap, None, None)

    async def _store_invoice(self, swap: Swap, bolt11: str | None, expires_at: int | None) -> None:
        after = replace(swap, bolt11=bolt11, invoice_expires_at=expires_at)
        if await self._database.write(lambda s: swap_store.save(s, swap, after)):
            self._swaps[swap.swap_id] = after
        self._notices.swaps_changed([swap.swap_id])

    async def _refund(self, swaps: list[Swap], tip: Tip) -> None:
        """The gate of money rule 4: read chain, mempool and invoice once more, then sign."""
        await self._read_facts(swaps)
        await self._read_invoices({s.swap_id for s in swaps})
        if await self._chain.tip() != tip:
            self._notices.wake_watcher()
            return
        wanted: list[tuple[Swap, tuple[Outpoint, ...]]] = []
        for swap in swaps:
            invoice = self._invoices.get(swap.swap_id)
            decision = reconcile(swap, self._facts[swap.swap_id], invoice, tip, self._policy)
            wanted += [(swap, a.outpoints) for a in decision.actions if isinstance(a, Refund)]
        try:
            await self._refunds.refund(wanted)
        except (BackendRejected, wallet.NotEnoughCoins) as error:
            for swap, _ in wanted:
                self._set_aside(swap.swap_id, str(error))

    def _set_aside(self, swap_id: str, reason: str) -> None:
        attempts = self._put_aside.get(swap_id, (0, 0))[0] + 1
        delay = min(LAST_RETRY_SECS, FIRST_RETRY_SECS * 2 ** min(attempts - 1, 10))
        self._put_aside[swap_id] = (attempts, self._clock.now() + delay)
        asyncio.get_running_loop().call_later(delay, self._notices.wake_watcher)
        log.warning(
            "swap put aside", swap_id=swap_id, attempts=attempts, retry_secs=delay, reason=reason
        )
