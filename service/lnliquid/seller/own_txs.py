"""Our own transactions after they were stored: seen, confirmed, sent again, or given up.

From the commit that stored it on, a transaction's bytes are sent until it confirms; a reorg that
takes it out of the chain makes it be sent again.
"""

import structlog

from lnliquid.errors import BackendError, BackendRejected
from lnliquid.liquid import tx
from lnliquid.ports import Chain
from lnliquid.seller.observe import histories
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import OwnTxRow, Purpose, TxState
from lnliquid.swap import Tip

log = structlog.get_logger()

REORG_BLOCKS = 12
"""Confirmed transactions are looked at again until they are buried this deep."""


class OwnTxs:
    """Follows stored transactions by the script of their first output."""

    def __init__(self, database: Database, chain: Chain, final_confs: int) -> None:
        self._database = database
        self._chain = chain
        self._final_confs = final_confs
        self._scripts: dict[str, bytes] = {}

    async def check(self, tip: Tip) -> set[str]:
        """Look at every transaction that may still change. Returns the ids of swaps let go.

        Raises `BackendError` when the chain cannot be read; one refused broadcast does not.
        """
        rows = await self._database.read(
            lambda session: [
                row
                for row in swap_store.own_txs(session, (TxState.SIGNED, TxState.CONFIRMED))
                if row.state == TxState.SIGNED or (row.height or 0) > tip.height - REORG_BLOCKS
            ]
        )
        if not rows:
            return set()
        for row in rows:
            if row.txid not in self._scripts:
                self._scripts[row.txid] = tx.parse(row.raw).outputs[0].script_pubkey
        found, _refused = await histories(
            self._chain, sorted({self._scripts[row.txid] for row in rows})
        )
        moved: list[tuple[str, TxState, int | None]] = []
        unseen: list[OwnTxRow] = []
        for row in rows:
            items = {i.txid: i for i in found.get(self._scripts[row.txid], ())}
            item = items.get(row.txid)
            height = item.height if item else None
            state = TxState.SIGNED if height is None else TxState.CONFIRMED
            if (row.state, row.height) != (int(state), height):
                moved.append((row.txid, state, height))
            if item is None and self._scripts[row.txid] in found:
                unseen.append(row)
        if moved:

            def store(session: Transaction) -> None:
                for txid, state, height in moved:
                    swap_store.set_own_tx(session, txid, state, height)

            await self._database.write(store)
        let_go: set[str] = set()
        for row in unseen:
            let_go |= await self._send_again(row, tip)
        self._scripts = {row.txid: self._scripts[row.txid] for row in rows}
        return let_go

    async def _send_again(self, row: OwnTxRow, tip: Tip) -> set[str]:
        try:
            await self._chain.broadcast(row.raw)
            log.info("sent again", txid=row.txid, purpose=Purpose(row.purpose).name)
        except BackendRejected as error:
            let_go = await self._give_up_if_dead(row, tip)
            if let_go is None:
                # A reason that can pass (fee floor, chain limit, missing parent): later.
                log.warning("not accepted yet", txid=row.txid, reason=error.message)
                return set()
            log.warning("given up: an input is spent otherwise", txid=row.txid, swaps=len(let_go))
            return let_go
        except BackendError as error:
            log.warning("not sent", txid=row.txid, reason=error.message)
        return set()

    async def _give_up_if_dead(self, row: OwnTxRow, tip: Tip) -> set[str] | None:
        """Abandon a funding whose coin something else spent, buried; None when it may yet live."""
        buried = tip.height - self._final_confs + 1

        def abandon(session: Transaction) -> set[str] | None:
            if not coin_store.spent_otherwise(session, row.txid, buried):
                return None
            swap_store.set_own_tx(session, row.txid, TxState.ABANDONED)
            coin_store.free_outpoints(session, row.txid)
            coin_store.drop_coins_of(session, row.txid)
            return swap_store.unbind_funding(session, row.txid)

        return await self._database.write(abandon)
