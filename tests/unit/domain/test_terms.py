"""`domain.terms`: fees and prices, at their edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnliquid.domain.terms import (
    CLAIM_VSIZE,
    FEE_FLOOR_SATS_PER_KVB,
    MAX_AMOUNT,
    fee_sats,
    least_amount,
    total_price_msat,
)


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
