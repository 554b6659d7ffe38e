"""The checks that can be made without any server: what `lnliquid verify` does. Pure.

There is one implementation of the checks, `verify`. Here it is run on what the buyer has at hand,
and of its result only those checks are kept whose every fact was there. A check that lacks a fact
is named, with the reason, and never counts as passed.
"""

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from lnliquid.buyer.facts import Expectations, FundingView, SwapReply, Verdict
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.buyer.verify import verify
from lnliquid.swap import Offer, Tip
from lnliquid.terms import FEE_FLOOR_SATS_PER_KVB


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


NEEDS: dict[str, tuple[Fact, ...]] = {
    "network": (Fact.OFFER,),
    "request": (Fact.REQUEST_ID,),
    "state": (),
    "asset": (Fact.ASSET, Fact.OFFER),
    "amount": (Fact.AMOUNT,),
    "claim address": (Fact.CLAIM_KEY,),
    "invoice": (),
    "invoice network": (),
    "invoice signer": (Fact.OFFER,),
    "payment hash": (),
    "price": (Fact.OFFER, Fact.AMOUNT),
    "price limit": (Fact.MAX_PRICE,),
    "invoice expiry": (),
    "invoice CLTV": (Fact.OFFER,),
    "script": (Fact.CLAIM_KEY,),
    "funding transaction": (Fact.FUNDING,),
    "asset output": (Fact.FUNDING, Fact.ASSET, Fact.AMOUNT),
    "subsidy output": (Fact.FUNDING, Fact.OFFER),
    "claim fee": (Fact.FEE_RATE,),
    "confirmations": (Fact.CHAIN,),
    "unspent": (Fact.CHAIN,),
    "timelock budget": (Fact.OFFER,),
    "blocks left": (Fact.OFFER, Fact.TIP),
}
"""Facts that each check needs besides the swap, the network and the clock."""


@dataclass(frozen=True, slots=True)
class KnownTerms:
    """What the buyer knows by itself; None where it was not given. Units as in `Expectations`.

    `claim_address` and `claim_key_hash` are two forms of one key and come together.
    """

    network: str
    offer: Offer | None = None
    request_id: str | None = None
    asset_id: str | None = None
    amount: int | None = None
    max_price_msat: int | None = None
    min_confs: int = 1
    claim_address: str | None = None
    claim_key_hash: bytes | None = None
    tip_height: int | None = None

    def overruled_by(self, other: "KnownTerms") -> "KnownTerms":
        """These, with whatever the other one gives instead; `min_confs` stays."""
        given = {
            name: value for name in self.__slots__ if (value := getattr(other, name)) is not None
        }
        return replace(self, **given | {"min_confs": self.min_confs})


@dataclass(frozen=True, slots=True)
class NotMade:
    """A check that could not be made, and what it lacks."""

    name: str
    lacks: tuple[Fact, ...]

    @property
    def why(self) -> str:
        """For a person."""
        options = " and ".join(fact.value for fact in self.lacks if not fact.is_of_now)
        of_now = " and ".join(fact.value for fact in self.lacks if fact.is_of_now)
        parts = [f"give {options}"] if options else []
        if of_now:
            parts.append(f"needs your own server: {of_now}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class OfflineVerdict:
    """What the checks said that could be made, and which could not."""

    made: Verdict
    not_made: tuple[NotMade, ...]

    @property
    def missing_input(self) -> tuple[NotMade, ...]:
        """Checks that could be made offline if the caller gave more."""
        return tuple(
            check for check in self.not_made if not all(fact.is_of_now for fact in check.lacks)
        )

    @property
    def ok(self) -> bool:
        """True when every check that can be made offline was made and passed."""
        return self.made.ok and not self.missing_input


def verify_offline(
    swap: SwapReply, terms: KnownTerms, funding_raw: bytes | None, now: int
) -> OfflineVerdict:
    """Run `verify` on what is at hand. `now` in unix seconds. Raises `SettingsError` (network)."""
    offer, tip = terms.offer, terms.tip_height
    verdict = verify(
        swap,
        offer or _NO_OFFER,
        _expectations(terms),
        FundingView(funding_raw, height=None),
        Tip(tip or 0, ""),
        now,
    )
    given = {
        Fact.OFFER: offer,
        Fact.REQUEST_ID: terms.request_id,
        Fact.ASSET: terms.asset_id,
        Fact.AMOUNT: terms.amount,
        Fact.MAX_PRICE: terms.max_price_msat,
        Fact.CLAIM_KEY: terms.claim_key_hash,
        Fact.FUNDING: funding_raw,
        Fact.TIP: tip,
    }
    made, not_made = [], []
    for check in verdict.checks:
        lacks = tuple(fact for fact in NEEDS[check.name] if given.get(fact) is None)
        if lacks:
            not_made.append(NotMade(check.name, lacks))
        else:
            made.append(check)
    return OfflineVerdict(Verdict(tuple(made)), tuple(not_made))


def _expectations(terms: KnownTerms) -> Expectations:
    """With stand-ins for what was not given; the checks that read those are dropped."""
    own = BuyerSettings(Path(), terms.network)
    return Expectations(
        network=terms.network,
        request_id=terms.request_id or "",
        asset_id=terms.asset_id or "",
        asset_amount=terms.amount or 0,
        claim_address=terms.claim_address or "",
        claim_key_hash=terms.claim_key_hash or bytes(20),
        max_total_price_msat=terms.max_price_msat or 0,
        min_funding_confs=terms.min_confs,
        claim_rate_sats_per_kvb=FEE_FLOOR_SATS_PER_KVB,
        liquid_block_secs=own.liquid_block_secs,
        lightning_block_secs=own.assumed_lightning_block_secs,
        min_claim_margin_blocks=own.min_claim_margin_blocks,
        pay_wait_secs=own.pay_wait_secs,
    )


_NO_OFFER = Offer(
    network="",
    asset_id="",
    asset_precision=0,
    price_msat_per_asset_unit=0,
    min_swap_amount=0,
    max_swap_amount=0,
    available_amount=0,
    fee_subsidy_sats=0,
    refund_delta_blocks=0,
    invoice_expiry_secs=0,
    max_min_funding_confs=0,
    max_ln_cltv_blocks=0,
    claim_margin_blocks=0,
    liquid_block_secs=0,
    lightning_block_secs=0,
    lightning_node_id="",
)
"""Stands in where none was given."""
