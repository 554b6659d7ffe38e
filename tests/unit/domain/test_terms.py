"""`domain.terms`: fees, prices and the timelock arithmetic, at their edges."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnliquid.domain.terms import (
    CLAIM_VSIZE,
    FEE_FLOOR_SATS_PER_KVB,
    MAX_AMOUNT,
    Timelocks,
    blocks_to_pay_and_claim,
    fee_sats,
    invoice_lifetime_secs,
    least_amount,
    timelock_budget,
    total_price_msat,
)

from ..builders import TIMELOCKS


@pytest.mark.parametrize(
    ("vsize", "rate", "fee"),
    [(392, 100, 40), (375, 100, 38), (483, 100, 49), (1000, 100, 100), (1001, 100, 101), (0, 1, 0)],
)
def test_a_fee_is_rounded_up_to_the_sat(vsize: int, rate: int, fee: int) -> None:
    """392 vB at the floor cost 40 sat, because elementsd refuses 39."""
    assert fee_sats(vsize, rate) == fee


@given(st.integers(0, 100_000), st.integers(1, 1_000_000))
def test_a_fee_is_the_least_that_reaches_its_rate(vsize: int, rate: int) -> None:
    """One sat less would be below the rate, for every size and rate."""
    fee = fee_sats(vsize, rate)
    assert fee * 1000 >= vsize * rate
    assert (fee - 1) * 1000 < vsize * rate


def test_the_constants_are_those_that_were_measured() -> None:
    """Claim size and fee floor are elementsd's, and together give its 40 sat."""
    assert (CLAIM_VSIZE, FEE_FLOOR_SATS_PER_KVB) == (393, 100)
    assert fee_sats(CLAIM_VSIZE, FEE_FLOOR_SATS_PER_KVB) == 40


@pytest.mark.parametrize(
    ("amount", "price", "precision", "msat"),
    [
        (100_000_000, 5_000, 8, 5_000),
        (1, 5_000, 8, 1_000),
        (100_000_001, 5_000, 8, 6_000),
        (1, 1_000, 0, 1_000),
        (1, 1_001, 0, 2_000),
        (3, 333, 0, 1_000),
        (7, 1_000, 2, 1_000),
        (MAX_AMOUNT, MAX_AMOUNT * 1000, 0, MAX_AMOUNT * MAX_AMOUNT * 1000),
    ],
)
def test_a_price_is_rounded_up_to_a_whole_sat(
    amount: int, price: int, precision: int, msat: int
) -> None:
    """No price is below one sat, none has a fraction of one, none overflows."""
    assert total_price_msat(amount, price, precision) == msat


@given(st.integers(1, MAX_AMOUNT), st.integers(1, 10**15), st.integers(0, 8))
def test_a_price_is_never_below_the_exact_one(amount: int, price: int, precision: int) -> None:
    """Rounding costs the buyer less than two sat and the seller nothing."""
    msat = total_price_msat(amount, price, precision)
    assert msat % 1000 == 0
    assert 0 <= msat * 10**precision - amount * price < 1001 * 10**precision or msat == 1000


@given(st.integers(1, 10**9), st.integers(1, 10**15), st.integers(0, 8))
def test_the_least_amount_is_the_first_whose_price_covers_the_cost(
    cost: int, price: int, precision: int
) -> None:
    """At it the price is not below the cost, and one smallest unit less costs the buyer less."""
    least = least_amount(cost, price, precision)
    assert total_price_msat(least, price, precision) >= cost * 1000
    assert least == 1 or total_price_msat(least - 1, price, precision) < cost * 1000


def test_a_budget_that_fits_exactly_is_safe_and_one_block_less_is_not() -> None:
    """The inequality of the time locks holds with equality."""
    needed = timelock_budget(TIMELOCKS).needed_secs
    assert needed == 6 * 60 + 600 + 3_600 + 100 * 60 + 20 * 60
    exact = replace(TIMELOCKS, refund_delta_blocks=needed // 60)
    assert needed % 60 == 0
    assert timelock_budget(exact).is_safe
    assert timelock_budget(exact).available_secs == needed
    one_less = timelock_budget(replace(exact, refund_delta_blocks=exact.refund_delta_blocks - 1))
    assert not one_less.is_safe


def test_a_second_of_slack_too_much_is_unsafe() -> None:
    """The inequality is computed in seconds, not in whole blocks."""
    exact = replace(TIMELOCKS, refund_delta_blocks=196)
    assert timelock_budget(exact).is_safe
    assert not timelock_budget(replace(exact, create_slack_secs=601)).is_safe


def test_a_budget_is_printed_with_every_number() -> None:
    """Who reads the message can see which knob to turn."""
    text = str(timelock_budget(replace(TIMELOCKS, refund_delta_blocks=10)))
    assert text == (
        "refund_delta 600 s < 11760 s = funding confirmations 360 + create slack 600 "
        "+ invoice expiry 3600 + Lightning CLTV 6000 + claim margin 1200"
    )
    assert " >= " in str(timelock_budget(TIMELOCKS))


@pytest.mark.parametrize(
    ("cltv", "margin", "ln_secs", "liquid_secs", "blocks"),
    [(100, 20, 60, 60, 120), (144, 60, 600, 60, 1500), (1, 2, 61, 60, 4), (20, 2, 1, 60, 3)],
)
def test_blocks_to_pay_and_claim(
    cltv: int, margin: int, ln_secs: int, liquid_secs: int, blocks: int
) -> None:
    """A held payment counts in whole Liquid blocks, rounded up, and the claim comes on top."""
    locks = replace(
        TIMELOCKS,
        max_ln_cltv_blocks=cltv,
        claim_margin_blocks=margin,
        lightning_block_secs=ln_secs,
        liquid_block_secs=liquid_secs,
    )
    assert blocks_to_pay_and_claim(locks) == blocks


@pytest.mark.parametrize(
    ("tip", "lifetime"),
    [(0, 3_600), (820, 3_600), (821, 3_540), (879, 60), (880, 0), (881, -60), (1_000, -7_200)],
)
def test_an_invoice_lives_no_longer_than_blocks_are_left(tip: int, lifetime: int) -> None:
    """Its last second leaves the payment its whole CLTV and the claim its margin."""
    assert invoice_lifetime_secs(TIMELOCKS, tip, 1_000) == lifetime


@given(
    st.builds(
        Timelocks,
        refund_delta_blocks=st.integers(1, 100_000),
        max_funding_confs=st.integers(1, 6),
        create_slack_secs=st.integers(0, 86_400),
        invoice_expiry_secs=st.integers(10, 604_800),
        max_ln_cltv_blocks=st.integers(20, 2_016),
        claim_margin_blocks=st.integers(2, 10_000),
        liquid_block_secs=st.integers(1, 3_600),
        lightning_block_secs=st.integers(1, 7_200),
    )
)
def test_safe_settings_leave_the_whole_invoice_expiry(locks: Timelocks) -> None:
    """Funded as late as the budget allows, an invoice still gets all but a block of its time.

    The part of a block is lost because a height has no seconds.
    """
    if not timelock_budget(locks).is_safe:
        return
    slack_blocks = -(-locks.create_slack_secs // locks.liquid_block_secs)
    tip_when_funded = locks.max_funding_confs + slack_blocks
    lifetime = invoice_lifetime_secs(locks, tip_when_funded, locks.refund_delta_blocks)
    assert lifetime > locks.invoice_expiry_secs - 2 * locks.liquid_block_secs
