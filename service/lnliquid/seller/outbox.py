"""T2 for every transaction of ours: stored whole, with all that it takes and gives, then sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from lnliquid.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.liquid import tx
from lnliquid.liquid.keys import CHANGE
from lnliquid.ports import Chain
from lnliquid.seller.inventory import NEXT_INDEX
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.swap import Coin, Outpoint

log = structlog.get_logger()

FEE_REASONS = ("min relay fee not met", "mempool min fee not met")
"""How elementsd words that a fee is too low for it (Elements `validation.cpp`)."""


@dataclass(frozen=True, slots=True)
class ToStore:
    """A signed transaction, and what its T2 takes and gives.

    `coins` of the wallet and `outpoints` that are not its own are bound to it; `change` are the
    wallet's new coins. `indexes`: the first of its change indexes, and how many.
    """

    signed: tx.Signed
    purpose: Purpose
    coins: tuple[Coin, ...]
    change: tuple[Coin, ...]
    indexes: tuple[int, int]
    outpoints: tuple[Outpoint, ...] = ()


class Outbox:
    """Stores and sends. From the commit on only the stored bytes are sent (money rule 1)."""

    def __init__(self, database: Database, chain: Chain) -> None:
        self._database = database
        self._chain = chain
        self.underpaid: set[str] = set()
        """Those that a node refused for their fee since they were last looked at."""

    async def store(
        self, to_store: ToStore, height: int, also: Callable[[Transaction], None] | None = None
    ) -> None:
        """Commit it, and what `also` writes, in one transaction. `height`: the tip's.

        Raises `CoinsGone` when it is to be planned anew, `StoreFailure`, and `BackendError` when
        the deposits that it spends cannot be had.
        """
        deposits = await self.deposits(to_store.coins)

        def write(session: Transaction) -> None:
            signed = to_store.signed
            for coin, raw in deposits:
                keep_deposit(session, coin, raw, height)
            own_tx_store.add(
                session,
                txid=signed.txid,
                raw=signed.raw,
                purpose=to_store.purpose,
                fee_sats=signed.fee_sats,
                vsize=signed.vsize,
                signed_height=height,
            )
            coin_store.take_indexes(session, NEXT_INDEX[CHANGE], *to_store.indexes)
            coin_store.bind_coins(session, to_store.coins, signed.txid)
            coin_store.bind_outpoints(session, to_store.outpoints, signed.txid)
            coin_store.add_own_coins(session, to_store.change)
            if also is not None:
                also(session)

        await self._database.write(write)

    async def deposits(self, coins: Sequence[Coin]) -> list[tuple[Coin, bytes]]:
        """The coins whose transactions are not followed yet, one of each, with its bytes.

        Those were made by others, or came back after they were abandoned. T2 keeps them.
        """
        made_by = {coin.outpoint.txid: coin for coin in coins}
        known = await self._database.read(lambda s: own_tx_store.followed(s, list(made_by)))
        wanted = sorted(made_by.keys() - known)
        if not wanted:
            return []
        raws = await self._chain.transactions(wanted, strict=True)
        missing = [txid for txid in wanted if txid not in raws]
        if missing:
            raise coin_store.CoinsGone(f"the deposit {missing[0]} is not in the chain any more")
        return [(made_by[txid], raws[txid]) for txid in wanted]

    async def send(self, txid: str, raw: bytes) -> bool | None:
        """Broadcast stored bytes, and store the node's answer: True when it has them.

        None when no answer came in time: nothing is known then. Raises `BackendUnavailable` when
        there is no connection, and `StoreFailure`.
        """
        try:
            await self._chain.broadcast(raw)
        except BackendTimeout as error:
            log.warning("broadcast failed", txid=txid, reason=error.message)
            return None
        except BackendRejected as error:
            log.warning("transaction refused", txid=txid, reason=error.message)
            if any(reason in error.message for reason in FEE_REASONS):
                self.underpaid.add(txid)
            await self._answered(txid, TxState.REFUSED)
            return False
        await self._answered(txid, TxState.ACCEPTED)
        return True

    async def first_send(self, txid: str, raw: bytes) -> bool:
        """The same right after T2: what cannot be sent now, the watcher sends."""
        try:
            return await self.send(txid, raw) is True
        except BackendUnavailable as error:
            log.warning("broadcast failed", txid=txid, reason=error.message)
            return False

    async def _answered(self, txid: str, state: TxState) -> None:
        await self._database.write(lambda s: own_tx_store.mark_sent(s, txid, state))


def keep_deposit(session: Transaction, coin: Coin, raw: bytes, height: int) -> None:
    """Follow and keep a deposit from now on: what we build on it lives and dies with it."""
    own_tx_store.add(
        session,
        txid=coin.outpoint.txid,
        raw=raw,
        purpose=Purpose.DEPOSIT,
        fee_sats=0,
        vsize=tx.parse(raw).vsize,
        signed_height=height,
    )
    own_tx_store.set_state(session, coin.outpoint.txid, TxState.CONFIRMED, coin.height)
