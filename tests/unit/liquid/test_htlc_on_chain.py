"""Fundings, claims and refunds of ours, judged by the embedded chain, which does without embit.

Script evaluation there is another library's; lock times, fees and sizes are the chain's own rules.
"""

from collections.abc import Callable

import pytest

from lnliquid.domain import htlc
from lnliquid.domain.swap import Swap
from lnliquid.domain.terms import MAX_SWAPS_PER_FUNDING, fee_sats
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.keys import RECEIVE, Key

from ..builders import (
    ASSET,
    BUYER,
    LOCK_HEIGHT,
    POLICY_ASSET,
    SELLER,
    Judge,
    make_swap,
    outpoints,
    plan_funding,
    preimage_of,
    uuid_of,
    wallet_coin,
)

LOCK = 110
BUYER_KEY = BUYER.wallet_key(RECEIVE, 0)
EQUALVERIFY = "mempool-script-verify-flag-failed (Script failed an OP_EQUALVERIFY operation)"
LOCKTIME = "mempool-script-verify-flag-failed (Locktime requirement not satisfied)"


@pytest.fixture
def judge() -> Judge:
    """A chain at height 100."""
    return Judge(100)


@pytest.fixture
def swap(judge: Judge) -> Swap:
    """A swap whose HTLC is on the chain, with lock height 110; the tip is at 102."""
    return judge.fund(make_swap(0), lock_height=LOCK)[0]


def claim(
    swap: Swap, key: Key = BUYER_KEY, preimage: bytes | None = None, rate: int = 100
) -> tx_builder.Signed:
    """A claim of both outputs, with what the test says instead of the right thing."""
    script = coin_selection.htlc_script(swap, LOCK)
    secret = preimage_of(swap) if preimage is None else preimage
    values = (swap.asset_amount, swap.subsidy_sats)
    return tx_builder.claim(
        spends=[
            tx_builder.claim_spend(o, v, key, script, secret)
            for o, v in zip(outpoints(swap), values, strict=True)
        ],
        asset_id=ASSET,
        asset_amount=swap.asset_amount,
        subsidy_sats=swap.subsidy_sats,
        script_pubkey=htlc.p2wpkh_script(BUYER_KEY.key_hash),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=rate,
    )


def refund(
    *swaps: Swap, lock_height: int = LOCK, key_index: int | None = None
) -> tx_builder.Signed:
    """A refund of both outputs of swaps locked until 110."""
    inputs = []
    for s in swaps:
        script = coin_selection.htlc_script(s, s.refund_lock_height or 0)
        index = s.key_index if key_index is None else key_index
        assets = ((ASSET, s.asset_amount), (POLICY_ASSET, s.subsidy_sats))
        for outpoint, (asset, value) in zip(outpoints(s), assets, strict=True):
            inputs.append(coin_selection.RefundInput(outpoint, asset, value, index, script))
    return coin_selection.plan_refund(
        inputs,
        keys=SELLER,
        lock_height=lock_height,
        change_indexes=(2, 3),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=100,
    ).signed


def test_a_funding_at_the_fee_floor_is_accepted(judge: Judge) -> None:
    """The chain weighs it as predicted, and its fee is exactly the floor's."""
    coins = [wallet_coin(1, 50_007, ASSET), wallet_coin(2, 100_000)]
    judge.give(coins)
    signed = plan_funding([make_swap()], coins).signed
    verdict = judge.verdict(signed.raw)
    assert (verdict.allowed, verdict.reject_reason) == (True, None)
    assert (verdict.txid, verdict.vsize, verdict.fee_sats) == (signed.txid, 483, 49)


def test_a_funding_takes_634_swaps_and_leaves_the_635th(judge: Judge) -> None:
    """The largest batch is standard; the limit in `terms` is the planner's and the chain's."""
    coins = [wallet_coin(1, 50_000 * 635 + 7, ASSET), wallet_coin(2, 900_000)]
    judge.give(coins)
    many = [make_swap(swap_id=uuid_of(n)) for n in range(635)]
    plan = plan_funding(many, coins)
    assert plan.swaps == tuple(many[:MAX_SWAPS_PER_FUNDING])
    assert set(plan.vouts) == {s.swap_id for s in many[:634]}
    verdict = judge.verdict(plan.signed.raw)
    assert (verdict.allowed, verdict.vsize) == (True, 99_866)


def test_a_good_claim_is_accepted(judge: Judge, swap: Swap) -> None:
    """392 vB for 40 sat; afterwards both outputs are spent and the buyer has the asset."""
    signed = claim(swap)
    verdict = judge.verdict(signed.raw)
    assert (verdict.allowed, verdict.vsize, verdict.fee_sats) == (True, 392, 40)
    judge.chain.submit(signed.raw)
    judge.chain.generate()
    script = htlc.p2wpkh_script(BUYER_KEY.key_hash)
    bought = {(c.asset, c.value) for c in judge.chain.coins_with_script(script)}
    assert bought == {(ASSET, swap.asset_amount), (POLICY_ASSET, swap.subsidy_sats - 40)}
    assert all(judge.chain.coin(o.txid, o.vout) is None for o in outpoints(swap))


def test_one_sat_below_the_floor_is_refused(judge: Judge, swap: Swap) -> None:
    """So the fee that was computed is the least that passes."""
    script = coin_selection.htlc_script(swap, LOCK)
    pay = htlc.p2wpkh_script(BUYER_KEY.key_hash)
    values = (swap.asset_amount, swap.subsidy_sats)
    for fee, allowed in ((40, True), (39, False)):
        signed = tx_builder.sign(
            [
                tx_builder.claim_spend(o, v, BUYER_KEY, script, preimage_of(swap))
                for o, v in zip(outpoints(swap), values, strict=True)
            ],
            [
                tx_builder.Output(pay, ASSET, values[0]),
                tx_builder.Output(pay, POLICY_ASSET, values[1] - fee),
            ],
            policy_asset=POLICY_ASSET,
            fee=fee,
        )
        assert judge.verdict(signed.raw).allowed is allowed


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s: claim(s, preimage=b"\x00" * 32),
        lambda s: claim(s, preimage=preimage_of(s)[:31]),
        lambda s: claim(s, preimage=preimage_of(s) + b"\x00"),
        lambda s: claim(s, key=SELLER.refund_key(s.key_index)),
        lambda s: claim(s, key=BUYER.wallet_key(RECEIVE, 1)),
    ],
    ids=["wrong preimage", "31 bytes", "33 bytes", "the seller's key", "another key"],
)
def test_a_wrong_claim_is_refused(
    judge: Judge, swap: Swap, wrong: Callable[[Swap], tx_builder.Signed]
) -> None:
    """By the script, whatever else is right."""
    assert judge.verdict(wrong(swap).raw).reject_reason == EQUALVERIFY


def test_a_claim_is_accepted_after_the_lock_height_too(judge: Judge, swap: Swap) -> None:
    """The claim path never closes: the heights only open the other one."""
    judge.chain.generate(50)
    assert judge.verdict(claim(swap).raw).allowed


def test_a_refund_is_refused_before_and_accepted_at_the_lock_height(
    judge: Judge, swap: Swap
) -> None:
    """Tip 109: not final. Tip 110: accepted with the least fee."""
    signed = refund(swap)
    judge.chain.generate(LOCK - 1 - judge.chain.tip_height)
    assert judge.verdict(signed.raw).reject_reason == "non-final"
    judge.chain.generate()
    verdict = judge.verdict(signed.raw)
    assert (verdict.allowed, verdict.vsize, verdict.fee_sats) == (True, 375, 38)
    judge.chain.submit(signed.raw)
    judge.chain.generate()
    assert judge.chain.spender(*_first(swap)) == signed.txid


def _first(swap: Swap) -> tuple[str, int]:
    outpoint = outpoints(swap)[0]
    return outpoint.txid, outpoint.vout


def test_a_refund_with_an_earlier_lock_time_is_refused_by_the_script(
    judge: Judge, swap: Swap
) -> None:
    """A transaction that is final already does not open the script's own lock."""
    judge.chain.generate(20)
    assert judge.verdict(refund(swap, lock_height=LOCK - 1).raw).reject_reason == LOCKTIME


def test_a_refund_with_another_key_is_refused(judge: Judge, swap: Swap) -> None:
    """Each swap has its own refund key."""
    judge.chain.generate(20)
    assert judge.verdict(refund(swap, key_index=1).raw).reject_reason == EQUALVERIFY


def test_refunds_of_different_heights_are_batched_under_the_highest(judge: Judge) -> None:
    """The lower one alone is not enough; the highest is, for both."""
    low = judge.fund(make_swap(0), lock_height=LOCK)[0]
    high = _fund_second(judge, LOCK + 5)
    judge.chain.generate(LOCK + 5 - judge.chain.tip_height)
    assert judge.verdict(refund(low, high, lock_height=LOCK).raw).reject_reason == LOCKTIME
    verdict = judge.verdict(refund(low, high, lock_height=LOCK + 5).raw)
    assert (verdict.allowed, verdict.vsize) == (True, 561)


def _fund_second(judge: Judge, lock_height: int) -> Swap:
    swap = make_swap(1)
    coins = [wallet_coin(601, swap.asset_amount, ASSET), wallet_coin(602, 10_000)]
    judge.give(coins)
    plan = plan_funding([swap], coins, lock_height)
    judge.chain.submit(plan.signed.raw)
    judge.chain.generate()
    asset, subsidy = plan.vouts[swap.swap_id]
    return make_swap(
        1,
        funding_txid=plan.signed.txid,
        refund_lock_height=lock_height,
        asset_vout=asset,
        subsidy_vout=subsidy,
    )


def test_a_refund_cannot_replace_a_claim_of_ours(judge: Judge, swap: Swap) -> None:
    """Its sequence is final, so a refund conflicts whatever fee it pays."""
    judge.chain.submit(claim(swap).raw)
    while judge.chain.tip_height < LOCK:
        # Blocks without the claim: it is taken out before each and sent again after.
        judge.chain.drop_mempool(claim(swap).txid)
        judge.chain.generate()
        judge.chain.submit(claim(swap).raw)
    assert judge.verdict(refund(swap).raw).reject_reason == "txn-mempool-conflict"


def test_change_coins_of_a_plan_are_the_outputs_that_pay_the_wallet(judge: Judge) -> None:
    """Outpoint, asset and value of each are found on the chain, with the key that is named."""
    coins = [wallet_coin(1, 60_000, ASSET), wallet_coin(2, 100_000)]
    judge.give(coins)
    plan = plan_funding([make_swap()], coins, LOCK_HEIGHT)
    judge.chain.submit(plan.signed.raw)
    assert len(plan.change) == 2
    for change in plan.change:
        coin = judge.chain.coin(change.outpoint.txid, change.outpoint.vout)
        assert coin is not None
        key = SELLER.wallet_key(change.branch, change.index)
        assert (coin.asset, coin.value) == (change.asset_id, change.value)
        assert coin.script_pubkey == htlc.p2wpkh_script(key.key_hash)
    spent = sum(c.value for c in coins if c.asset_id == POLICY_ASSET)
    kept = sum(c.value for c in plan.change if c.asset_id == POLICY_ASSET)
    assert spent - kept - 500 == plan.signed.fee_sats == fee_sats(plan.signed.vsize, 100)
