"""The checks that can be made without any server: what `lnliquid verify` does. Pure.

There is one implementation of the checks, `verify`. Here it is run on what the buyer has at hand,
and of its result only those checks are kept whose every fact was there. A check that lacks a fact
is named, with the reason, and never counts as passed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.buyer.answers import offer_of
from lnliquid.buyer.checks import Evidence, Fact, FundingView, SwapReply, Verdict
from lnliquid.buyer.journal import Order
from lnliquid.buyer.settings import BuyerSettings
from lnliquid.buyer.verify import CHECKS, verify
from lnliquid.domain.swap import Offer, Tip
from lnliquid.domain.terms import FEE_FLOOR_SATS_PER_KVB


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
    """The checks that could be made, and those that could not."""

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
    # With stand-ins for what was not given: the checks that read those are dropped.
    order = Order(
        request_id=terms.request_id or "",
        asset_id=terms.asset_id or "",
        amount=terms.amount or 0,
        max_price_msat=terms.max_price_msat or 0,
        min_confs=terms.min_confs,
        max_fee_msat=0,
    )
    want = BuyerSettings(Path(), terms.network).expectations(
        order,
        claim_address=terms.claim_address or "",
        claim_key_hash=terms.claim_key_hash or bytes(20),
        claim_rate_sats_per_kvb=FEE_FLOOR_SATS_PER_KVB,
    )
    evidence = Evidence(
        swap,
        terms.offer or offer_of(pb.Offer()),
        want,
        FundingView(funding_raw, height=None),
        Tip(terms.tip_height or 0, "", now),
        now,
    )
    verdict = verify(evidence)
    given = {
        Fact.OFFER: terms.offer,
        Fact.REQUEST_ID: terms.request_id,
        Fact.ASSET: terms.asset_id,
        Fact.AMOUNT: terms.amount,
        Fact.MAX_PRICE: terms.max_price_msat,
        Fact.CLAIM_KEY: terms.claim_key_hash,
        Fact.FUNDING: funding_raw,
        Fact.TIP: terms.tip_height,
    }
    made, not_made = [], []
    for rule, check in zip(CHECKS, verdict.checks, strict=True):
        lacks = tuple(fact for fact in rule.needs if given.get(fact) is None)
        if lacks:
            not_made.append(NotMade(check.name, lacks))
        else:
            made.append(check)
    return OfflineVerdict(Verdict(tuple(made)), tuple(not_made))
