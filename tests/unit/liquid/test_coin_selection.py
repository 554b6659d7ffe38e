"""`liquid.coin_selection`: choosing coins, planning fundings and refunds, what no plan may do."""

import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnliquid.domain import htlc
from lnliquid.domain.swap import Coin, Outpoint, Pending
from lnliquid.domain.terms import MAX_AMOUNT, MAX_SWAPS_PER_FUNDING, fee_sats
from lnliquid.domain.transaction import TxOutput, parse_transaction
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.coin_selection import MustWait, NotEnoughCoins, select_coins
from lnliquid.liquid.keys import CHANGE, RECEIVE
from lnliquid.liquid.mempool_limits import Chains

from ..builders import (
    ASSET,
    LOCK_HEIGHT,
    POLICY_ASSET,
    SELLER,
    Judge,
    make_swap,
    outpoints,
    plan_funding,
    txid_of,
    uuid_of,
    wallet_coin,
)


def change_script(index: int) -> bytes:
    """Output script of a change address."""
    return htlc.p2wpkh_script(SELLER.wallet_key(CHANGE, index).key_hash)


def refund_inputs(swaps: int = 1, subsidy: int = 500) -> list[coin_selection.RefundInput]:
    """Both outputs of so many swaps."""
    made = []
    for number in range(swaps):
        swap = make_swap(number)
        script = coin_selection.htlc_script(swap, LOCK_HEIGHT)
        asset, lbtc = outpoints(swap)
        made.append(coin_selection.RefundInput(asset, ASSET, swap.asset_amount, number, script))
        made.append(coin_selection.RefundInput(lbtc, POLICY_ASSET, subsidy, number, script))
    return made


def plan_refund(
    inputs: list[coin_selection.RefundInput], top_up: tuple[Coin, ...] = (), rate: int = 100
) -> coin_selection.RefundPlan:
    """A refund at the lock height with change indexes from 5 on."""
    return coin_selection.plan_refund(
        inputs,
        keys=SELLER,
        lock_height=LOCK_HEIGHT,
        change_indexes=(5, 6, 7),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=rate,
        top_up=top_up,
    )


def totals(outputs: tuple[TxOutput, ...]) -> Counter[str]:
    """Sum of outputs by asset, the fee among them."""
    found: Counter[str] = Counter()
    for output in outputs:
        assert output.asset_id is not None
        assert output.value is not None
        assert output.value > 0
        found[output.asset_id] += output.value
    return found


def values(coins: list[Coin] | None) -> list[int] | None:
    """Their values."""
    return None if coins is None else [c.value for c in coins]


def test_few_coins_are_taken() -> None:
    """The smallest that suffices alone, else the largest first; None when all are too little."""
    coins = [wallet_coin(1, 500), wallet_coin(2, 10), wallet_coin(3, 40), wallet_coin(4, 41)]
    assert values(select_coins(coins, 40)) == [40]
    assert values(select_coins(coins, 41)) == [41]
    assert values(select_coins(coins, 42)) == [500]
    assert values(select_coins(coins, 501)) == [500, 41]
    assert values(select_coins(coins, 591)) == [500, 41, 40, 10]
    assert select_coins(coins, 592) is None
    assert select_coins([], 1) is None


def test_a_confirmed_coin_is_taken_before_an_unconfirmed_one() -> None:
    """One that suffices, also when the unconfirmed one would be the closer fit."""
    coins = [wallet_coin(1, 40, height=None), wallet_coin(2, 60), wallet_coin(3, 30, height=None)]
    assert values(select_coins(coins, 35)) == [60]
    assert values(select_coins(coins, 61)) == [60, 40]


def test_several_confirmed_coins_are_taken_before_an_unconfirmed_one() -> None:
    """As the docstring says: confirmed before unconfirmed."""
    coins = [wallet_coin(1, 500, height=None), wallet_coin(2, 40), wallet_coin(3, 10)]
    assert values(select_coins(coins, 41)) == [40, 10]


def test_a_funding_has_its_outputs_where_it_says() -> None:
    """Each swap's pair pays its own script, asset first; then asset change, L-BTC change, fee."""
    swaps = [make_swap(n, asset_amount=100 + n) for n in range(3)]
    coins = [wallet_coin(1, 1_000, ASSET), wallet_coin(2, 50_000)]
    plan = plan_funding(swaps, coins)
    outputs = parse_transaction(plan.signed.raw).outputs
    for swap in swaps:
        script = htlc.output_script(coin_selection.htlc_script(swap, LOCK_HEIGHT))
        asset_vout, subsidy_vout = plan.vouts[swap.swap_id]
        assert outputs[asset_vout] == TxOutput(script, ASSET, swap.asset_amount)
        assert outputs[subsidy_vout] == TxOutput(script, POLICY_ASSET, 500)
    rest = 50_000 - 1_500 - plan.signed.fee_sats
    assert outputs[6:] == (
        TxOutput(change_script(0), ASSET, 1_000 - 303),
        TxOutput(change_script(1), POLICY_ASSET, rest),
        TxOutput(b"", POLICY_ASSET, plan.signed.fee_sats),
    )
    assert plan.change == (
        Coin(Outpoint(plan.signed.txid, 6), ASSET, 697, CHANGE, 0, None),
        Coin(Outpoint(plan.signed.txid, 7), POLICY_ASSET, rest, CHANGE, 1, None),
    )
    assert {c.outpoint for c in plan.inputs} == {
        i.outpoint for i in parse_transaction(plan.signed.raw).inputs
    }


@given(
    amounts=st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    extra_asset=st.integers(0, 3),
    lbtc=st.lists(st.integers(1, 3_000), min_size=1, max_size=30),
    rate=st.sampled_from([100, 101, 250, 1_000]),
)
def test_a_funding_balances_and_pays_its_rate(
    amounts: list[int], extra_asset: int, lbtc: list[int], rate: int
) -> None:
    """In = out per asset, no dust, and a fee at or above the rate."""
    swaps = [make_swap(n, asset_amount=a) for n, a in enumerate(amounts)]
    coins = [wallet_coin(1, sum(amounts) + extra_asset, ASSET)]
    coins += [wallet_coin(2 + n, value) for n, value in enumerate(lbtc)]
    needed = 500 + fee_sats(483 + 70 * len(coins), rate)
    if sum(lbtc) < needed:
        with contextlib.suppress(NotEnoughCoins, MustWait):
            plan_funding(swaps, coins, rate=rate)
        return
    plan = plan_funding(swaps, coins, rate=rate)
    swaps = list(plan.swaps)
    parsed = parse_transaction(plan.signed.raw)
    held = Counter[str]()
    for coin in plan.inputs:
        held[coin.asset_id] += coin.value
    assert totals(parsed.outputs) == held
    assert len(set(plan.inputs)) == len(plan.inputs) == len(parsed.inputs)
    assert parsed.fee_sats == plan.signed.fee_sats
    assert plan.signed.fee_sats >= fee_sats(parsed.vsize, rate)
    assert all(c.asset_id == ASSET or c.value >= tx_builder.DUST_SATS for c in plan.change)


def test_a_funding_without_enough_of_either_asset_is_refused() -> None:
    """The error names the asset that is short; nothing is signed."""
    with pytest.raises(NotEnoughCoins) as caught:
        plan_funding([make_swap()], [wallet_coin(1, 49_999, ASSET), wallet_coin(2, 9_999)])
    assert caught.value.asset_id == ASSET
    with pytest.raises(NotEnoughCoins) as caught:
        plan_funding([make_swap()], [wallet_coin(1, 50_000, ASSET), wallet_coin(2, 510)])
    assert caught.value.asset_id == POLICY_ASSET


def test_swaps_of_two_assets_are_not_mixed() -> None:
    """One funding sells one asset."""
    with pytest.raises(ValueError, match="too many values"):
        plan_funding([make_swap(0), make_swap(1, asset_id="bb" * 32)], [wallet_coin(1, 1)])


def test_a_full_batch_from_scattered_coins_is_standard() -> None:
    """Inputs count too: what one transaction cannot take waits for the next."""
    judge = Judge()
    coins = [wallet_coin(1, 50_000 * MAX_SWAPS_PER_FUNDING + 7, ASSET)]
    coins += [wallet_coin(2 + n, 30_000) for n in range(20)]
    judge.give(coins)
    swaps = [make_swap(swap_id=uuid_of(n)) for n in range(MAX_SWAPS_PER_FUNDING)]
    plan = plan_funding(swaps, coins)
    assert judge.verdict(plan.signed.raw).reject_reason is None
    assert 600 < len(plan.swaps) < MAX_SWAPS_PER_FUNDING
    assert plan.swaps == tuple(swaps[: len(plan.swaps)])


def test_a_coin_that_is_used_up_exactly_leaves_a_balanced_funding() -> None:
    """Without asset change, and without L-BTC change, and without either."""
    judge = Judge()
    lbtc = {"some": 10_000, "none": 500 + 49 + 29}
    for number, (asset, change) in enumerate([(0, "some"), (7, "none"), (0, "none")]):
        coins = [
            wallet_coin(10 * number, 50_000 + asset, ASSET),
            wallet_coin(10 * number + 1, lbtc[change]),
        ]
        judge.give(coins)
        plan = plan_funding([make_swap()], coins)
        verdict = judge.verdict(plan.signed.raw)
        assert (verdict.reject_reason, verdict.fee_sats) == (None, plan.signed.fee_sats)
        assert len(plan.change) == bool(asset) + (change == "some")


def test_only_as_many_swaps_are_funded_as_the_coins_pay_for() -> None:
    """The oldest first; the others wait."""
    swaps = [make_swap(n, asset_amount=1_000) for n in range(5)]
    plan = plan_funding(swaps, [wallet_coin(1, 3_500, ASSET), wallet_coin(2, 100_000)])
    assert plan.swaps == tuple(swaps[:3])
    plan = plan_funding(swaps, [wallet_coin(1, 9_000, ASSET), wallet_coin(2, 1_300)])
    assert plan.swaps == tuple(swaps[:2])


@pytest.mark.parametrize("pending", [0, 3])
@pytest.mark.parametrize(
    ("coins", "amount"),
    [
        ([wallet_coin(91, MAX_AMOUNT - 5_000, ASSET), wallet_coin(92, 10_000)], 50_000),
        (
            [
                wallet_coin(91, 100_000),
                *(Coin(Outpoint(txid_of(92), n), ASSET, 1, RECEIVE, 92, 10) for n in range(1_500)),
            ],
            1_500,
        ),
        ([wallet_coin(91, 50_000, ASSET), wallet_coin(92, 540)], 50_000),
    ],
    ids=["too large", "too many", "too little L-BTC"],
)
def test_coins_that_no_transaction_could_use_are_not_enough(
    coins: list[Coin], amount: int, pending: int
) -> None:
    """However many blocks come: nothing is to be waited for, whatever else is unconfirmed.

    All assets of a transaction together count against 21 million whole units, its inputs against
    400,000 weight, and its fee is known only with its size.
    """
    with pytest.raises(NotEnoughCoins):
        planner(coins, chain_of(pending)).plan([make_swap(asset_amount=amount)])


def planner(coins: list[Coin], pending: list[Pending]) -> coin_selection.FundingPlanner:
    """A planner beside these unconfirmed transactions."""
    return coin_selection.FundingPlanner(
        coins,
        Chains(pending),
        keys=SELLER,
        refund_lock_height=LOCK_HEIGHT,
        change_indexes=(0, 1),
        rate_sats_per_kvb=100,
    )


def chain_of(length: int, vsize: int = 483) -> list[Pending]:
    """So many unconfirmed transactions, each spending from the one before."""
    return [
        Pending(txid_of(n), vsize, frozenset({txid_of(n - 1)} if n else ())) for n in range(length)
    ]


@pytest.mark.parametrize(
    ("pending", "fits"),
    [
        (chain_of(24), True),
        (chain_of(25), False),
        (chain_of(1, 101_000 - 485), True),
        (chain_of(1, 101_000 - 482), False),
    ],
    ids=["24", "25", "101 kvB", "101 kvB and 1"],
)
def test_a_chain_of_unconfirmed_transactions_is_not_made_too_long(
    pending: list[Pending], fits: bool
) -> None:
    """25 transactions and 101 kvB, the new one among them; a block comes first then."""
    last = len(pending) - 1
    coins = [
        Coin(Outpoint(txid_of(last), 2), ASSET, 60_000, CHANGE, 8, None),
        Coin(Outpoint(txid_of(last), 3), POLICY_ASSET, 60_000, CHANGE, 9, None),
    ]
    if fits:
        assert planner(coins, pending).plan([make_swap()]).signed.vsize == 483
    else:
        with pytest.raises(MustWait):
            planner(coins, pending).plan([make_swap()])


def test_a_full_chain_does_not_keep_another_lane_from_being_used() -> None:
    """Its coins are passed over."""
    coins = [
        Coin(Outpoint(txid_of(24), 2), ASSET, 50_001, CHANGE, 8, None),
        Coin(Outpoint(txid_of(24), 3), POLICY_ASSET, 700, CHANGE, 9, None),
        wallet_coin(90, 60_000, ASSET),
        wallet_coin(91, 60_000),
    ]
    plan = planner(coins, chain_of(25)).plan([make_swap()])
    assert plan.inputs == (coins[2], coins[3])


def test_a_funding_never_sells_what_it_pays_with() -> None:
    """Asset and L-BTC are chosen one after the other: of one asset a coin could come twice."""
    swap = make_swap(asset_id=POLICY_ASSET)
    with pytest.raises(ValueError, match="L-BTC pays for the funding"):
        plan_funding([swap], [wallet_coin(1, 90_000), wallet_coin(2, 80_000)])


def test_a_refund_pays_each_asset_once_to_a_fresh_address() -> None:
    """Assets are added up; the fee comes out of the L-BTC; lock time as asked."""
    plan = plan_refund(refund_inputs(3))
    parsed = parse_transaction(plan.signed.raw)
    assert parsed.lock_time == LOCK_HEIGHT
    assert parsed.outputs == (
        TxOutput(change_script(5), ASSET, 150_000),
        TxOutput(change_script(6), POLICY_ASSET, 1_500 - plan.signed.fee_sats),
        TxOutput(b"", POLICY_ASSET, plan.signed.fee_sats),
    )
    assert [(c.outpoint.vout, c.asset_id, c.value, c.index) for c in plan.payouts] == [
        (0, ASSET, 150_000, 5),
        (1, POLICY_ASSET, 1_500 - plan.signed.fee_sats, 6),
    ]
    assert plan.topped_up == ()


def test_a_leftover_subsidy_alone_is_swept() -> None:
    """One input, one output, the fee from itself."""
    plan = plan_refund(refund_inputs()[1:])
    parsed = parse_transaction(plan.signed.raw)
    assert [o.asset_id for o in parsed.outputs] == [POLICY_ASSET, POLICY_ASSET]
    assert parsed.outputs[0].value == 500 - plan.signed.fee_sats
    assert plan.signed.fee_sats == fee_sats(plan.signed.vsize, 100)


def test_a_refund_of_the_asset_alone_is_topped_up_from_the_wallet() -> None:
    """Its fee needs L-BTC that the HTLC does not hold any more; the change comes back."""
    coins = (wallet_coin(1, 5), wallet_coin(2, 10_000), wallet_coin(3, 10_000))
    plan = plan_refund(refund_inputs()[:1], coins)
    parsed = parse_transaction(plan.signed.raw)
    assert plan.topped_up == coins[:2]
    assert totals(parsed.outputs) == {ASSET: 50_000, POLICY_ASSET: 10_005}
    assert plan.signed.fee_sats == fee_sats(plan.signed.vsize, 100)
    with pytest.raises(NotEnoughCoins) as caught:
        plan_refund(refund_inputs()[:1])
    assert caught.value.asset_id == POLICY_ASSET


@given(
    swaps=st.integers(1, 5),
    subsidy=st.integers(1, 700),
    rate=st.sampled_from([100, 333, 1_000]),
    top_up=st.lists(st.integers(1, 2_000), max_size=4),
)
def test_a_refund_balances_and_pays_its_rate(
    swaps: int, subsidy: int, rate: int, top_up: list[int]
) -> None:
    """In = out per asset, no dust, and a fee at or above the rate; else the error says why."""
    coins = tuple(wallet_coin(n, value) for n, value in enumerate(top_up))
    inputs = refund_inputs(swaps, subsidy)
    if swaps * subsidy + sum(top_up) < fee_sats(200 * swaps + 300 + 70 * len(coins), rate) + 30:
        with contextlib.suppress(NotEnoughCoins):
            plan_refund(inputs, coins, rate)
        return
    plan = plan_refund(inputs, coins, rate)
    parsed = parse_transaction(plan.signed.raw)
    lbtc = swaps * subsidy + sum(c.value for c in plan.topped_up)
    assert totals(parsed.outputs) == {ASSET: swaps * 50_000, POLICY_ASSET: lbtc}
    assert parsed.fee_sats == plan.signed.fee_sats >= fee_sats(parsed.vsize, rate)
    assert all(c.asset_id == ASSET or c.value >= tx_builder.DUST_SATS for c in plan.payouts)
    assert plan.topped_up == coins[: len(plan.topped_up)]


def test_htlc_scripts_differ_by_swap_and_height() -> None:
    """Two swaps never share an address, nor does one swap funded anew later."""
    scripts = {
        coin_selection.htlc_script(make_swap(n), h)
        for n in range(3)
        for h in (LOCK_HEIGHT, LOCK_HEIGHT + 1)
    }
    assert len(scripts) == 6
    assert txid_of(1) != txid_of(2)
