"""Amounts, times and ids as a person reads them."""

import pytest

from lnliquid.cli.formatting import sats, short, span, units, utc

ASSET = "5a" * 32


@pytest.mark.parametrize(
    ("amount", "precision", "text"),
    [
        (250_000_000, 8, "2.5 units (250000000 of the smallest)"),
        (100_000_000, 8, "1 unit (100000000 of the smallest)"),
        (1, 8, "0.00000001 units (1 of the smallest)"),
        (2_100_000_000_000_000, 8, "21,000,000 units (2100000000000000 of the smallest)"),
        (7, 0, "7 units (7 of the smallest)"),
        (7, None, "7 of the smallest unit"),
        (7, 9, "7 of the smallest unit"),
    ],
)
def test_amounts_have_their_unit(amount: int, precision: int | None, text: str) -> None:
    """In units where the precision is known and possible, always in the smallest unit too."""
    assert units(amount, precision) == text


def test_prices_are_in_sat_and_lose_no_msat() -> None:
    """The part below a sat is shown only where there is one."""
    assert sats(125_000_000) == "125,000 sat"
    assert sats(1_001) == "1.001 sat"
    assert sats(5) == "0.005 sat"


def test_only_long_hex_is_cut() -> None:
    """Keys and ids lose their middle; UUIDs, addresses and amounts stay."""
    text = f"{ASSET} 7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11 250000000"
    assert short(text) == "5a5a5a5a…5a5a5a 7f0c1b9e-4a3f-4d0e-9a55-0f6f8f0b7d11 250000000"


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (-5, "0s"),
        (7, "7s"),
        (65, "1m05s"),
        (3_600, "1h"),
        (12_000, "3h20m"),
        (86_400, "1d"),
        (93_600, "1d2h"),
    ],
)
def test_a_span_has_its_two_largest_units(secs: int, text: str) -> None:
    """Of days, hours, minutes and seconds; what is 0 is left out."""
    assert span(secs) == text


def test_times_are_in_utc() -> None:
    """To the second."""
    assert utc(1_800_000_000) == "2027-01-15 08:00:00"
