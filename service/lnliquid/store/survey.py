"""All that the store says of money, read at one moment, for the audit."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import col

from lnliquid.domain.swap import Coin, Outpoint, State, Swap
from lnliquid.domain.withdrawal import Withdrawal
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import withdrawals as withdrawal_store
from lnliquid.store.database import Transaction
from lnliquid.store.tables import (
    LIVING,
    CoinRow,
    CursorRow,
    EventRow,
    OutpointRow,
    OwnTxRow,
    Purpose,
    TxState,
)


@dataclass(frozen=True, slots=True)
class Binding:
    """A coin or an HTLC output that a transaction of ours spends, and whether that still holds."""

    outpoint: Outpoint
    owner_txid: str
    live: bool


@dataclass(frozen=True, slots=True)
class StoredCoin:
    """A wallet output as stored, with what spends it."""

    coin: Coin
    spent_txid: str | None


@dataclass(frozen=True, slots=True)
class OwnTx:
    """A transaction of ours as stored."""

    txid: str
    raw: bytes
    purpose: Purpose
    state: TxState
    fee_sats: int
    height: int | None
    family: str = ""

    @property
    def is_living(self) -> bool:
        """True while it is to confirm, or has."""
        return self.state in LIVING


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The tables that hold money, whole.

    `last_states` is the state that the event log ends with, by swap id.
    """

    swaps: tuple[Swap, ...] = ()
    last_states: tuple[tuple[str, State], ...] = ()
    bindings: tuple[Binding, ...] = ()
    coins: tuple[StoredCoin, ...] = ()
    own_txs: tuple[OwnTx, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    cursors: tuple[tuple[str, int], ...] = ()


def survey(tx: Transaction) -> StoreFacts:
    """Read it all. The cost grows with everything that was ever stored."""
    newest = select(func.max(col(EventRow.seq))).group_by(col(EventRow.swap_id))
    ends = select(col(EventRow.swap_id), col(EventRow.to_state)).where(
        col(EventRow.seq).in_(newest)
    )
    signed = col(OwnTxRow.purpose) != Purpose.DEPOSIT  # a deposit is made by others
    return StoreFacts(
        swaps=tuple(swap_store.everything(tx)),
        last_states=tuple(sorted((swap_id, State(state)) for swap_id, state in tx.execute(ends))),
        bindings=tuple(
            Binding(Outpoint(row.txid, row.vout), row.owner_txid, row.live)
            for row in tx.scalars(select(OutpointRow).order_by(col(OutpointRow.id)))
        ),
        coins=tuple(
            StoredCoin(coin_store.coin_of_row(row), row.spent_txid)
            for row in tx.scalars(select(CoinRow).order_by(col(CoinRow.txid), col(CoinRow.vout)))
        ),
        own_txs=tuple(
            OwnTx(
                row.txid,
                row.raw,
                Purpose(row.purpose),
                TxState(row.state),
                row.fee_sats,
                row.height,
                row.family,
            )
            for row in tx.scalars(select(OwnTxRow).where(signed).order_by(col(OwnTxRow.txid)))
        ),
        withdrawals=tuple(withdrawal_store.everything(tx)),
        cursors=tuple(
            (row.name, row.value)
            for row in tx.scalars(select(CursorRow).order_by(col(CursorRow.name)))
        ),
    )
