"""Each check of the verdict fails when its fact is wrong, and no other one does."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial, reduce
from typing import Any

import pytest
from coincurve import PrivateKey
from embit.liquid.transaction import LTransaction, LTransactionOutput
from embit.script import Script
from hypothesis import given, settings
from hypothesis import strategies as st
from pyln.proto.invoice import Invoice as PylnInvoice

from lnliquid.buyer import Evidence, Expectations, FundingView, SwapReply, Verdict, verify
from lnliquid.buyer.verify import CHECKS
from lnliquid.domain import htlc
from lnliquid.domain.swap import Offer, Outpoint, State, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import tx_builder
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import Key
from lnliquid.liquid.networks import REGTEST

from ..buyer_seller import NODE_ID, START_TIME, invoice

ASSET = "5a" * 32
OTHER_ASSET = "5b" * 32
LBTC = REGTEST.policy_asset
AMOUNT, SUBSIDY_SATS, PRICE_MSAT = 1_000, 500, 150_000
BUYER, SELLER, STRANGER = (Key(bytes(31) + bytes([n])) for n in (1, 2, 3))
PREIMAGE = b"\x11" * 32
HASH = hashlib.sha256(PREIMAGE).digest()
TIP_HEIGHT, LOCK_HEIGHT = 1_000, 1_230
REQUEST_ID = "7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11"
SCRIPT = htlc.witness_script(HASH, BUYER.key_hash, SELLER.key_hash, LOCK_HEIGHT)


def fund(
    script: bytes = SCRIPT,
    *,
    asset: tuple[str, int] = (ASSET, AMOUNT),
    subsidy: tuple[str, int] = (LBTC, SUBSIDY_SATS),
    coin: int = 1,
) -> bytes:
    """A signed funding transaction: change, asset output 1, subsidy output 2."""
    script_pubkey = htlc.output_script(script)
    return tx_builder.sign(
        [tx_builder.wallet_spend(Outpoint(f"{coin:064x}", 0), 100_000, SELLER)],
        [
            tx_builder.Output(htlc.p2wpkh_script(SELLER.key_hash), LBTC, 90_000),
            tx_builder.Output(script_pubkey, *asset),
            tx_builder.Output(script_pubkey, *subsidy),
        ],
        policy_asset=LBTC,
        fee=100,
    ).raw


@dataclass(frozen=True)
class Facts:
    """Everything that `verify` reads."""

    swap: SwapReply
    offer: Offer
    want: Expectations
    funding: FundingView
    tip: Tip
    now: int

    @property
    def evidence(self) -> Evidence:
        """As the checks read it."""
        return Evidence(self.swap, self.offer, self.want, self.funding, self.tip, self.now)

    def verdict(self) -> Verdict:
        """What the checks say."""
        return verify(self.evidence)

    def funded_by(self, raw: bytes) -> "Facts":
        """The same with another funding transaction, named rightly by the seller."""
        return both(swap(funding_txid=parse_transaction(raw).txid), view(raw=raw))(self)

    def locked_by(self, script: bytes) -> "Facts":
        """The same with another script, funded as stated."""
        return swap(witness_script=script)(self).funded_by(fund(script))


def good() -> Facts:
    """Facts on which everything is right."""
    raw = fund()
    return Facts(
        swap=SwapReply(
            swap_id="a0000000-0000-4000-8000-000000000000",
            request_id=REQUEST_ID,
            state=State.FUNDED,
            asset_id=ASSET,
            asset_amount=AMOUNT,
            subsidy_sats=SUBSIDY_SATS,
            total_price_msat=PRICE_MSAT,
            claim_address=p2wpkh_address(BUYER.key_hash, REGTEST),
            payment_hash=HASH.hex(),
            seller_key_hash=SELLER.key_hash.hex(),
            refund_lock_height=LOCK_HEIGHT,
            witness_script=SCRIPT,
            funding_txid=parse_transaction(raw).txid,
            asset_vout=1,
            subsidy_vout=2,
            bolt11=invoice(HASH),
            max_ln_cltv_blocks=144,
            spend_txid="",
        ),
        offer=Offer(
            network="liquid-regtest",
            asset_id=ASSET,
            asset_precision=2,
            price_msat_per_asset_unit=15_000,
            min_swap_amount=1,
            max_swap_amount=1_000_000,
            available_amount=1_000_000,
            fee_subsidy_sats=SUBSIDY_SATS,
            refund_delta_blocks=230,
            invoice_expiry_secs=600,
            max_min_funding_confs=6,
            max_ln_cltv_blocks=144,
            claim_margin_blocks=10,
            lightning_node_id=NODE_ID,
        ),
        want=Expectations(
            network="liquid-regtest",
            request_id=REQUEST_ID,
            asset_id=ASSET,
            asset_amount=AMOUNT,
            claim_address=p2wpkh_address(BUYER.key_hash, REGTEST),
            claim_key_hash=BUYER.key_hash,
            max_total_price_msat=PRICE_MSAT,
            min_funding_confs=2,
            claim_rate_sats_per_kvb=100,
            max_hold_blocks=144,
            claim_margin_blocks=60,
            pay_wait_secs=60,
            node_height=TIP_HEIGHT,
        ),
        funding=FundingView(raw, TIP_HEIGHT - 1),
        tip=Tip(TIP_HEIGHT, "00" * 32, START_TIME),
        now=START_TIME + 1,
    )


def bitcoin_invoice() -> str:
    """An invoice right in all but its network, written by another library."""
    return str(
        PylnInvoice(
            paymenthash=HASH,
            amount=Decimal(PRICE_MSAT) / 10**11,
            currency="bc",
            tags=[("d", "swap"), ("x", 600)],
            date=START_TIME,
        ).encode((bytes(31) + b"\x07").hex())
    )


def blinded_asset_output() -> bytes:
    """The funding with commitments instead of the asset's id and amount."""
    stream = LTransaction.parse(fund())
    plain = stream.vout[1]
    stream.vout[1] = LTransactionOutput(
        b"\x0a" + bytes(31) + b"\x01",
        b"\x08" + bytes(31) + b"\x02",
        Script(plain.script_pubkey.data),
        SELLER.public_key,
    )
    return bytes(stream.serialize())


def padded_height() -> bytes:
    """A script that means the same, with the height pushed in one byte more than needed."""
    push = htlc.push_number(LOCK_HEIGHT)
    assert SCRIPT.count(push) == 1
    return SCRIPT.replace(push, bytes([len(push)]) + push[1:] + b"\x00")


OTHER_HASH = b"\x22" * 32
NO_INVOICE = (
    "invoice, invoice network, invoice signer, payment hash, price, price limit, invoice expiry, "
    "invoice CLTV"
)
NO_FUNDING = "funding transaction, asset output, subsidy output"
Change = Callable[[Facts], Facts]


def on(part: str, **values: Any) -> Change:
    """The same facts with other values in one part of them."""
    return lambda f: replace(f, **{part: replace(getattr(f, part), **values)})


swap, offer, want, view = (partial(on, part) for part in ("swap", "offer", "want", "funding"))


def bolt11(**values: Any) -> Change:
    """The same with another invoice of the seller."""
    return swap(bolt11=invoice(values.pop("of", HASH), **values))


def script(*, of: bytes = HASH, key: Key = BUYER, height: int = LOCK_HEIGHT) -> Change:
    """The same with another HTLC, funded as stated."""
    made = htlc.witness_script(of, key.key_hash, SELLER.key_hash, height)
    return lambda f: f.locked_by(made)


def funded(**values: Any) -> Change:
    """The same with another funding transaction, named rightly by the seller."""
    return lambda f: f.funded_by(fund(**values))


def both(*changes: Change) -> Change:
    """One change after the other."""
    return lambda f: reduce(lambda facts, change: change(facts), changes, f)


def spent(name: str) -> Change:
    """The same with this output spent."""
    return lambda f: view(spends=((getattr(f.swap, name), "ab" * 32),))(f)


WRONG: dict[str, tuple[str, Change]] = {
    "offer of another network": ("network", offer(network="liquidv1")),
    "another request": ("request", swap(request_id="x")),
    "not funded": ("state", swap(state=State.CREATED)),
    "already claimed": ("state", swap(state=State.CLAIMED)),
    "unknown state": ("state", swap(state=None)),
    "another asset": ("asset", swap(asset_id=OTHER_ASSET)),
    "offer of another asset": ("asset", offer(asset_id=OTHER_ASSET)),
    "less of the asset": ("amount", swap(asset_amount=AMOUNT - 1)),
    "another address": ("claim address", swap(claim_address="ert1q")),
    "no invoice": (NO_INVOICE, swap(bolt11="")),
    "damaged invoice": (NO_INVOICE, swap(bolt11=invoice(HASH)[:-1] + "q")),
    "bitcoin invoice": ("invoice network, timelock budget", swap(bolt11=bitcoin_invoice())),
    "invoice of another node": ("invoice signer", bolt11(key=PrivateKey(b"\x08" * 32))),
    "no node in the offer": ("invoice signer", offer(lightning_node_id="")),
    "invoice of another hash": ("payment hash", bolt11(of=OTHER_HASH)),
    "swap of another hash": ("payment hash, script", swap(payment_hash=OTHER_HASH.hex())),
    "script of another hash": ("payment hash, script", script(of=OTHER_HASH)),
    "invoice above the quote": (
        "price",
        both(
            bolt11(amount_msat=200_000),
            swap(total_price_msat=200_000),
            want(max_total_price_msat=300_000),
        ),
    ),
    "invoice above the swap": ("price", swap(total_price_msat=149_000)),
    "another price in the offer": ("price", offer(price_msat_per_asset_unit=14_000)),
    "impossible precision": ("price", offer(asset_precision=2**32 - 1)),
    "above the limit": ("price limit", want(max_total_price_msat=PRICE_MSAT - 1)),
    "any amount": ("price, price limit", bolt11(amount_msat=None)),
    "expired": ("invoice expiry", lambda f: replace(f, now=START_TIME + 600)),
    "final CLTV too long": ("invoice CLTV", bolt11(cltv_blocks=145)),
    "script for another key": ("script", script(key=STRANGER)),
    "script with a lower height": ("script", script(height=LOCK_HEIGHT - 1)),
    "script with a padded height": ("script", lambda f: f.locked_by(padded_height())),
    "script with more behind": ("script", lambda f: f.locked_by(SCRIPT + b"\x51")),
    "malformed seller key": ("script", swap(seller_key_hash="zz")),
    "another transaction": ("funding transaction", view(raw=fund(coin=2))),
    "unknown transaction": (NO_FUNDING, view(raw=None)),
    "damaged transaction": (NO_FUNDING, view(raw=fund()[:-1])),
    "asset output too small": ("asset output", funded(asset=(ASSET, AMOUNT - 1))),
    "asset output of another asset": ("asset output", funded(asset=(OTHER_ASSET, AMOUNT))),
    "asset output elsewhere": ("asset output", swap(asset_vout=0)),
    "asset output beyond the end": ("asset output", swap(asset_vout=9)),
    "blinded asset output": ("asset output", lambda f: f.funded_by(blinded_asset_output())),
    "outputs to another script": (
        "asset output, subsidy output",
        funded(script=SCRIPT + b"\x51"),
    ),
    "subsidy output too small": ("subsidy output", funded(subsidy=(LBTC, SUBSIDY_SATS - 1))),
    "subsidy of another asset": ("subsidy output", funded(subsidy=(OTHER_ASSET, SUBSIDY_SATS))),
    "subsidy below the offer": (
        "subsidy output",
        both(swap(subsidy_sats=499), funded(subsidy=(LBTC, 499))),
    ),
    "fees above the subsidy": ("claim fee", want(claim_rate_sats_per_kvb=1_276)),
    "unconfirmed": ("confirmations", view(height=None)),
    "one confirmation of two": ("confirmations", view(height=TIP_HEIGHT)),
    "unconfirmed and none asked for": (
        "confirmations",
        both(view(height=None), want(min_funding_confs=0)),
    ),
    "asset spent": ("unspent", spent("asset_outpoint")),
    "subsidy spent": ("unspent", spent("subsidy_outpoint")),
    "no hold allowed": ("invoice CLTV, timelock budget", swap(max_ln_cltv_blocks=0)),
    "too late": ("timelock budget", on("tip", height=LOCK_HEIGHT - 86)),
    "too late, if blocks came since": (
        "timelock budget",
        on("tip", height=LOCK_HEIGHT - 96, time=START_TIME + 1 - 600),
    ),
    "too little for the claim": ("timelock budget", want(claim_margin_blocks=204)),
    "too little to wait for the node": ("timelock budget", want(pay_wait_secs=8_700)),
    "longer than the buyer agrees to": ("invoice CLTV", want(max_hold_blocks=17)),
    "old tip": ("tip age", on("tip", time=START_TIME + 1 - 1_201)),
    "clock behind the chain": ("tip age", on("tip", time=START_TIME + 1 + 7_201)),
    "behind the node": ("tip height", want(node_height=TIP_HEIGHT + 1)),
}
"""A case to the checks that it fails and how it differs from the good facts."""


def test_right_facts_pass_every_check() -> None:
    """The facts that the table changes are good, so each case changes exactly one thing."""
    verdict = good().verdict()
    assert verdict.failed == ()
    assert verdict.ok


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_fact_fails_its_checks_and_no_others(case: str) -> None:
    """Exactly the named checks fail, each with advice, and the verdict is not clean."""
    expected, change = WRONG[case]
    verdict = change(good()).verdict()
    assert ", ".join(check.name for check in verdict.failed) == expected
    assert all(check.advice and check.meaning for check in verdict.failed)
    assert not verdict.ok


def test_every_check_has_a_case_in_which_it_fails() -> None:
    """A check that no case can make fail would be no check."""
    failing = {name for names, _ in WRONG.values() for name in names.split(", ")}
    assert {rule.name for rule in CHECKS} == failing


def test_the_limits_themselves_are_allowed() -> None:
    """Equal to the limit passes: price, fee, expiry, blocks left, budget, CLTV."""
    limits = both(
        want(claim_rate_sats_per_kvb=1_272),
        bolt11(cltv_blocks=144),
        on("tip", height=LOCK_HEIGHT - 213 - 20, time=START_TIME + 599 - 1_200),
        view(height=TIP_HEIGHT - 10),
        want(node_height=LOCK_HEIGHT - 213 - 20),
    )
    facts = replace(limits(good()), now=START_TIME + 599)
    assert facts.verdict().failed == ()


def over_bitcoin(blocks_left: int) -> Facts:
    """The good facts with a Lightning invoice of bitcoin, and so many blocks left."""
    change = both(
        swap(bolt11=bitcoin_invoice(), refund_lock_height=TIP_HEIGHT + blocks_left),
        want(network="liquidv1"),
    )
    return change(good())


@pytest.mark.parametrize(
    ("blocks_left", "max_delay"),
    [(1_451, 34), (1_100, 18), (1_095, 17), (4_318, 144), (3_502, 144), (3_501, 143), (100, 0)],
)
def test_the_hold_over_bitcoin_is_what_the_blocks_left_allow(
    blocks_left: int, max_delay: int
) -> None:
    """By the invoice's own prefix: the seller's word about its chain is nowhere asked for.

    1,451 blocks with a CLTV of 144 are the terms that could be robbed.
    """
    facts = over_bitcoin(blocks_left)
    assert facts.evidence.max_delay_blocks == max_delay
    [check] = [c for c in facts.verdict().checks if c.name == "timelock budget"]
    assert check.ok is (max_delay >= 18)
    assert f"maxdelay {max_delay};" in check.found
    assert "blocks of bitcoin" in check.found


def test_the_hold_is_the_least_that_all_three_agree_to() -> None:
    """Swap, offer and buyer; 14 days are never agreed to by default."""
    facts = both(swap(max_ln_cltv_blocks=2_016), offer(max_ln_cltv_blocks=2_016))(good())
    assert facts.evidence.hold_ceiling_blocks == 144
    longest = (swap(max_ln_cltv_blocks=2_016), offer(max_ln_cltv_blocks=2_016))
    assert both(*longest)(over_bitcoin(40_000)).evidence.max_delay_blocks == 144
    for least in (
        swap(max_ln_cltv_blocks=30),
        offer(max_ln_cltv_blocks=30),
        want(max_hold_blocks=30),
    ):
        assert least(facts).evidence.max_delay_blocks == 30


def test_an_old_tip_names_the_server_and_the_clock() -> None:
    """The person can tell which of the two is wrong."""
    for secs in (-1_201, 7_201):
        [check] = on("tip", time=START_TIME + 1 + secs)(good()).verdict().failed
        assert "clock" in check.advice
        assert "Electrum server" in check.advice


def test_asset_and_subsidy_may_not_be_one_output() -> None:
    """When L-BTC itself is bought, one output cannot count for both."""
    change = both(
        want(asset_id=LBTC, asset_amount=SUBSIDY_SATS),
        swap(asset_id=LBTC, asset_amount=SUBSIDY_SATS, asset_vout=2, total_price_msat=75_000),
        bolt11(amount_msat=75_000),
        offer(asset_id=LBTC),
    )
    assert [check.name for check in change(good()).verdict().failed] == ["subsidy output"]


def test_an_empty_verdict_is_not_clean() -> None:
    """No checks is not a pass."""
    assert not Verdict(()).ok


def test_a_verdict_survives_json() -> None:
    """Machine-readable form: one object a check, and back without loss."""
    verdict = swap(request_id="x")(good()).verdict()
    values = json.loads(json.dumps(verdict.to_dict()))
    assert values["ok"] is False
    assert set(values["checks"][0]) == {"name", "ok", "expected", "found", "advice", "meaning"}
    assert Verdict.from_dict(values) == verdict


@given(at=st.integers(0, len(SCRIPT) - 1), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=100)
def test_a_flipped_bit_in_the_script_is_found(at: int, bit: int) -> None:
    """Whichever bit the seller changes, the script is not the template any more."""
    script = bytearray(SCRIPT)
    script[at] ^= 1 << bit
    failed = {check.name for check in good().locked_by(bytes(script)).verdict().failed}
    assert "script" in failed


@given(
    text=st.text(max_size=80),
    data=st.binary(max_size=200),
    number=st.integers(0, 2**64 - 1),
    small=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=150)
def test_rubbish_from_the_seller_is_a_bad_verdict_and_no_exception(
    text: str, data: bytes, number: int, small: int
) -> None:
    """Whatever the fields hold, the checks answer, and the answer is no."""
    rubbish = both(
        swap(
            request_id=text,
            payment_hash=text,
            seller_key_hash=text,
            witness_script=data,
            funding_txid=text,
            bolt11=text,
            asset_vout=small,
            subsidy_vout=small,
            refund_lock_height=small,
            max_ln_cltv_blocks=small,
            total_price_msat=number,
            subsidy_sats=number,
        ),
        offer(
            asset_precision=small,
            price_msat_per_asset_unit=number,
            refund_delta_blocks=small,
        ),
        view(raw=data),
    )
    assert not rubbish(good()).verdict().ok
