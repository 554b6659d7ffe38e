"""T2 for every transaction of ours: stored whole, with all that it takes and gives, then sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Coin, Outpoint
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import tx_builder
from lnliquid.liquid.keys import CHANGE
from lnliquid.store import coins as coin_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.wallet import NEXT_INDEX

log = structlog.get_logger()

FUNDINGS = (Purpose.FUNDING, Purpose.LANES)
FEE_REASONS = ("min relay fee not met", "mempool min fee not met", "insufficient fee")
"""How elementsd words that a fee is too low for it, the last for a replacement: each node asks for
what more it likes (`-incrementalrelayfee`; Elements `validation.cpp`)."""


@dataclass(frozen=True, slots=True)
class ToStore:
    """A signed transaction, and what its T2 takes and gives.

    `coins` of the wallet and `outpoints` that are not its own are bound to it; `change` are the
    wallet's new coins. `indexes`: the first of its change indexes, and how many. One that
    `replaces` another takes the inputs, change and swaps of that one.
    """

    signed: tx_builder.Signed
    purpose: Purpose
    coins: tuple[Coin, ...]
    change: tuple[Coin, ...]
    indexes: tuple[int, int] | None = None
    outpoints: tuple[Outpoint, ...] = ()
    replaces: str | None = None

    @property
    def txid(self) -> str:
        """Of the signed transaction."""
        return self.signed.txid

    def write(self, session: Transaction, height: int) -> None:
        """T2, in a transaction of the caller. Raises `CoinsGone`."""
        tx_store.add(
            session,
            txid=self.txid,
            raw=self.signed.raw,
            purpose=self.purpose,
            fee_sats=self.signed.fee_sats,
            vsize=self.signed.vsize,
            signed_height=height,
            replaces=self.replaces,
        )
        if self.indexes is not None:
            coin_store.take_indexes(session, NEXT_INDEX[CHANGE], *self.indexes)
        if self.replaces is not None:
            tx_store.point_to(session, self.replaces, self.txid)
        coin_store.bind_coins(session, self.coins, self.txid)
        coin_store.bind_outpoints(session, self.outpoints, self.txid)
        if self.replaces is not None:
            values = {c.outpoint.vout: c.value for c in self.change}
            coin_store.move_coins(session, self.replaces, self.txid, values)
        else:
            coin_store.add_own_coins(session, self.change)


@dataclass(eq=False)
class Outbox:
    """Stores and sends. From the commit on only the stored bytes are sent (money rule 1)."""

    database: Database
    chain: Chain
    underpaid: set[str] = field(default_factory=set, init=False)
    """Those that a node refused for their fee since they were last looked at."""
    fee_refusals: dict[str, str] = field(default_factory=dict, init=False)
    """What the node said to those that it last refused for their fee."""

    async def store(
        self,
        items: Sequence[ToStore],
        height: int,
        also: Callable[[Transaction], None] = lambda _session: None,
    ) -> None:
        """Commit all of them, and what `also` writes, in one transaction. `height`: the tip's.

        Raises `CoinsGone` when they are to be planned anew, `StoreFailure`, and `BackendError` when
        the deposits that they spend cannot be had; `ReplicaFailure` when another than a refund is
        stored and not on the replica: the tracker sends it when it is.
        """
        deposits = await self._deposits([c for item in items for c in item.coins])

        def write(session: Transaction) -> None:
            for coin, raw in deposits:
                _keep_deposit(session, coin, raw, height)
            for item in items:
                item.write(session, height)
            also(session)

        # A copy that does not know a funding would fund its swaps again. A refund is known by its
        # witness, and late is worse.
        on_replica = any(item.purpose is not Purpose.REFUND for item in items)
        kind = " and ".join(sorted({item.purpose.name.lower() for item in items}))
        await self.database.write(write, on_replica=on_replica, kind=kind)

    async def _deposits(self, coins: Sequence[Coin]) -> list[tuple[Coin, bytes]]:
        """The coins whose transactions are not followed yet, one of each, with its bytes.

        Those were made by others, or came back after they were abandoned. T2 keeps them.
        """
        made_by = {coin.outpoint.txid: coin for coin in coins}
        known = await self.database.read(lambda s: tx_store.standing_for(s, made_by.keys()))
        wanted = sorted(made_by.keys() - known.keys())
        if not wanted:
            return []
        raws = await self.chain.transactions(wanted, strict=True)
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
            await self.chain.broadcast(raw)
        except BackendTimeout as error:
            log.warning("broadcast failed", txid=txid, reason=error.message)
            return None
        except BackendRejected as error:
            log.warning("transaction refused", txid=txid, reason=error.message)
            self.fee_refusals.pop(txid, None)
            if any(reason in error.message for reason in FEE_REASONS):
                self.underpaid.add(txid)
                self.fee_refusals[txid] = error.message
            await self._answered(txid, TxState.REFUSED)
            return False
        self.fee_refusals.pop(txid, None)
        await self._answered(txid, TxState.ACCEPTED)
        return True

    async def refused_funding(self) -> str | None:
        """Why the node takes a funding of ours at no fee that we pay; None when it takes all.

        Of each family the version counts that stands.
        """
        if not self.fee_refusals:
            return None
        refusals = self.fee_refusals
        refused = await self.database.read(lambda s: tx_store.refused(s, refusals.keys()))
        self.fee_refusals = {txid: refusals[txid] for txid in refused if txid in refusals}
        funding = next((txid for txid, purpose in refused.items() if purpose in FUNDINGS), None)
        return None if funding is None else f"the node refuses {funding}: {refusals[funding]}"

    async def first_send(self, signed: tx_builder.Signed) -> bool:
        """The same right after T2: what cannot be sent now, the watcher sends."""
        try:
            return await self.send(signed.txid, signed.raw) is True
        except BackendUnavailable as error:
            log.warning("broadcast failed", txid=signed.txid, reason=error.message)
            return False

    async def _answered(self, txid: str, state: TxState) -> None:
        await self.database.write(lambda s: tx_store.mark_sent(s, txid, state))


def _keep_deposit(session: Transaction, coin: Coin, raw: bytes, height: int) -> None:
    """Follow and keep a deposit from now on: what we build on it lives and dies with it."""
    tx_store.add(
        session,
        txid=coin.outpoint.txid,
        raw=raw,
        purpose=Purpose.DEPOSIT,
        fee_sats=0,
        vsize=parse_transaction(raw).vsize,
        signed_height=height,
    )
    tx_store.set_state(session, coin.outpoint.txid, TxState.CONFIRMED, coin.height)
