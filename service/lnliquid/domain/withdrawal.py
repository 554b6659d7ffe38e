"""Withdrawals: coins of the wallet that the operator sends to an address."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator asks for. `amount` in the smallest unit, None for all there is."""

    request_id: str
    asset_id: str
    amount: int | None
    address: str


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A withdrawal and where it is.

    `amount` is what the address receives. `txid`, `fee_sats`, `height` (None without a block) are
    those of the version that stands for its family. An abandoned one can never confirm.
    """

    order: Order
    amount: int
    script_pubkey: bytes
    txid: str
    fee_sats: int
    height: int | None
    is_abandoned: bool
    created_at: int
