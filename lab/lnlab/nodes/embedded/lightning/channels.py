"""A channel between two nodes: balances, HTLCs under way, and what each side can spend.

The arithmetic (reserve, fee of the commitment transaction, fee-spike buffer) is that of
lightningd/peer_control.c and common/initial_commit_tx.h, for static_remotekey on Elements.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .bolt11 import CURRENCY, bech32_encode, to_groups

FEERATE_PER_KW = 1005
DUST_LIMIT_SATS = 546
CLTV_EXPIRY_DELTA_BLOCKS = 6
FEE_BASE_MSAT = 1
FEE_PPM = 10
MAX_ACCEPTED_HTLCS = 483
_U64_MAX = 2**64 - 1
# PSET version 2 with transaction version 2 and no inputs or outputs: the embedded network makes no
# funding transaction, and the field must be a PSET.
_EMPTY_PSET = base64.b64encode(
    b"pset\xff\x01\x02\x04\x02\x00\x00\x00\x01\x04\x01\x00\x01\x05\x01\x00\x01\xfb\x04\x02\x00\x00\x00\x00"
).decode()


def _marginal_feerate(per_kw: int) -> int:
    """Feerate that a channel must still afford: twice as much at 253, a tenth more at 45,000."""
    share = 1.0 - (per_kw - 253) / (45000 - 253) * 0.9
    return int(per_kw + share * per_kw)


def _elements_overhead_weight(outputs: int) -> int:
    """Weight that Elements adds to a one-input transaction: proofs, assets, the fee output."""
    return 8 + 36 + 140 * (outputs + 1) + 6


def _commitment_fee_sats(per_kw: int, htlcs: int) -> int:
    weight = 724 + 172 * htlcs + _elements_overhead_weight(2 + htlcs)
    return per_kw * weight // 1000


def _is_trimmed(amount_msat: int, *, offered: bool) -> bool:
    """Whether an HTLC is too small for an output of its own in the commitment transaction."""
    weight = (663 if offered else 703) + _elements_overhead_weight(1)
    return amount_msat < 1000 * (DUST_LIMIT_SATS + FEERATE_PER_KW * weight // 1000)


@dataclass(frozen=True)
class Htlc:
    """An HTLC that the payee has not settled. It fails back at block height `cltv_expiry`."""

    ident: int
    sender: str
    amount_msat: int
    payment_hash: bytes
    cltv_expiry: int


@dataclass
class Side:
    """What one end of a channel has and has done. Balances exclude HTLCs under way."""

    balance_msat: int
    least_msat: int
    most_msat: int
    payments_offered: int = 0
    offered_msat: int = 0
    payments_fulfilled: int = 0
    fulfilled_msat: int = 0


@dataclass
class Channel:
    """A channel funded by `opener` alone. Node names and ids are compressed public keys in hex."""

    opener: str
    acceptor: str
    capacity_sats: int
    pushed_sats: int
    short_channel_id: str
    opened_at: float
    sides: dict[str, Side] = field(init=False)
    htlcs: dict[int, Htlc] = field(default_factory=dict)
    _next_htlc: int = 0

    def __post_init__(self) -> None:
        pushed_msat = self.pushed_sats * 1000
        rest_msat = self.capacity_msat - pushed_msat
        self.sides = {
            self.opener: Side(rest_msat, rest_msat, rest_msat),
            self.acceptor: Side(pushed_msat, pushed_msat, pushed_msat),
        }

    @property
    def capacity_msat(self) -> int:
        """Both balances and all HTLCs together."""
        return self.capacity_sats * 1000

    @property
    def reserve_msat(self) -> int:
        """What each side must keep: one per cent, never under the dust limit."""
        return max(self.capacity_sats // 100, DUST_LIMIT_SATS) * 1000

    def other(self, node_id: str) -> str:
        """The other end."""
        return self.acceptor if node_id == self.opener else self.opener

    def direction(self, node_id: str) -> int:
        """0 when the node has the lower id of the two, else 1."""
        return 0 if node_id < self.other(node_id) else 1

    def _spike_fee_msat(self, amount_msat: int, payer: str) -> int:
        kept = sum(
            not _is_trimmed(h.amount_msat, offered=h.sender == payer) for h in self.htlcs.values()
        )
        kept += not _is_trimmed(amount_msat, offered=True)
        return _commitment_fee_sats(_marginal_feerate(FEERATE_PER_KW), kept + 1) * 1000

    def spendable_msat(self, node_id: str) -> int:
        """The largest payment that this side can make now. HTLCs it offered are already off."""
        spendable_msat = self.sides[node_id].balance_msat - self.reserve_msat
        if spendable_msat > 0 and node_id == self.opener:
            spendable_msat -= self._spike_fee_msat(spendable_msat, node_id)
        return max(spendable_msat, 0)

    def offer(self, sender: str, amount_msat: int, payment_hash: bytes, cltv_expiry: int) -> Htlc:
        """Take the amount from the sender's balance into an HTLC."""
        htlc = Htlc(self._next_htlc, sender, amount_msat, payment_hash, cltv_expiry)
        self._next_htlc += 1
        self.htlcs[htlc.ident] = htlc
        side = self.sides[sender]
        side.balance_msat -= amount_msat
        side.payments_offered += 1
        side.offered_msat += amount_msat
        return htlc

    def fulfil(self, htlc: Htlc) -> None:
        """The payee has shown the preimage: the amount is its own."""
        del self.htlcs[htlc.ident]
        payee_id = self.other(htlc.sender)
        sender, payee = self.sides[htlc.sender], self.sides[payee_id]
        payee.balance_msat += htlc.amount_msat
        payee.most_msat = max(payee.most_msat, self.to_us_msat(payee_id))
        sender.least_msat = min(sender.least_msat, self.to_us_msat(htlc.sender))
        sender.payments_fulfilled += 1
        sender.fulfilled_msat += htlc.amount_msat

    def fail(self, htlc: Htlc) -> None:
        """The payment failed or timed out: the amount goes back."""
        del self.htlcs[htlc.ident]
        self.sides[htlc.sender].balance_msat += htlc.amount_msat

    def to_us_msat(self, node_id: str) -> int:
        """Balance as lightningd counts it: HTLCs that this side offered are still its own."""
        offered_msat = sum(h.amount_msat for h in self.htlcs.values() if h.sender == node_id)
        return self.sides[node_id].balance_msat + offered_msat

    def _derived(self, purpose: str) -> bytes:
        text = f"{purpose} {self.opener} {self.acceptor} {self.short_channel_id}"
        return hashlib.sha256(text.encode()).digest()

    def _last_fee_msat(self) -> int:
        """Fee of the latest commitment transaction: what its whole-satoshi outputs leave over."""
        opener_msat = self.sides[self.opener].balance_msat
        kept = [h for h in self.htlcs.values() if not _is_trimmed(h.amount_msat, offered=True)]
        fee_sats = _commitment_fee_sats(FEERATE_PER_KW, len(kept))
        outputs_msat = (opener_msat - fee_sats * 1000, self.sides[self.acceptor].balance_msat)
        paid_out_sats = sum(h.amount_msat // 1000 for h in kept)
        paid_out_sats += sum(o // 1000 for o in outputs_msat if o // 1000 >= DUST_LIMIT_SATS)
        return (self.capacity_sats - paid_out_sats) * 1000

    def as_json(self, node_id: str, *, connected: bool, reconnected: bool) -> dict[str, Any]:
        """The channel as listpeerchannels of that node shows it, in lightningd's order.

        `reconnected` says that it was connected again since it was opened.
        """
        ours, theirs = self.sides[node_id], self.sides[self.other(node_id)]
        opened_by_us = node_id == self.opener
        funding_txid = self._derived("funding")
        close_to = b"\x00\x14" + self._derived(f"close {node_id}")[:20]
        pushed_msat = self.pushed_sats * 1000
        answer: dict[str, Any] = {"peer_id": self.other(node_id), "peer_connected": connected}
        if connected:
            answer["reestablished"] = True
        answer |= {
            "channel_type": {"bits": [12], "names": ["static_remotekey/even"]},
            "ignore_fee_limits": True,
            "updates": {"local": self._update(), "remote": self._update()},
            "last_stable_connection": int(self.opened_at),
            "state": "CHANNELD_NORMAL",
            "scratch_txid": self._derived(f"commitment {ours}").hex(),
            "last_tx_fee_msat": self._last_fee_msat(),
            "lost_state": False,
            "feerate": {"perkw": FEERATE_PER_KW, "perkb": FEERATE_PER_KW * 4},
        }
        if connected:
            answer["owner"] = "channeld"
        answer |= {
            "short_channel_id": self.short_channel_id,
            "direction": self.direction(node_id),
            "channel_id": funding_txid[::-1].hex(),
            "funding_txid": funding_txid.hex(),
            "funding_outnum": 0,
            "close_to_addr": bech32_encode(CURRENCY, b"\x00" + to_groups(close_to[2:])),
            "close_to": close_to.hex(),
            "private": False,
            "opener": "local" if opened_by_us else "remote",
            "alias": {
                "local": self._alias(node_id),
                "remote": self._alias(self.other(node_id)),
            },
            "features": ["option_static_remotekey"],
            "funding": {
                "local_funds_msat": self.capacity_msat if opened_by_us else 0,
                "remote_funds_msat": 0 if opened_by_us else self.capacity_msat,
                "pushed_msat": pushed_msat,
                **({"psbt": _EMPTY_PSET} if opened_by_us else {}),
                "withheld": False,
            },
            "to_us_msat": self.to_us_msat(node_id),
            "min_to_us_msat": ours.least_msat,
            "max_to_us_msat": ours.most_msat,
            "total_msat": self.capacity_msat,
            "fee_base_msat": FEE_BASE_MSAT,
            "fee_proportional_millionths": FEE_PPM,
            "dust_limit_msat": DUST_LIMIT_SATS * 1000,
            "their_max_htlc_value_in_flight_msat": _U64_MAX,
            "our_max_htlc_value_in_flight_msat": _U64_MAX,
            "their_reserve_msat": self.reserve_msat,
            "our_reserve_msat": self.reserve_msat,
            "spendable_msat": self.spendable_msat(node_id),
            "receivable_msat": self.spendable_msat(self.other(node_id)),
            "minimum_htlc_in_msat": 0,
            "minimum_htlc_out_msat": 0,
            "maximum_htlc_out_msat": self.capacity_msat - self.reserve_msat,
            "their_to_self_delay": 6,
            "our_to_self_delay": 6,
            "max_accepted_htlcs": MAX_ACCEPTED_HTLCS,
            "state_changes": [
                {
                    "timestamp": _iso_time(self.opened_at),
                    "old_state": "CHANNELD_AWAITING_LOCKIN",
                    "new_state": "CHANNELD_NORMAL",
                    "cause": "user" if opened_by_us else "remote",
                    "message": "Lockin complete",
                }
            ],
            "status": [
                *(["CHANNELD_NORMAL:Reconnected, and reestablished."] if reconnected else []),
                *(["CHANNELD_NORMAL:Channel ready for use."] if connected else []),
            ],
            "in_payments_offered": theirs.payments_offered,
            "in_offered_msat": theirs.offered_msat,
            "in_payments_fulfilled": theirs.payments_fulfilled,
            "in_fulfilled_msat": theirs.fulfilled_msat,
            "out_payments_offered": ours.payments_offered,
            "out_offered_msat": ours.offered_msat,
            "out_payments_fulfilled": ours.payments_fulfilled,
            "out_fulfilled_msat": ours.fulfilled_msat,
            "htlcs": [_htlc_json(h, node_id) for h in self.htlcs.values()],
        }
        return answer

    def _update(self) -> dict[str, Any]:
        return {
            "htlc_minimum_msat": 0,
            "htlc_maximum_msat": self.capacity_msat - self.reserve_msat,
            "cltv_expiry_delta": CLTV_EXPIRY_DELTA_BLOCKS,
            "fee_base_msat": FEE_BASE_MSAT,
            "fee_proportional_millionths": FEE_PPM,
        }

    def _alias(self, node_id: str) -> str:
        seed = self._derived(f"alias {node_id}")
        parts = (seed[0:3], seed[3:6], seed[6:8])
        return "x".join(str(int.from_bytes(part, "big")) for part in parts)


def _iso_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _htlc_json(htlc: Htlc, node_id: str) -> dict[str, Any]:
    ours = htlc.sender == node_id
    answer: dict[str, Any] = {
        "direction": "out" if ours else "in",
        "id": htlc.ident,
        "amount_msat": htlc.amount_msat,
        "expiry": htlc.cltv_expiry,
        "payment_hash": htlc.payment_hash.hex(),
        "state": "SENT_ADD_ACK_REVOCATION" if ours else "RCVD_ADD_ACK_REVOCATION",
    }
    if _is_trimmed(htlc.amount_msat, offered=ours):
        answer["local_trimmed"] = True
    return answer
