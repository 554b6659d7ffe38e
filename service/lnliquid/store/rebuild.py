"""Rows that a rescue puts back: swaps, their requests, our transactions, the wallet's coins.

Every function works inside a transaction that the caller opened, and none overwrites a row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import delete, select
from sqlmodel import col

from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.coins import SeenCoin
from lnliquid.store.rows import FIELDS, event_values
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import (
    LIVING,
    EventRow,
    OutpointRow,
    Purpose,
    RequestRow,
    ReservationRow,
    SwapRow,
    TxState,
)
from lnliquid.swap import Coin, Outpoint, State, Swap, path


@dataclass(frozen=True, slots=True)
class OldTx:
    """A transaction of ours as it is to be stored. `own_coins`: what pays the wallet, if unseen."""

    txid: str
    raw: bytes
    purpose: Purpose
    state: TxState
    fee_sats: int
    vsize: int
    height: int | None
    inputs: tuple[Outpoint, ...]
    replaces: str | None = None
    own_coins: tuple[Coin, ...] = ()

    @property
    def is_living(self) -> bool:
        """True when it is to confirm, or has."""
        return self.state in LIVING


@dataclass(frozen=True, slots=True)
class OldSwap:
    """A swap as it is to be stored, and why. `before`: the row that there is, None for none."""

    swap: Swap
    before: Swap | None
    cause: str
    txid: str | None
    height: int | None
    parameter_hash: bytes


def put_own_tx(tx: Transaction, old: OldTx, signed_height: int) -> None:
    """Keep the bytes of a transaction of ours; a living one owns its inputs from now on.

    What owned them until now cannot confirm beside it and gives them up, see `displace`.
    """
    if old.is_living:
        displace(tx, old)
    own_tx_store.add(
        tx,
        txid=old.txid,
        raw=old.raw,
        purpose=old.purpose,
        fee_sats=old.fee_sats,
        vsize=old.vsize,
        signed_height=old.height if old.height is not None else signed_height,
        replaces=old.replaces,
    )
    own_tx_store.set_state(tx, old.txid, old.state, old.height)
    if old.is_living:
        coin_store.bind_outpoints(tx, old.inputs, old.txid)
        coin_store.add_own_coins(tx, old.own_coins)


def displace(tx: Transaction, old: OldTx) -> None:
    """Take the inputs of this transaction from those that the store thought would spend them.

    The swaps of such a one fail in `swaps.fail_held`, when those that moved on have.
    """
    wanted = {(o.txid, o.vout) for o in old.inputs}
    rows = tx.scalars(
        select(OutpointRow).where(
            col(OutpointRow.live).is_(True), col(OutpointRow.txid).in_({t for t, _ in wanted})
        )
    ).all()
    for rival in {row.owner_txid for row in rows if (row.txid, row.vout) in wanted}:
        _abandon(tx, rival, TxState.REPLACED if rival == old.replaces else TxState.ABANDONED)


def _abandon(tx: Transaction, txid: str, state: TxState) -> None:
    for child in coin_store.live_children(tx, txid):
        _abandon(tx, child, TxState.ABANDONED)
    own_tx_store.set_state(tx, txid, state)
    coin_store.free_outpoints(tx, txid)
    coin_store.drop_coins_of(tx, txid)


def put_swap(tx: Transaction, old: OldSwap) -> None:
    """Insert a swap with its request and the events that led there, or change the row it has."""
    swap, before = old.swap, old.before
    if before is None:
        tx.add(SwapRow(**{name: getattr(swap, name) for name in FIELDS}))
        tx.flush()
        tx.add(
            RequestRow(
                request_id=swap.request_id,
                parameter_hash=old.parameter_hash,
                swap_id=swap.swap_id,
            )
        )
        tx.flush()
        cause = "rebuilt by `lnliquid rescue`"
        steps = [(None, State.CREATED), *_steps(State.CREATED, swap.state)]
        for here, step in steps:
            row = event_values(
                tx,
                swap.swap_id,
                here,
                step,
                cause if here is None else old.cause,
                None if here is None else old.txid,
                None if here is None else old.height,
            )
            tx.add(EventRow(**row))
            tx.flush()
    elif not swap_store.save(
        tx, before, swap, cause=old.cause, txid=old.txid, height=old.height
    ):  # the caller read it under the lock of this very process
        raise RuntimeError(f"swap {swap.swap_id} changed while it was rebuilt")
    if swap.funding_txid is not None:
        tx.execute(delete(ReservationRow).where(col(ReservationRow.swap_id) == swap.swap_id))


def _steps(start: State, goal: State) -> list[tuple[State | None, State]]:
    states = [start, *path(start, goal)]
    return list(pairwise(states))


def put_coins(tx: Transaction, seen: Iterable[tuple[tuple[int, int], Sequence[SeenCoin]]]) -> None:
    """Make the stored coins of these addresses (branch, index) what the chain shows."""
    for (branch, index), coins in seen:
        coin_store.replace_script_coins(tx, branch, index, coins)


def raise_cursor(tx: Transaction, name: str, least: int) -> None:
    """A named number becomes at least this."""
    if coin_store.cursor(tx, name) < least:
        coin_store.set_cursor(tx, name, least)
