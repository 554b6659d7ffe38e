"""What `lnliquid audit --fix` may mend. Pure.

Safe is what no coin, invoice or claim hangs on: a reservation that nothing waits for, or that a
waiting swap lacks; the last event of a log; the row of a request, which follows from its swap; the
fee that a stored transaction says itself that it pays. Nothing here sends, signs, frees a coin,
changes a state or an invoice's mark.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from lnliquid.liquid import tx
from lnliquid.store.survey import Reservation, StoreFacts
from lnliquid.swap import Request, State, Swap


@dataclass(frozen=True, slots=True)
class SetReservation:
    """Give the swap this reservation, and no other; None: it has none."""

    swap_id: str
    wanted: Reservation | None

    @property
    def text(self) -> str:
        """What is done."""
        if self.wanted is None:
            return f"remove the reservation of swap {self.swap_id}, which waits for no funding"
        return (
            f"reserve {self.wanted.asset_amount} and {self.wanted.lbtc_sats} sat for swap "
            f"{self.swap_id}, which waits for funding"
        )


@dataclass(frozen=True, slots=True)
class AddEvent:
    """Append the event that a swap's log lacks at its end."""

    swap_id: str
    before: State | None
    after: State

    @property
    def text(self) -> str:
        """What is done."""
        return f"add the event {self.after.name} to the log of swap {self.swap_id}"


@dataclass(frozen=True, slots=True)
class AddRequest:
    """Add the request that a swap answers."""

    request: Request
    swap_id: str

    @property
    def text(self) -> str:
        """What is done."""
        return f"add request {self.request.request_id} of swap {self.swap_id}"


@dataclass(frozen=True, slots=True)
class SetFee:
    """Correct the stored fee of a transaction of ours."""

    txid: str
    fee_sats: int

    @property
    def text(self) -> str:
        """What is done."""
        return f"store the fee of {self.txid} as {self.fee_sats} sat, which its bytes say"


Fix = SetReservation | AddEvent | AddRequest | SetFee


def fixes_of(store: StoreFacts) -> tuple[Fix, ...]:
    """Everything in the store that may be mended without asking the chain."""
    return (*_reservations(store), *_events(store), *_requests(store), *_fees(store))


def reservation_of(swap: Swap) -> Reservation:
    """What is kept for a swap that waits for funding."""
    lbtc_sats = swap.subsidy_sats + swap.fee_share_sats
    return Reservation(swap.swap_id, swap.asset_id, swap.asset_amount, lbtc_sats)


def _reservations(store: StoreFacts) -> Iterator[Fix]:
    waiting = {
        s.swap_id: reservation_of(s)
        for s in store.swaps
        if s.state is State.CREATED and s.funding_txid is None
    }
    there: dict[str, list[Reservation]] = defaultdict(list)
    for item in store.reservations:
        there[item.swap_id].append(item)
    for swap_id in sorted({*waiting, *there}):
        wanted = waiting.get(swap_id)
        if there[swap_id] != ([] if wanted is None else [wanted]):
            yield SetReservation(swap_id, wanted)


def _events(store: StoreFacts) -> Iterator[Fix]:
    last = dict(store.last_states)
    for swap in store.swaps:
        if last.get(swap.swap_id) is not swap.state:
            yield AddEvent(swap.swap_id, last.get(swap.swap_id), swap.state)


def _requests(store: StoreFacts) -> Iterator[Fix]:
    taken = {request_id for request_id, _ in store.requests}
    named = {swap_id for _, swap_id in store.requests}
    asked = Counter(s.request_id for s in store.swaps)
    for swap in store.swaps:
        free = swap.request_id not in taken and asked[swap.request_id] == 1
        if free and swap.swap_id not in named:
            yield AddRequest(Request.of(swap), swap.swap_id)


def _fees(store: StoreFacts) -> Iterator[Fix]:
    for own in store.own_txs:
        transaction = tx.parse(own.raw)
        if transaction.txid == own.txid and transaction.fee_sats != own.fee_sats:
            yield SetFee(own.txid, transaction.fee_sats)
