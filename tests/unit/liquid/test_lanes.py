"""Splitting and merging the inventory into lanes."""

import pytest

from lnliquid.domain.swap import Coin, Outpoint
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.liquid.lanes import LanesPlan, is_uneven, lanes_wanted, plan_lanes
from lnliquid.liquid.networks import REGTEST

ASSET = "aa" * 32
LBTC = REGTEST.policy_asset
KEYS = Keychain(
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
    REGTEST,
)


def coins(asset: str, *values: int) -> list[Coin]:
    """Confirmed coins of these values."""
    return [
        Coin(Outpoint(f"{n:02x}" * 32, int(asset == LBTC)), asset, value, RECEIVE, n, 5)
        for n, value in enumerate(values)
    ]


def plan(held: list[Coin], lanes: int = 4) -> LanesPlan | None:
    """A rearrangement at the fee floor."""
    return plan_lanes(
        held,
        asset_id=ASSET,
        lanes=lanes,
        least_asset=10,
        least_lbtc_sats=1_000,
        keys=KEYS,
        next_change=7,
        rate_sats_per_kvb=100,
    )


def test_one_pair_is_split_into_equal_lanes() -> None:
    """A first deposit becomes as many pairs as wanted; nothing is lost but the exact fee."""
    made = plan([*coins(ASSET, 1_000), *coins(LBTC, 100_000)])
    assert made is not None
    asset = [c.value for c in made.outputs if c.asset_id == ASSET]
    lbtc = [c.value for c in made.outputs if c.asset_id == LBTC]
    assert asset == [250] * 4
    assert len(lbtc) == 4
    assert sum(lbtc) == 100_000 - made.signed.fee_sats
    assert [(c.branch, c.index) for c in made.outputs] == [(CHANGE, 7 + n) for n in range(8)]
    parsed = parse_transaction(made.signed.raw)
    assert parsed.fee_sats == made.signed.fee_sats == -(-parsed.vsize // 10)
    assert [o.value for o in parsed.outputs if not o.is_fee] == [c.value for c in made.outputs]


def test_even_lanes_are_left_alone() -> None:
    """Lanes that are even, or differ by what a few swaps took, cost no fee again."""
    assert plan([*coins(ASSET, 250, 250, 240, 260), *coins(LBTC, *[25_000] * 4)]) is None


def test_many_fragments_are_merged() -> None:
    """Far more coins than lanes become as many coins as lanes."""
    made = plan([*coins(ASSET, *[100] * 13), *coins(LBTC, *[25_000] * 4)])
    assert made is None  # no single coin of L-BTC can pay for it safely
    made = plan([*coins(ASSET, *[100] * 13), *coins(LBTC, *[250_000] * 4)])
    assert made is not None
    assert [c.value for c in made.outputs if c.asset_id == ASSET] == [325] * 4
    assert len([c for c in made.outputs if c.asset_id == LBTC]) == 1


def test_unconfirmed_coins_stay_out() -> None:
    """Only confirmed coins are rearranged: a lane must begin a chain of its own."""
    unconfirmed = [
        Coin(Outpoint("ee" * 32, 0), ASSET, 1_000, CHANGE, 1, None),
        Coin(Outpoint("ee" * 32, 1), LBTC, 100_000, CHANGE, 2, None),
    ]
    assert plan(unconfirmed) is None


@pytest.mark.parametrize(
    ("total", "lanes", "least", "wanted"),
    [(1_000, 4, 10, 4), (35, 4, 10, 3), (5, 4, 10, 1), (0, 4, 10, 1)],
)
def test_lanes_wanted(total: int, lanes: int, least: int, wanted: int) -> None:
    """A small inventory makes fewer lanes, never lanes too small to sell from."""
    assert lanes_wanted(total, lanes, least) == wanted


def test_is_uneven() -> None:
    """Too few coins of use, or more than three times too many."""
    assert is_uneven([100], 4)
    assert is_uneven([100, 1, 1, 1], 4)
    assert not is_uneven([100, 90, 80, 110], 4)
    assert not is_uneven([100] * 12, 4)
    assert is_uneven([100] * 13, 4)
    assert not is_uneven([], 4)
