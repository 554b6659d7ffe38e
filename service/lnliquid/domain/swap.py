"""The domain: a swap, its states and the events that led there.

This module imports nothing of the project and does no I/O.
"""

from dataclasses import dataclass, field, fields
from enum import IntEnum


class State(IntEnum):
    """State of a swap, told as what is true of the money. Its numbers are stored: fixed."""

    CREATED = 1
    """Inventory is reserved; a funding transaction may be signed, sent, unconfirmed."""
    FUNDED = 2
    """The HTLC outputs have the required confirmations; the invoice can be paid."""
    CLAIMED = 3
    """The buyer has the asset; the reservation is spent."""
    REFUNDED = 4
    """The asset is back in inventory."""
    FAILED = 5
    """Nothing is locked, and the reservation is released."""

    @property
    def is_settled(self) -> bool:
        """True when no transition leads on but a reorg's (money rule 6: not yet final)."""
        return self in (State.CLAIMED, State.REFUNDED, State.FAILED)


TRANSITIONS: dict[State, frozenset[State]] = {
    State.CREATED: frozenset({State.FUNDED, State.FAILED}),
    State.FUNDED: frozenset({State.CLAIMED, State.REFUNDED}),
    State.CLAIMED: frozenset(),
    State.REFUNDED: frozenset(),
    State.FAILED: frozenset(),
}
"""What a swap may become, from each state, while the chain grows."""

ROLLBACKS: dict[State, frozenset[State]] = {
    State.CREATED: frozenset(),
    State.FUNDED: frozenset({State.CREATED}),
    State.CLAIMED: frozenset({State.FUNDED}),
    State.REFUNDED: frozenset({State.FUNDED}),
    State.FAILED: frozenset({State.CREATED}),
}
"""What a reorg may undo; only the reconciler takes these."""


class InvoiceMark(IntEnum):
    """What we have done, or seen, about a swap's invoice. Stored *before* it is done.

    An invoice that Lightning does not know is not by itself unpaid: it may have been paid and then
    removed. These marks tell our own doing apart from that. The numbers are stored: fixed.
    """

    NONE = 0
    """Never asked for, at this funding."""
    ASKED = 1
    """Asked for: it may exist, or come into being when a hung node wakes."""
    CLOSED = 2
    """Being deleted, or never to be made: from here on its absence is our doing."""
    PAID = 3
    """Seen paid. Stays, whatever Lightning says later."""
    REFUNDING = 4
    """A refund may be signed. Stays: an invoice is never made again."""
    LOST = 5
    """Shown, and gone by somebody else's doing: it may have been paid first. For the operator."""


class IllegalTransition(Exception):
    """A change of state that neither table allows, or of a final swap: a defect of the program."""


def path(start: State, goal: State) -> tuple[State, ...]:
    """States to pass through from `start` to `goal`, without `start`; empty when they are the same.

    A reorg can move a swap over several steps at once (a refund replaced by a claim is
    `REFUNDED → FUNDED → CLAIMED`), and each step gets its own event. Raises `IllegalTransition`
    when no way leads there.
    """
    paths: list[tuple[State, ...]] = [()]
    seen = {start}
    while paths:
        steps = paths.pop(0)
        here = steps[-1] if steps else start
        if here is goal:
            return steps
        for after in sorted(TRANSITIONS[here] | ROLLBACKS[here]):
            if after not in seen:
                seen.add(after)
                paths.append((*steps, after))
    raise IllegalTransition(f"{start.name} cannot become {goal.name}")


@dataclass(frozen=True, slots=True, order=True)
class Outpoint:
    """A transaction output: txid in display order, index."""

    txid: str
    vout: int

    def __str__(self) -> str:
        return f"{self.txid}:{self.vout}"


@dataclass(frozen=True, slots=True)
class Tip:
    """The best block as the backend tells it. `block_id` changes whenever the block does.

    `time` is its header's, unix seconds; 0, which is too old for anything, where it is not known.
    """

    height: int
    block_id: str
    time: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Coin:
    """A spendable output of the seller's (or buyer's) wallet, explicit.

    `branch`, `index`: derivation of its key. `height` is None while unconfirmed.
    """

    outpoint: Outpoint
    asset_id: str
    value: int
    branch: int
    index: int
    height: int | None


@dataclass(frozen=True, slots=True)
class Pending:
    """An unconfirmed transaction of ours; `parents` are the txids that it spends from."""

    txid: str
    vsize: int
    parents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Swap:
    """One sale as stored. Amounts: smallest unit of the asset, sat, msat. Times: unix seconds."""

    swap_id: str
    request_id: str
    key_index: int
    state: State
    asset_id: str
    asset_amount: int
    subsidy_sats: int
    total_price_msat: int
    max_total_price_msat: int
    min_funding_confs: int
    max_ln_cltv_blocks: int
    buyer_claim_address: str
    buyer_key_hash: bytes
    seller_key_hash: bytes
    payment_hash: bytes
    created_at: int
    fee_share_sats: int = 0
    refund_lock_height: int | None = None
    """Chosen when the funding is signed, so that a late funding does not eat the buyer's time."""
    funding_txid: str | None = None
    asset_vout: int | None = None
    subsidy_vout: int | None = None
    bolt11: str | None = None
    invoice_expires_at: int | None = None
    invoice_mark: InvoiceMark = InvoiceMark.NONE
    spend_txid: str | None = None
    """Transaction that spends the asset output, as last seen."""
    paid_unclaimed: bool = False
    """Paid, or perhaps paid (`LOST`), and not claimed: needs the operator.

    That is past its lock height, or when its funding was abandoned.
    """
    finished: bool = False
    """Every output's spend is buried (money rule 6): watching has ended."""
    final_height: int | None = None
    """Height of the later spend when the swap was final last; of a failed one, at or below which
    its funding was spent away. Kept when a chain incident reopens it: a swap that has one and is
    not finished is a reopened one."""
    forced_refund_reason: str | None = None
    """Set by the operator to refund a swap that was paid and not claimed."""

    @property
    def ids(self) -> dict[str, str]:
        """What names this swap in a line of the log; nothing of it is secret."""
        return {
            "swap_id": self.swap_id,
            "request_id": self.request_id,
            "payment_hash": self.payment_hash.hex(),
        }

    @property
    def is_waiting(self) -> bool:
        """True while no funding transaction exists for it: its amounts are reserved."""
        return self.state is State.CREATED and not self.finished and self.funding_txid is None

    @property
    def lbtc_sats(self) -> int:
        """What is reserved of L-BTC while it waits: the subsidy and its share of the fees."""
        return self.subsidy_sats + self.fee_share_sats

    @property
    def is_reopened(self) -> bool:
        """True while a swap that was final is watched again, see `watchers/chain_incidents`."""
        return self.final_height is not None and not self.finished

    @property
    def asset_outpoint(self) -> Outpoint | None:
        """The HTLC output that holds the asset, once funded on paper."""
        if self.funding_txid is None or self.asset_vout is None:
            return None
        return Outpoint(self.funding_txid, self.asset_vout)

    @property
    def subsidy_outpoint(self) -> Outpoint | None:
        """The HTLC output that holds the L-BTC for the claim fee."""
        if self.funding_txid is None or self.subsidy_vout is None:
            return None
        return Outpoint(self.funding_txid, self.subsidy_vout)


@dataclass(frozen=True, slots=True)
class Request:
    """What a buyer asked for: the parameters that `request_id` stands for."""

    request_id: str
    asset_id: str
    asset_amount: int
    buyer_claim_address: str
    min_funding_confs: int
    max_total_price_msat: int

    def differing_fields(self, swap: Swap) -> tuple[str, ...]:
        """Names of the parameters in which this request differs from the swap that exists."""
        return tuple(
            f.name
            for f in fields(self)
            if f.name != "request_id" and getattr(self, f.name) != getattr(swap, f.name)
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the event log. `from_state` is None for the first.

    It is `to_state` where the state stays: a swap became final, or was reopened.
    """

    seq: int
    swap_id: str
    from_state: State | None
    to_state: State
    cause: str
    txid: str | None
    height: int | None
    at: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What the seller sells now, and the rules it will keep. Same units as `Swap`."""

    network: str
    asset_id: str
    asset_precision: int
    price_msat_per_asset_unit: int
    min_swap_amount: int
    max_swap_amount: int
    available_amount: int
    fee_subsidy_sats: int
    refund_delta_blocks: int
    invoice_expiry_secs: int
    max_min_funding_confs: int
    max_ln_cltv_blocks: int
    claim_margin_blocks: int
    lightning_node_id: str
    price_valid_until: int = 0
    """Unix seconds; 0 while the price has no end."""
