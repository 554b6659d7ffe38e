"""The buyer's checks before payment as values: what they read, one table of them, the verdict.

Pure. Each check is declared once, by `Checks.add`, with all that is said of it: the guide's table,
the offline command and the advice of a failed one are taken from there.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from lnliquid.buyer import bolt11
from lnliquid.domain.swap import Offer, Outpoint, State, Tip
from lnliquid.domain.timelock import (
    LIQUID_BLOCK_SECS,
    Budget,
    LightningChain,
    budget,
    chain_of_invoice,
    largest_cltv,
)
from lnliquid.domain.transaction import Transaction, parse_transaction
from lnliquid.liquid.networks import NETWORKS_BY_NAME


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
    payable_until_height: int = 0
    payment_closed: bool = False

    @property
    def asset_outpoint(self) -> Outpoint:
        """The output that is said to hold the asset."""
        return Outpoint(self.funding_txid, self.asset_vout)

    @property
    def subsidy_outpoint(self) -> Outpoint:
        """The output that is said to hold the L-BTC for the claim's fee."""
        return Outpoint(self.funding_txid, self.subsidy_vout)

    def to_dict(self) -> dict[str, Any]:
        """As the commands print it: the script in hex, the state by name."""
        return asdict(self) | {
            "witness_script": self.witness_script.hex(),
            "state": None if self.state is None else self.state.name,
        }


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the buyer asked for, and what it knows and decides by itself.

    `claim_rate_sats_per_kvb` is what a claim would be paid with now. `max_hold_blocks`: the longest
    CLTV that the buyer agrees to. `pay_wait_secs`: until then its node may send the payment.
    `node_height`: of the Liquid chain, as its Lightning node knows it; 0 where that is on another.
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
    max_hold_blocks: int
    claim_margin_blocks: int
    pay_wait_secs: int
    node_height: int


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
        """The reverse of `to_dict`, of other versions too: what is not known here is left out."""
        known = Check.__dataclass_fields__
        stored = [{k: v for k, v in check.items() if k in known} for check in values["checks"]]
        return cls(tuple(Check(**check) for check in stored))


class Fact(Enum):
    """What a check reads besides the swap: an option that gives it, or what only a server knows."""

    OFFER = "--offer FILE"
    REQUEST_ID = "--request-id"
    ASSET = "--asset"
    AMOUNT = "--amount"
    MAX_PRICE = "--max-price-msat"
    CLAIM_KEY = "--claim-address or --claim-pubkey"
    FUNDING = "--funding-tx FILE"
    TIP = "the height of the chain (or give --tip-height)"
    FEE_RATE = "the fee rate"
    CHAIN = "the chain and its mempool"

    @property
    def is_of_now(self) -> bool:
        """True when no file can hold it: it changes with every block."""
        return self in (Fact.TIP, Fact.FEE_RATE, Fact.CHAIN)


ELSEWHERE = "Do not pay. Tell the seller, or buy elsewhere."
AGAIN = "Do not pay. Buy again with a new request id."


@dataclass(frozen=True)
class Evidence:
    """All that the checks read, and what several of them derive from it. Nothing here raises.

    `funding` and `tip` are the buyer's own backend's. `now` in unix seconds, by the buyer's clock.
    """

    swap: SwapReply
    offer: Offer
    want: Expectations
    funding: FundingView
    tip: Tip
    now: int

    @cached_property
    def invoice(self) -> bolt11.DecodedInvoice:
        """The invoice; `NO_INVOICE`, which passes no check, with the problem when there is none."""
        try:
            return bolt11.decode(self.swap.bolt11)
        except bolt11.InvoiceError as error:
            return replace(bolt11.NO_INVOICE, problem=str(error))

    @cached_property
    def transaction(self) -> Transaction | str:
        """The funding as the buyer's server has it, or why there is none."""
        if self.funding.raw is None:
            return "not known to your Electrum server"
        try:
            return parse_transaction(self.funding.raw)
        except ValueError as error:
            return str(error)

    @property
    def policy_asset(self) -> str:
        """L-BTC of the buyer's network; empty for an unknown one."""
        network = NETWORKS_BY_NAME.get(self.want.network)
        return network.policy_asset if network else ""

    @property
    def hold_ceiling_blocks(self) -> int:
        """The longest CLTV of the payment that swap, offer and buyer all agree to."""
        asked = (self.swap.max_ln_cltv_blocks, self.offer.max_ln_cltv_blocks)
        return max(0, min(*asked, self.want.max_hold_blocks))

    @property
    def blocks_left(self) -> int:
        """Liquid blocks until the refund opens, if blocks came since the newest that is seen."""
        unseen_blocks = max(0, self.now - self.tip.time) // LIQUID_BLOCK_SECS
        return self.swap.refund_lock_height - self.tip.height - unseen_blocks

    @property
    def max_delay_blocks(self) -> int:
        """`maxdelay` of the payment: the largest CLTV that the blocks left allow; 0 for none."""
        return largest_cltv(
            self.blocks_left,
            self._lightning_chain,
            self.want.claim_margin_blocks,
            most=self.hold_ceiling_blocks,
            before=self._before_payment,
        )

    def budget(self, cltv_blocks: int) -> Budget:
        """The blocks that are left against what a payment with this CLTV needs."""
        margin_blocks = self.want.claim_margin_blocks
        parts = self._before_payment
        return budget(self.blocks_left, cltv_blocks, self._lightning_chain, margin_blocks, parts)

    @property
    def _lightning_chain(self) -> LightningChain:
        return chain_of_invoice(self.invoice.currency)

    @property
    def _before_payment(self) -> tuple[tuple[str, int], ...]:
        return (("payment sent", self.want.pay_wait_secs),)


Finding = tuple[bool, str, str]
"""Whether it is as it should be, what was expected, and what was found."""


def same(expected: str, found: str) -> Finding:
    """The finding of two texts that have to be equal."""
    return expected == found, expected, found


@dataclass(frozen=True, slots=True)
class Rule:
    """All that is said of a check, and how it is made.

    `compares`: for the guide. `meaning`: what could happen if you paid although it failed.
    `action`: what to do instead. `needs`: facts besides the swap, the network and the clock.
    """

    name: str
    compares: str
    meaning: str
    action: str
    needs: tuple[Fact, ...]
    find: Callable[[Evidence], Finding]

    def check(self, evidence: Evidence) -> Check:
        """Make the check; a failed one comes with its meaning and advice."""
        ok, expected, found = self.find(evidence)
        if ok:
            return Check(self.name, ok, expected, found)
        return Check(self.name, ok, expected, found, self.action, self.meaning)


class Checks(list[Rule]):
    """A table of checks, in the order in which they are shown."""

    def add(
        self, name: str, *needs: Fact, compares: str, meaning: str, action: str
    ) -> Callable[[Callable[[Evidence], Finding]], None]:
        """Declare the check that the decorated function makes."""

        def declare(find: Callable[[Evidence], Finding]) -> None:
            self.append(Rule(name, compares, meaning, action, needs, find))

        return declare
