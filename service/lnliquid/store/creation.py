"""T1: a swap comes into being, with its amounts reserved, or is known already by its request id.

All functions take many at once, with one statement a table and not ten a swap: what the statements
of a burst cost is what a burst costs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select
from sqlmodel import col

from lnliquid.domain.errors import InsufficientInventory, RequestConflict, SwapError, TooManySwaps
from lnliquid.domain.swap import Request, State, Swap
from lnliquid.store import coins
from lnliquid.store.database import Transaction
from lnliquid.store.rows import FIELDS, event_values, swaps_where
from lnliquid.store.tables import EventRow, SwapRow

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
    max_ln_cltv_blocks: int
    policy_asset: str
    max_inflight: int
    keys: Callable[[int], tuple[bytes, bytes]]
    price_msat: Callable[[Transaction], int]
    """The total price at the moment of T1; raises a `SwapError` when it cannot be sold then."""

    @property
    def lbtc_sats(self) -> int:
        """What is reserved of L-BTC."""
        return self.subsidy_sats + self.fee_share_sats


def swap_of_request(tx: Transaction, request: Request) -> Swap | None:
    """The swap that this request id names, None if it is new. Raises `RequestConflict`."""
    [found] = swaps_of_requests(tx, [request])
    if isinstance(found, RequestConflict):
        raise found
    return found


def swaps_of_requests(
    tx: Transaction, requests: Sequence[Request]
) -> list[Swap | RequestConflict | None]:
    """What `swap_of_request` returns or raises, for each of several requests."""
    wanted = {r.request_id for r in requests}
    known = {s.request_id: s for s in swaps_where(tx, col(SwapRow.request_id).in_(wanted))}
    return [
        _same_or_conflict(request, known[request.request_id])
        if request.request_id in known
        else None
        for request in requests
    ]


def _same_or_conflict(request: Request, swap: Swap) -> Swap | RequestConflict:
    differing = request.differing_fields(swap)
    return RequestConflict(request.request_id, differing) if differing else swap


def create(tx: Transaction, new: NewSwap) -> tuple[Swap, bool]:
    """`create_all` for one; a refusal is raised."""
    [outcome] = create_all(tx, [new])
    if isinstance(outcome, SwapError):
        raise outcome
    return outcome


def create_all(tx: Transaction, news: Sequence[NewSwap]) -> list[tuple[Swap, bool] | SwapError]:
    """T1 for many: each swap with its amounts reserved, or the swap that was there.

    An outcome each, as if they had come one after another: (swap, is new), or `RequestConflict`,
    `TooManySwaps`, `InsufficientInventory` or what the price raised, of which nothing is stored.
    """
    remaining = _Remaining(tx)
    next_index = coins.cursor(tx, NEXT_SWAP)
    made: dict[str, Swap] = {}
    outcomes: list[tuple[Swap, bool] | SwapError] = []
    stored = swaps_of_requests(tx, [new.request for new in news])
    for new, known in zip(news, stored, strict=True):
        request = new.request
        if known is None and request.request_id in made:
            known = _same_or_conflict(request, made[request.request_id])
        outcome: Swap | SwapError | None = known
        price_msat = 0
        if known is None:
            try:
                price_msat = new.price_msat(tx)
                outcome = remaining.refusal(new)
            except SwapError as error:
                outcome = error
        if isinstance(outcome, SwapError):
            outcomes.append(outcome)
        elif outcome is not None:
            outcomes.append((outcome, False))
        else:
            swap = _created(new, next_index + len(made), price_msat, tx.now)
            made[request.request_id] = swap
            remaining.take(new)
            outcomes.append((swap, True))
    if made:
        coins.set_cursor(tx, NEXT_SWAP, next_index + len(made))
        _insert(tx, list(made.values()))
    return outcomes


class _Remaining:
    """What can still be promised; counted down while a batch is made."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        unfinished = select(func.count()).where(col(SwapRow.finished).is_(False))
        self._open = tx.execute(unfinished).scalar_one()
        self._assets: dict[str, int] = {}
        self._lbtc_sats: int | None = None

    def refusal(self, new: NewSwap) -> TooManySwaps | InsufficientInventory | None:
        """Why this swap cannot be made now, None when it can."""
        if self._open >= new.max_inflight:
            return TooManySwaps(new.max_inflight)
        asset, amount = new.request.asset_id, new.request.asset_amount
        if asset not in self._assets:
            self._assets[asset] = coins.reservable(self._tx, asset)
        if self._assets[asset] < amount:
            return InsufficientInventory(asset, amount, max(0, self._assets[asset]))
        if self._lbtc_sats is None:
            self._lbtc_sats = coins.reservable_lbtc(self._tx, new.policy_asset)
        lbtc_sats = self._lbtc_sats - new.refund_headroom_sats
        if lbtc_sats < new.lbtc_sats:
            had = max(0, lbtc_sats)
            return InsufficientInventory(new.policy_asset, new.lbtc_sats, had, what="lbtc")
        return None

    def take(self, new: NewSwap) -> None:
        """This swap, which was not refused, is made."""
        assert self._lbtc_sats is not None, "set when it was not refused"
        self._open += 1
        self._assets[new.request.asset_id] -= new.request.asset_amount
        self._lbtc_sats -= new.lbtc_sats


def _created(new: NewSwap, key_index: int, price_msat: int, now: int) -> Swap:
    request = new.request
    payment_hash, seller_key_hash = new.keys(key_index)
    return Swap(
        swap_id=new.swap_id,
        request_id=request.request_id,
        key_index=key_index,
        state=State.CREATED,
        asset_id=request.asset_id,
        asset_amount=request.asset_amount,
        subsidy_sats=new.subsidy_sats,
        total_price_msat=price_msat,
        max_total_price_msat=request.max_total_price_msat,
        min_funding_confs=request.min_funding_confs,
        max_ln_cltv_blocks=new.max_ln_cltv_blocks,
        buyer_claim_address=request.buyer_claim_address,
        buyer_key_hash=new.buyer_key_hash,
        seller_key_hash=seller_key_hash,
        payment_hash=payment_hash,
        created_at=now,
        fee_share_sats=new.fee_share_sats,
    )


def _insert(tx: Transaction, swaps: Sequence[Swap]) -> None:
    connection = tx.connection()
    connection.execute(
        insert(SwapRow), [{name: getattr(s, name) for name in FIELDS} for s in swaps]
    )
    cause = "inventory reserved"
    connection.execute(
        insert(EventRow),
        [event_values(tx, s.swap_id, None, State.CREATED, cause, None, None) for s in swaps],
    )
