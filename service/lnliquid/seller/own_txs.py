"""Our own transactions after they were stored: seen, confirmed, sent again, or given up.

From the commit that stored it on, a transaction's bytes are sent until it confirms; a reorg that
takes it out of the chain makes it be sent again. It is given up only when something else spends one
of its inputs, buried, as the chain shows at that moment, or when its inputs can never be, because
they are of one of ours that was given up, or that lost against one it replaced or was replaced by.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from lnliquid.errors import BackendError, BackendRejected, BackendTimeout
from lnliquid.liquid import tx
from lnliquid.ports import Chain, HistoryItem
from lnliquid.seller.observe import REORG_BLOCKS, histories
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import OwnTxRow, Purpose, TxState
from lnliquid.swap import InvoiceMark, Outpoint, State, Tip

log = structlog.get_logger()

CHECKED_HEIGHT = "own_txs_checked_height"
"""Cursor: the tip at which every transaction that may still change was last looked at.

What could not be read then is marked by itself (`own_txs.set_unread`)."""

SCRIPTS_TRIED = 8
"""Scripts asked for one transaction before it counts as unreadable for now."""


class OwnTxs:
    """Follows stored transactions by the script of an output, the last one unless it is refused.

    Anybody can flood a script until the server refuses its history (money rule 10). The last
    output is the wallet's own as a rule; those before it pay scripts that their buyers know early.
    """

    def __init__(self, database: Database, chain: Chain, final_confs: int) -> None:
        self._database = database
        self._chain = chain
        self._final_confs = final_confs
        self._scripts: dict[str, list[bytes]] = {}
        """Those that tell of a transaction, in the order in which they are asked for."""
        self._seen: dict[str, Tip] = {}
        """The tip under which a transaction was last found where it is."""
        self._unconfirmed: dict[str, Tip] = {}
        """The tip under which it was last found to be in no block."""
        self._moved: dict[str, int | None] = {}

    def take_moved(self) -> dict[str, int | None]:
        """Heights, None for the mempool, of those found elsewhere than before; each told once."""
        moved, self._moved = self._moved, {}
        return moved

    def doubt(self, txids: Iterable[str]) -> None:
        """These are not where they were found: to be asked for again, and sent again."""
        for txid in txids:
            self._seen.pop(txid, None)

    def unconfirmed(self, tip: Tip) -> set[str]:
        """Those that were found in no block under this tip, in the mempool or nowhere.

        One whose history was refused is not among them: nothing is known of it.
        """
        return {txid for txid, at in self._unconfirmed.items() if at == tip}

    async def check(self, tip: Tip) -> set[str]:
        """Look at every transaction that may still change. Returns the ids of swaps let go.

        One that was there under this very tip is not asked for again, unless that is in doubt.

        Raises `BackendError` when the chain cannot be read, or there is no connection to send
        by. A broadcast that is refused or not answered in time does not end it.
        """

        def look(session: Transaction) -> tuple[int, set[str], list[OwnTxRow]]:
            # Counted from where we last looked, not from the tip: while we were away a reorg may
            # have come, and many blocks after it.
            checked = coin_store.cursor(session, CHECKED_HEIGHT)
            lowest = min(checked, tip.height) - REORG_BLOCKS
            return (
                checked,
                own_tx_store.unread_txids(session),
                own_tx_store.moving(session, lowest),
            )

        checked, unread_before, rows = await self._database.read(look)
        for row in rows:
            if row.txid not in self._scripts:
                self._scripts[row.txid] = _scripts_of(row.raw)
        self._scripts = {row.txid: self._scripts[row.txid] for row in rows}
        self._seen = {txid: at for txid, at in self._seen.items() if txid in self._scripts}
        self._unconfirmed = dict.fromkeys(self.unconfirmed(tip), tip)
        rows = [row for row in rows if self._seen.get(row.txid) != tip]
        if not rows:
            return set()
        found = await self._histories([row.txid for row in rows])
        # A signed one is looked at anyway; one that is in a block must not be forgotten.
        unread = {r.txid for r in rows if r.state == TxState.CONFIRMED and r.txid not in found}
        moved: list[tuple[str, TxState, int | None]] = []
        seen: list[str] = []
        unseen: list[OwnTxRow] = []
        in_no_block: list[str] = []
        turned_back: set[str] = set()
        for row in rows:
            history = found.get(row.txid)
            if history is None:
                continue  # refused: nothing is known of it now
            item = next((i for i in history if i.txid == row.txid), None)
            height = item.height if item else None
            state = TxState.SIGNED if height is None else TxState.CONFIRMED
            if item is None:
                older = await self._confirmed_older(row.txid, history)
                if older is not None:
                    turned_back |= older
                    continue
                unseen.append(row)
            else:
                seen.append(row.txid)
            if height is None:
                in_no_block.append(row.txid)
            if (row.state, row.height) != (int(state), height):
                moved.append((row.txid, state, height))
        if moved or tip.height != checked or unread != unread_before:

            def store(session: Transaction) -> None:
                for txid, state, height in moved:
                    own_tx_store.set_state(session, txid, state, height)
                own_tx_store.set_unread(session, unread)
                coin_store.set_cursor(session, CHECKED_HEIGHT, tip.height)

            await self._database.write(store)
        self._seen.update(dict.fromkeys(seen, tip))  # once that is stored, and not before
        self._unconfirmed.update(dict.fromkeys(in_no_block, tip))
        self._moved.update((txid, height) for txid, _, height in moved)
        let_go: set[str] = set()
        for row in unseen:
            let_go |= await self._send_again(row, tip)
        return let_go | turned_back

    async def _histories(self, txids: Sequence[str]) -> dict[str, tuple[HistoryItem, ...]]:
        """For each of these the history of one of its scripts; none where all are refused."""
        found: dict[str, tuple[HistoryItem, ...]] = {}
        for nth in range(SCRIPTS_TRIED):
            asked = {
                txid: self._scripts[txid][nth]
                for txid in txids
                if txid not in found and nth < len(self._scripts[txid])
            }
            if not asked:
                break
            read, _refused = await histories(self._chain, sorted(set(asked.values())))
            for txid, script in asked.items():
                if script in read:
                    found[txid] = read[script]
                    self._scripts[txid].remove(script)  # to be the first next time
                    self._scripts[txid].insert(0, script)
        return found

    async def _confirmed_older(
        self, txid: str, history: tuple[HistoryItem, ...]
    ) -> set[str] | None:
        """If one that it replaced is in a block instead, let that one stand again.

        They pay the same scripts, output by output, so the history of any shows them all.
        """
        confirmed = {i.txid: i.height for i in history if i.height is not None}

        def turn_back(session: Transaction) -> tuple[set[str], list[bytes]] | None:
            for row in own_tx_store.replaced_by(session, txid):
                if row.txid in confirmed:
                    swaps = {s.swap_id for s in swap_store.funded_by(session, txid)}
                    for child in coin_store.live_children(session, txid):
                        swaps |= give_up(session, child)  # it spends what never came to be
                    own_tx_store.point_to(session, txid, row.txid)
                    own_tx_store.set_state(
                        session, row.txid, TxState.CONFIRMED, confirmed[row.txid]
                    )
                    older = tx.parse(row.raw)
                    _give_back_change(session, txid, older)
                    return swaps, [o.script_pubkey for o in older.outputs]
            return None

        try:
            turned = await self._database.write(turn_back)
        except swap_store.StillHeld:
            log.warning("its children wait for their invoices to be gone", txid=txid)
            return set()
        if turned is None:
            return None
        swaps, scripts = turned
        self._chain.mark_changed(scripts)  # their heights, and what spends them, are to be read
        log.warning("the older one confirmed", txid=txid, swaps=len(swaps))
        return swaps

    async def _send_again(self, row: OwnTxRow, tip: Tip) -> set[str]:
        try:
            await self._chain.broadcast(row.raw)
            log.info("sent again", txid=row.txid, purpose=Purpose(row.purpose).name)
            return set()
        except BackendTimeout as error:
            # Not the whole server, as far as is known: the others must not wait for this one.
            log.warning("not sent yet", txid=row.txid, reason=error.message)
            return set()
        except BackendRejected as error:
            reason = error.message
        inputs = {i.outpoint for i in tx.parse(row.raw).inputs}
        rival = await self._lost_parent(inputs, tip) or await self._rival(row.txid, inputs, tip)
        if rival is None:
            # A reason that can pass (fee floor, chain limit, missing parent): later, same bytes.
            log.warning("not accepted yet", txid=row.txid, reason=reason)
            return set()
        try:
            let_go = await self._database.write(lambda session: give_up(session, row.txid))
        except swap_store.StillHeld:
            log.warning("waits for its invoices to be gone", txid=row.txid, rival=rival)
            return set()
        log.warning("given up", txid=row.txid, rival=rival, swaps=len(let_go))
        return let_go

    async def _lost_parent(self, inputs: set[Outpoint], tip: Tip) -> str | None:
        """One of ours that these are of and that can never be, so that nothing ever spends them."""
        parents = {o.txid for o in inputs}
        buried_at = tip.height - self._final_confs + 1
        return await self._database.read(lambda s: own_tx_store.lost(s, parents, buried_at))

    async def _rival(self, own_txid: str, inputs: set[Outpoint], tip: Tip) -> str | None:
        """Another transaction that spends one of its inputs, buried, read from the chain now."""
        try:
            parents = await self._chain.transactions(sorted({o.txid for o in inputs}))
            scripts = {
                tx.parse(parents[o.txid]).outputs[o.vout].script_pubkey
                for o in inputs
                if o.txid in parents
            }
            found, _refused = await histories(self._chain, sorted(scripts))
            buried = {
                item.txid
                for history in found.values()
                for item in history
                if item.txid != own_txid
                and item.height is not None
                and tip.height - item.height + 1 >= self._final_confs
            }
            rivals = await self._chain.transactions(sorted(buried))
            if await self._chain.tip() != tip:
                return None
        except BackendError as error:
            log.warning("cannot look for a rival", txid=own_txid, reason=error.message)
            return None
        for txid, raw in rivals.items():
            if any(i.outpoint in inputs for i in tx.parse(raw).inputs):
                return txid
        return None


def _scripts_of(raw: bytes) -> list[bytes]:
    """The scripts that a transaction pays to, each once, from the last output to the first."""
    outputs = [o for o in tx.parse(raw).outputs if not o.is_fee]
    return list(dict.fromkeys(o.script_pubkey for o in reversed(outputs)))[:SCRIPTS_TRIED]


def _give_back_change(session: Transaction, txid: str, older: tx.Transaction) -> None:
    """The wallet has the outputs of the older transaction again, in the place of the newer one's.

    Both pay the same scripts, output by output; only the L-BTC change differs in value.
    """
    newer = coin_store.coins_of(session, {txid})
    coin_store.drop_coins_of(session, txid)
    there = {c.outpoint for c in coin_store.coins_of(session, {older.txid})}
    coins = [
        replace(
            coin,
            outpoint=Outpoint(older.txid, coin.outpoint.vout),
            value=older.outputs[coin.outpoint.vout].value or 0,
        )
        for coin in newer
    ]
    coin_store.add_own_coins(session, [c for c in coins if c.outpoint not in there])


def _fail_overdue(session: Transaction, txid: str) -> set[str]:
    """Swaps of a dead funding for which a refund was signed: no invoice may be made for them again.

    Their lock is gone with its funding, so nothing of theirs is left.
    """
    failed: set[str] = set()
    for swap in swap_store.funded_by(session, txid):
        if swap.state is State.CREATED and swap.invoice_mark is InvoiceMark.REFUNDING:
            after = replace(
                swap,
                state=State.FAILED,
                finished=True,
                funding_txid=None,
                asset_vout=None,
                subsidy_vout=None,
                refund_lock_height=None,
            )
            cause = "its funding cannot confirm any more, and its time is over"
            swap_store.save(session, swap, after, cause=cause, txid=txid)
            failed.add(swap.swap_id)
    return failed


def give_up(session: Transaction, txid: str) -> set[str]:
    """Abandon a transaction that cannot confirm any more, and all of ours that spend from it.

    Returns the ids of swaps that wait for funding again or have failed. Raises `swaps.StillHeld`,
    which undoes everything, while one of those swaps has an invoice or is not back in CREATED.
    """
    let_go = _fail_overdue(session, txid) | swap_store.unbind_funding(session, txid)
    for child in coin_store.live_children(session, txid):
        let_go |= give_up(session, child)
    own_tx_store.set_state(session, txid, TxState.ABANDONED)
    coin_store.free_outpoints(session, txid)
    coin_store.drop_coins_of(session, txid)
    return let_go
