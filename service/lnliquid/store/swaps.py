"""Swaps, requests, reservations, our transactions and the event log: what is done to them.

Every function works inside a transaction that the caller opened with `Database.write` or `.read`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

from sqlalchemy import delete, func, select
from sqlmodel import col

from lnliquid.errors import InsufficientInventory, RequestConflict, TooManySwaps
from lnliquid.store import coins
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import (
    EventRow,
    RequestRow,
    ReservationRow,
    SwapRow,
)
from lnliquid.swap import Event, InvoiceMark, Request, State, Swap, path

NEXT_SWAP = "next_swap_index"


@dataclass(frozen=True, slots=True)
class NewSwap:
    """What T1 stores beside the request. `keys`: swap index to (payment hash, key hash)."""

    request: Request
    swap_id: str
    buyer_key_hash: bytes
    subsidy_sats: int
    fee_share_sats: int
    refund_headroom_sats: int
    total_price_msat: int
    max_ln_cltv_blocks: int
    policy_asset: str
    max_inflight: int
    keys: Callable[[int], tuple[bytes, bytes]]


def swap_of_request(tx: Transaction, request: Request) -> Swap | None:
    """The swap that this request id names, None if it is new. Raises `RequestConflict`."""
    row = tx.get(RequestRow, request.request_id)
    if row is None:
        return None
    swap = get(tx, row.swap_id)
    assert swap is not None, "a request row points to its swap by foreign key"
    if row.parameter_hash != request.parameter_hash:
        raise RequestConflict(request.request_id, request.differing_fields(swap))
    return swap


def create(tx: Transaction, new: NewSwap) -> tuple[Swap, bool]:
    """T1: the request, the swap and its reservation, or the swap that was there. (swap, is new)

    Raises `RequestConflict`, `TooManySwaps`, `InsufficientInventory`; then nothing is stored.
    """
    request = new.request
    known = swap_of_request(tx, request)
    if known is not None:
        return known, False
    open_swaps = tx.scalar(
        select(func.count()).select_from(SwapRow).where(col(SwapRow.finished).is_(False))
    )
    if int(open_swaps or 0) >= new.max_inflight:
        raise TooManySwaps(new.max_inflight)
    available = coins.reservable(tx, request.asset_id)
    if available < request.asset_amount:
        raise InsufficientInventory(request.asset_id, request.asset_amount, max(0, available))
    lbtc = new.subsidy_sats + new.fee_share_sats
    available = coins.reservable_lbtc(tx, new.policy_asset) - new.refund_headroom_sats
    if available < lbtc:
        raise InsufficientInventory(new.policy_asset, lbtc, max(0, available), what="lbtc")
    key_index = coins.cursor(tx, NEXT_SWAP)
    coins.set_cursor(tx, NEXT_SWAP, key_index + 1)
    payment_hash, seller_key_hash = new.keys(key_index)
    swap = Swap(
        swap_id=new.swap_id,
        request_id=request.request_id,
        key_index=key_index,
        state=State.CREATED,
        asset_id=request.asset_id,
        asset_amount=request.asset_amount,
        subsidy_sats=new.subsidy_sats,
        total_price_msat=new.total_price_msat,
        max_total_price_msat=request.max_total_price_msat,
        min_funding_confs=request.min_funding_confs,
        max_ln_cltv_blocks=new.max_ln_cltv_blocks,
        buyer_claim_address=request.buyer_claim_address,
        buyer_key_hash=new.buyer_key_hash,
        seller_key_hash=seller_key_hash,
        payment_hash=payment_hash,
        created_at=tx.now,
        fee_share_sats=new.fee_share_sats,
    )
    tx.add(SwapRow(**{name: getattr(swap, name) for name in _FIELDS}))
    tx.flush()
    tx.add(
        RequestRow(
            request_id=request.request_id,
            parameter_hash=request.parameter_hash,
            swap_id=swap.swap_id,
        )
    )
    tx.add(
        ReservationRow(
            swap_id=swap.swap_id,
            asset_id=request.asset_id,
            asset_amount=request.asset_amount,
            lbtc_sats=lbtc,
        )
    )
    tx.add(_event(tx, swap.swap_id, None, State.CREATED, "inventory reserved", None, None))
    tx.flush()
    return swap, True


def get(tx: Transaction, swap_id: str) -> Swap | None:
    """One swap."""
    row = tx.get(SwapRow, swap_id)
    return None if row is None else swap_of_row(row)


class StillHeld(Exception):
    """A funding cannot be given up yet: a swap of it has an invoice or is not back in CREATED."""


def waiting(tx: Transaction, limit: int) -> list[Swap]:
    """Swaps that no funding transaction exists for, oldest first."""
    rows = tx.scalars(
        select(SwapRow)
        .where(col(SwapRow.state) == State.CREATED, col(SwapRow.funding_txid).is_(None))
        .order_by(col(SwapRow.key_index))
        .limit(limit)
    )
    return [swap_of_row(row) for row in rows]


def everything(tx: Transaction) -> list[Swap]:
    """Every swap that there ever was, oldest first."""
    return [
        swap_of_row(row) for row in tx.scalars(select(SwapRow).order_by(col(SwapRow.key_index)))
    ]


def watched(tx: Transaction) -> list[Swap]:
    """Swaps with a funding transaction that are not final."""
    rows = tx.scalars(
        select(SwapRow)
        .where(col(SwapRow.finished).is_(False), col(SwapRow.funding_txid).is_not(None))
        .order_by(col(SwapRow.key_index))
    )
    return [swap_of_row(row) for row in rows]


def events(tx: Transaction, swap_id: str, after: int = 0) -> list[Event]:
    """The event log of one swap, oldest first, from after this sequence number."""
    rows = tx.scalars(
        select(EventRow)
        .where(col(EventRow.swap_id) == swap_id, col(EventRow.seq) > after)
        .order_by(col(EventRow.seq))
    )
    return [
        Event(
            row.seq or 0,
            row.swap_id,
            None if row.from_state is None else State(row.from_state),
            State(row.to_state),
            row.cause,
            row.txid,
            row.height,
            row.at,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class FundedSwap:
    """Where a swap's outputs are in its funding transaction, and its lock height."""

    swap_id: str
    refund_lock_height: int
    asset_vout: int
    subsidy_vout: int


def bind_funding(tx: Transaction, txid: str, funded: Sequence[FundedSwap]) -> None:
    """T2 for the swaps: they belong to this transaction; their amounts are now its inputs."""
    for item in funded:
        row = tx.get(SwapRow, item.swap_id, populate_existing=True)
        if row is None or row.state != State.CREATED or row.funding_txid is not None:
            raise RuntimeError(f"swap {item.swap_id} has a funding transaction already")
        row.funding_txid = txid
        row.refund_lock_height = item.refund_lock_height
        row.asset_vout = item.asset_vout
        row.subsidy_vout = item.subsidy_vout
    tx.execute(
        delete(ReservationRow).where(col(ReservationRow.swap_id).in_([f.swap_id for f in funded]))
    )


def unbind_funding(tx: Transaction, txid: str) -> set[str]:
    """Undo T2 for the swaps of a funding that can no longer confirm; they wait for funding again.

    Returns their ids; their amounts are reserved again, whether coins are left for them or not.
    Raises `StillHeld` while one of them is not back in CREATED with its invoice gone.
    """
    rows = tx.scalars(select(SwapRow).where(col(SwapRow.funding_txid) == txid)).all()
    if any(r.state != State.CREATED or r.invoice_mark != InvoiceMark.NONE for r in rows):
        raise StillHeld(txid)
    for row in rows:
        row.funding_txid = row.asset_vout = row.subsidy_vout = row.refund_lock_height = None
        tx.add(
            ReservationRow(
                swap_id=row.swap_id,
                asset_id=row.asset_id,
                asset_amount=row.asset_amount,
                lbtc_sats=row.subsidy_sats + row.fee_share_sats,
            )
        )
    tx.flush()
    return {row.swap_id for row in rows}


def fail_waiting(tx: Transaction, swap: Swap, cause: str) -> bool:
    """Give up a swap that nothing was ever signed for; its reservation is released."""
    if swap.funding_txid is not None:
        raise ValueError(f"swap {swap.swap_id} has a funding transaction and may not fail")
    return save(tx, swap, replace(swap, state=State.FAILED, finished=True), cause=cause)


def funded_by(tx: Transaction, txid: str) -> list[Swap]:
    """Swaps of a funding transaction."""
    rows = tx.scalars(select(SwapRow).where(col(SwapRow.funding_txid) == txid))
    return [swap_of_row(row) for row in rows]


def with_outputs_in(tx: Transaction, txids: set[str]) -> list[Swap]:
    """Swaps whose HTLC outputs are in one of these transactions."""
    rows = tx.scalars(select(SwapRow).where(col(SwapRow.funding_txid).in_(txids)))
    return [swap_of_row(row) for row in rows]


def save(
    tx: Transaction,
    before: Swap,
    after: Swap,
    *,
    cause: str = "",
    txid: str | None = None,
    height: int | None = None,
) -> bool:
    """Write a changed swap, with an event for every step its state took.

    False, and nothing written, when the stored state is not `before`'s any more: the caller
    decided on an old picture and must look again. Raises `swap.IllegalTransition`.
    """
    row = tx.get(SwapRow, before.swap_id, populate_existing=True)
    if row is None or row.state != before.state or row.funding_txid != before.funding_txid:
        return False
    here = before.state
    for step in path(before.state, after.state):
        tx.add(_event(tx, before.swap_id, here, step, cause, txid, height))
        here = step
    for name in _FIELDS:
        value = getattr(after, name)
        if getattr(before, name) != value:
            setattr(row, name, value)
    if after.state is State.FAILED:
        tx.execute(delete(ReservationRow).where(col(ReservationRow.swap_id) == after.swap_id))
    tx.flush()
    return True


def _event(
    tx: Transaction,
    swap_id: str,
    before: State | None,
    after: State,
    cause: str,
    txid: str | None,
    height: int | None,
) -> EventRow:
    return EventRow(
        swap_id=swap_id,
        from_state=None if before is None else int(before),
        to_state=int(after),
        cause=cause,
        txid=txid,
        height=height,
        at=tx.now,
    )


_FIELDS = [f.name for f in fields(Swap)]


def swap_of_row(row: SwapRow) -> Swap:
    """The domain's swap of a row."""
    values = {name: getattr(row, name) for name in _FIELDS}
    values["state"] = State(values["state"])
    values["invoice_mark"] = InvoiceMark(values["invoice_mark"])
    return Swap(**values)
