"""What the buyer's checks read and what they give back: plain values, no I/O."""

from dataclasses import asdict, dataclass
from typing import Any

from lnliquid.swap import Outpoint, State


@dataclass(frozen=True, slots=True)
class SwapReply:
    """A swap as the seller tells it; every field is a claim to be checked, not a fact.

    Hashes and ids are hex as sent, possibly malformed. Amounts: smallest unit, sat, msat. `state`
    is None when it is not one of ours. Fields that are not set yet are empty or 0.
    """

    swap_id: str
    request_id: str
    state: State | None
    asset_id: str
    asset_amount: int
    subsidy_sats: int
    total_price_msat: int
    claim_address: str
    payment_hash: str
    seller_key_hash: str
    refund_lock_height: int
    witness_script: bytes
    funding_txid: str
    asset_vout: int
    subsidy_vout: int
    bolt11: str
    max_ln_cltv_blocks: int
    spend_txid: str

    @property
    def asset_outpoint(self) -> Outpoint:
        """The output that is said to hold the asset."""
        return Outpoint(self.funding_txid, self.asset_vout)

    @property
    def subsidy_outpoint(self) -> Outpoint:
        """The output that is said to hold the L-BTC for the claim's fee."""
        return Outpoint(self.funding_txid, self.subsidy_vout)

    @property
    def can_be_paid(self) -> bool:
        """True when the seller says that it is funded and shows an invoice."""
        return self.state is State.FUNDED and bool(self.bolt11)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the script as hex, the state by name."""
        return asdict(self) | {
            "witness_script": self.witness_script.hex(),
            "state": None if self.state is None else self.state.name,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SwapReply":
        """The reverse of `to_dict`."""
        name = values["state"]
        return cls(
            **values
            | {
                "witness_script": bytes.fromhex(values["witness_script"]),
                "state": None if name is None else State[name],
            }
        )


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the buyer asked for, and what it holds to be true of the two chains by itself.

    Block times are the buyer's own: a seller's are used only where they are the more careful ones.
    `claim_rate_sats_per_kvb` is what a claim would be paid with now.
    """

    network: str
    request_id: str
    asset_id: str
    asset_amount: int
    claim_address: str
    claim_key_hash: bytes
    max_total_price_msat: int
    min_funding_confs: int
    claim_rate_sats_per_kvb: int
    liquid_block_secs: int
    lightning_block_secs: int
    min_claim_margin_blocks: int
    pay_wait_secs: int


@dataclass(frozen=True, slots=True)
class FundingView:
    """The funding transaction and its HTLC outputs as the buyer's own backend shows them.

    `raw` is None when the backend does not know the transaction, `height` while it is unconfirmed.
    `spends`: outputs of it that are already spent, each with the txid of the spender.
    """

    raw: bytes | None
    height: int | None
    spends: tuple[tuple[Outpoint, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was expected and found; of a failed one what to do, and what it means."""

    name: str
    ok: bool
    expected: str
    found: str
    advice: str = ""
    meaning: str = ""

    def __str__(self) -> str:
        if self.ok:
            return f"ok    {self.name}: {self.found}"
        differs = f"expected {self.expected}, found {self.found}"
        return f"WRONG {self.name}: {differs}. {self.meaning} {self.advice}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of all checks. Pay only when `ok`."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True when every check passed; an empty verdict is not clean."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.ok)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `{"ok": bool, "checks": [{name, ok, expected, found, advice, meaning}, …]}`."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Verdict":
        """The reverse of `to_dict`."""
        return cls(tuple(Check(**check) for check in values["checks"]))
