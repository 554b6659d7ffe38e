"""`domain.timelock`: how long a payment can be held, and the locks that outlast it (rule 11)."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lnliquid.domain.timelock import (
    BITCOIN_BLOCK_SECS,
    CLAIM_MARGIN_BLOCKS,
    EXTRA_BLOCKS,
    TAIL,
    Hold,
    LightningChain,
    Timelocks,
    budget,
    chain_of_invoice,
    chain_of_node,
    hold_secs,
    largest_cltv,
    tail_secs,
)

from ..builders import TIMELOCKS

BITCOIN, LIQUID = LightningChain.BITCOIN, LightningChain.LIQUID
BLOCKS = (1, 2, 9, 18, 26, 40, 80, 128, 152, 500, 2_016, 2_024)


def tail_of(secs: float, blocks: int, mean_secs: int) -> float:
    """The exact probability that so many Poisson blocks take longer: fewer than that came."""
    rate = secs / mean_secs
    return math.fsum(
        math.exp(-rate + k * math.log(rate) - math.lgamma(k + 1)) for k in range(blocks)
    )


@pytest.mark.parametrize("blocks", BLOCKS)
def test_a_hold_over_bitcoin_is_the_tail_of_the_distribution(blocks: int) -> None:
    """Longer with 1e-9 at most, at a mean of 840 s, by the exact sum; not much less either."""
    assert 1e-13 < tail_of(hold_secs(blocks, BITCOIN), blocks, 840) <= 1e-9


def test_the_holds_of_the_design() -> None:
    """In hours, as the design names them; over Liquid the blocks are those of the lock."""
    hours = {n: round(hold_secs(n, BITCOIN) / 3_600) for n in (40, 80, 144)}
    assert hours == {40: 22, 80: 36, 144: 55}
    assert [hold_secs(n, LIQUID) for n in (0, 1, 40)] == [0, 60, 2_400]
    assert hold_secs(0, BITCOIN) == 0


@given(st.integers(0, 3_000), st.sampled_from(LightningChain))
def test_more_blocks_are_held_for_longer(blocks: int, chain: LightningChain) -> None:
    """Or else the largest CLTV that fits would not be found."""
    assert hold_secs(blocks, chain) < hold_secs(blocks + 1, chain)


@pytest.mark.slow
@pytest.mark.parametrize("mean_secs", [600, 700, 840])
def test_a_million_hold_times_stay_within_the_bound(mean_secs: int) -> None:
    """The default offer's longest hold, with a seeded generator: no tail is underestimated."""
    blocks, count = 144 + EXTRA_BLOCKS, 1_000_000
    chance = random.Random(f"hold times at {mean_secs}")
    held = sorted(chance.gammavariate(blocks, mean_secs) for _ in range(count))
    assert held[-1] < hold_secs(blocks, BITCOIN)
    assert abs(sum(held) / count / (blocks * mean_secs) - 1) < 1e-3
    for tail in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        bound = tail_secs(blocks, mean_secs, tail)
        assert sum(secs > bound for secs in held) <= tail * count


@pytest.mark.parametrize(
    ("currency", "network", "chain"),
    [
        ("bc", "bitcoin", BITCOIN), ("tb", "testnet", BITCOIN), ("tb", "testnet4", BITCOIN),
        ("tbs", "signet", BITCOIN), ("bcrt", "regtest", BITCOIN), ("ex", "liquid", LIQUID),
        ("tex", "liquid-testnet", LIQUID), ("ert", "liquid-regtest", LIQUID),
        ("", "", BITCOIN), ("liquid", "a liquid", BITCOIN),
    ],
)  # fmt: skip
def test_the_chain_follows_from_the_invoice(
    currency: str, network: str, chain: LightningChain
) -> None:
    """And from the node's own network; what is not known counts as the slower chain."""
    assert (chain_of_invoice(currency), chain_of_node(network)) == (chain, chain)


def test_a_budget_that_fits_exactly_is_safe_and_one_block_less_is_not() -> None:
    """The inequality of the time locks holds with equality."""
    needed = TIMELOCKS.budget.needed_secs
    assert needed == 6 * 60 + 600 + 3_600 + (100 + 1 + 1 + 6) * 60 + 20 * 60
    assert TIMELOCKS.budget.needed_blocks * 60 == needed
    exact = replace(TIMELOCKS, refund_delta_blocks=needed // 60)
    assert exact.budget.is_safe
    assert exact.budget.margin_secs == 0
    one_less = replace(exact, refund_delta_blocks=exact.refund_delta_blocks - 1)
    assert not one_less.budget.is_safe
    assert not replace(exact, create_slack_secs=601).budget.is_safe


def test_a_budget_is_printed_with_every_number() -> None:
    """Who reads the message can see which setting to change."""
    assert str(replace(TIMELOCKS, refund_delta_blocks=10).budget) == (
        "10 blocks = 600 s < 12240 s = funding confirmations 360 + create slack 600 "
        "+ invoice expiry 3600 + payment held 100 + 8 blocks of liquid 6480 + claim margin 1200"
    )
    assert " >= " in str(TIMELOCKS.budget)
    assert str(Hold(144, BITCOIN)) == "57.4 hours (144 + 8 blocks of bitcoin)"


@pytest.mark.parametrize(
    ("cltv", "margin", "chain", "blocks"),
    [(100, 20, LIQUID, 128), (1, 2, LIQUID, 11), (144, 60, BITCOIN, 3_501)],
)
def test_blocks_to_pay_and_claim(
    cltv: int, margin: int, chain: LightningChain, blocks: int
) -> None:
    """A held payment counts in whole Liquid blocks, rounded up, and the claim comes on top."""
    locks = replace(
        TIMELOCKS, max_ln_cltv_blocks=cltv, claim_margin_blocks=margin, lightning_chain=chain
    )
    assert locks.blocks_to_pay_and_claim == blocks
    assert locks.last_height_to_pay(5_000) == 5_000 - blocks


@pytest.mark.parametrize(
    ("tip", "lifetime"),
    [(0, 3_600), (812, 3_600), (813, 3_540), (871, 60), (872, 0), (873, -60), (1_000, -7_680)],
)
def test_an_invoice_lives_no_longer_than_blocks_are_left(tip: int, lifetime: int) -> None:
    """Its last second leaves the payment its whole CLTV and the claim its margin."""
    assert TIMELOCKS.invoice_lifetime_secs(tip, 1_000) == lifetime


SELLERS = st.builds(
    Timelocks,
    refund_delta_blocks=st.integers(1, 100_000),
    max_funding_confs=st.integers(1, 6),
    create_slack_secs=st.integers(0, 86_400),
    invoice_expiry_secs=st.integers(10, 604_800),
    max_ln_cltv_blocks=st.integers(20, 2_016),
    claim_margin_blocks=st.integers(CLAIM_MARGIN_BLOCKS, 10_000),
    lightning_chain=st.sampled_from(LightningChain),
)


@given(SELLERS)
def test_safe_settings_leave_the_whole_invoice_expiry(locks: Timelocks) -> None:
    """Funded as late as the budget allows, an invoice still gets all but a block of its time.

    The part of a block is lost because a height has no seconds.
    """
    assume(locks.budget.is_safe)
    tip_when_funded = locks.max_funding_confs + -(-locks.create_slack_secs // 60)
    lifetime = locks.invoice_lifetime_secs(tip_when_funded, locks.refund_delta_blocks)
    assert lifetime > locks.invoice_expiry_secs - 2 * 60


@given(SELLERS, st.data())
def test_a_legal_offer_paid_in_time_passes_the_buyer(locks: Timelocks, data: st.DataObject) -> None:
    """Seller's and buyer's lines agree, with the shortest lock that the seller may have.

    Funded in time and paid within the invoice's life, all but 2 blocks of the offer's CLTV, or of
    the buyer's own ceiling, are left: those cover the time that the buyer's node takes to send.
    """
    locks = replace(locks, refund_delta_blocks=locks.budget.needed_blocks)
    assume(locks.refund_delta_blocks <= 100_000)
    funded_after = data.draw(st.integers(0, locks.create_slack_secs // 60))
    confs = data.draw(st.integers(1, locks.max_funding_confs))
    life_secs = locks.invoice_lifetime_secs(funded_after + confs, locks.refund_delta_blocks)
    paid_after = data.draw(st.integers(0, max(0, life_secs) // 60))
    left = locks.refund_delta_blocks - funded_after - confs - paid_after
    fits = largest_cltv(
        left,
        locks.lightning_chain,
        CLAIM_MARGIN_BLOCKS,
        most=min(144, locks.max_ln_cltv_blocks),
        before=(("payment sent", 60),),
    )
    assert fits >= min(144, locks.max_ln_cltv_blocks) - 2


def buyer_facts() -> Iterator[tuple[int, LightningChain, int]]:
    """Blocks left, chain and ceiling."""
    for chain in LightningChain:
        for ceiling in (1, 18, 144, 2_016):
            for left in (*range(60, 400, 7), 1_451, 3_500, 4_318, 40_000):
                yield left, chain, ceiling


def test_the_largest_cltv_fits_and_a_larger_one_does_not() -> None:
    """At most the ceiling; 0 where none fits."""
    found = set()
    for left, chain, ceiling in buyer_facts():
        cltv = largest_cltv(left, chain, 60, most=ceiling)
        found.add(cltv)
        assert 0 <= cltv <= ceiling
        assert cltv == 0 or budget(left, cltv, chain, 60).is_safe
        assert cltv == ceiling or not budget(left, cltv + 1, chain, 60).is_safe
    assert {0, 144, 2_016} <= found


def test_the_terms_of_the_held_payment_leave_little() -> None:
    """The lock of 1,453 blocks that passed every check with a CLTV of 144 leaves 34."""
    assert largest_cltv(1_453 - 2, BITCOIN, 60, most=144) == 34
    assert TAIL == 1e-9
    assert BITCOIN_BLOCK_SECS == 840
