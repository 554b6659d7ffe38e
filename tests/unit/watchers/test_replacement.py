"""`watchers.replacement`: a new version pays what BIP125 asks and nothing else changes.

The embedded chain judges each, with the rules of Elements' mempool.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lnliquid.domain.swap import Coin, Outpoint, Swap
from lnliquid.domain.terms import fee_sats
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.keys import CHANGE
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.families import OwnTx
from lnliquid.watchers.observe import witness_script
from lnliquid.watchers.outbox import ToStore
from lnliquid.watchers.replacement import (
    INCREMENT_SATS_PER_KVB,
    MAX_TOP_UPS,
    CannotPay,
    Material,
    sign_again,
)

from ..builders import (
    ASSET,
    BUYER,
    LOCK_HEIGHT,
    POLICY_ASSET,
    SELLER,
    Judge,
    claim_of,
    make_swap,
    outpoints,
    plan_funding,
    wallet_coin,
)

CAP = 1_000
TOP_UPS = [wallet_coin(600 + n, 5_000 + n) for n in range(MAX_TOP_UPS + 1)]


@pytest.fixture
def judge() -> Judge:
    """A chain that has the coins that may help."""
    made = Judge(LOCK_HEIGHT)
    made.give(TOP_UPS)
    return made


def member_of(signed: tx_builder.Signed, purpose: Purpose = Purpose.FUNDING) -> OwnTx:
    """As stored."""
    return OwnTx(
        signed.txid,
        TxState.ACCEPTED,
        None,
        signed.txid,
        purpose,
        signed.raw,
        signed.fee_sats,
        signed.vsize,
        100,
    )


class Funding:
    """A funding that is in the mempool, with what is stored of it."""

    def __init__(
        self, judge: Judge, lbtc: int = 100_000, coins: Sequence[Coin] = (), number: int = 0
    ) -> None:
        if not coins:
            first = 10 + 10 * number
            coins = [wallet_coin(first, 150_000, ASSET), wallet_coin(first + 1, lbtc)]
            judge.give(coins)
        swap = make_swap(number)
        plan = plan_funding([swap], coins)
        judge.chain.submit(plan.signed.raw)
        vouts = plan.vouts[swap.swap_id]
        self.swap = replace(
            swap, funding_txid=plan.signed.txid, asset_vout=vouts[0], subsidy_vout=vouts[1]
        )
        self.plan = plan
        self.member = member_of(plan.signed)
        coins = [*plan.inputs, *plan.change]
        self.material = Material(self.member, {c.outpoint: c for c in coins}, [self.swap], TOP_UPS)


def again(
    member: OwnTx,
    material: Material,
    rate: int = 200,
    evicted: int | None = None,
    cap: int = CAP,
    moved: dict[Outpoint, Outpoint] | None = None,
) -> ToStore:
    """Sign it again; what it evicts is itself if not said otherwise."""
    return sign_again(
        replace(material, own=member),
        lambda outpoint: (moved or {}).get(outpoint, outpoint),
        SELLER,
        rate_sats_per_kvb=rate,
        evicted_sats=member.fee_sats if evicted is None else evicted,
        cap_sats_per_kvb=cap,
    )


def require_replaced(judge: Judge, older: OwnTx, newer: ToStore) -> None:
    """The chain takes it in the place of the older one."""
    verdict = judge.verdict(newer.signed.raw)
    assert (verdict.allowed, verdict.reject_reason) == (True, None)
    assert (verdict.vsize, verdict.fee_sats) == (newer.signed.vsize, newer.signed.fee_sats)
    assert older.txid in judge.chain.mempool_txids()
    judge.chain.submit(newer.signed.raw)
    assert older.txid not in judge.chain.mempool_txids()
    assert newer.signed.txid in judge.chain.mempool_txids()


def test_the_same_outputs_are_paid_at_the_rate(judge: Judge) -> None:
    """All but the L-BTC change, which pays; the wallet's new coins are told with their values."""
    funding = Funding(judge)
    newer = again(funding.member, funding.material, 300)
    assert newer.signed.fee_sats == fee_sats(newer.signed.vsize, 300)
    require_replaced(judge, funding.member, newer)
    before, after = funding.member.parsed, parse_transaction(newer.signed.raw)
    assert [i.outpoint for i in after.inputs] == [i.outpoint for i in before.inputs]
    assert newer.outpoints == tuple(i.outpoint for i in before.inputs)
    [payer] = [c for c in newer.change if c.asset_id == POLICY_ASSET]
    extra = newer.signed.fee_sats - funding.member.fee_sats
    for vout, (old, new) in enumerate(zip(before.outputs, after.outputs, strict=True)):
        assert (new.script_pubkey, new.asset_id) == (old.script_pubkey, old.asset_id)
        lost = extra if vout == payer.outpoint.vout else -extra if old.is_fee else 0
        assert new.value == (old.value or 0) - lost
    assert {(c.outpoint, c.value, c.branch, c.index) for c in newer.change} == {
        (
            Outpoint(newer.signed.txid, c.outpoint.vout),
            after.outputs[c.outpoint.vout].value,
            CHANGE,
            c.index,
        )
        for c in funding.plan.change
    }
    assert newer.coins == ()


@pytest.mark.parametrize("rate", [100, 110, 190])
def test_it_pays_for_its_own_relay_on_top_of_what_it_evicts(judge: Judge, rate: int) -> None:
    """BIP125 rules 3 and 4, exactly: one sat less is refused."""
    funding = Funding(judge)
    newer = again(funding.member, funding.material, rate)
    relay = fee_sats(newer.signed.vsize, INCREMENT_SATS_PER_KVB)
    assert newer.signed.fee_sats == max(
        funding.member.fee_sats + relay, fee_sats(newer.signed.vsize, rate)
    )
    less = again(funding.member, funding.material, 100, funding.member.fee_sats - 1)
    assert "insufficient fee" in (judge.verdict(less.signed.raw).reject_reason or "")
    require_replaced(judge, funding.member, newer)


def test_the_fees_of_what_was_built_on_it_are_paid_too(judge: Judge) -> None:
    """The child leaves the mempool with its parent."""
    parent = Funding(judge)
    child = Funding(judge, coins=parent.plan.change, number=1)
    alone = again(parent.member, parent.material, 110)
    assert "insufficient fee" in (judge.verdict(alone.signed.raw).reject_reason or "")
    evicted = parent.member.fee_sats + child.member.fee_sats
    require_replaced(judge, parent.member, again(parent.member, parent.material, 110, evicted))
    assert child.member.txid not in judge.chain.mempool_txids()


def test_a_child_is_signed_again_on_the_new_outputs_of_its_parent(judge: Judge) -> None:
    """With the values that these have now."""
    parent = Funding(judge)
    child = Funding(judge, coins=parent.plan.change, number=1)
    evicted = parent.member.fee_sats + child.member.fee_sats
    newer = again(parent.member, parent.material, evicted=evicted)
    require_replaced(judge, parent.member, newer)
    moved = {c.outpoint: Outpoint(newer.signed.txid, c.outpoint.vout) for c in parent.plan.change}
    coins = [*newer.change, *child.plan.change]
    material = replace(child.material, coins={c.outpoint: c for c in coins})
    second = again(child.member, material, evicted=0, moved=moved)
    assert second.outpoints == tuple(moved[i.outpoint] for i in child.member.parsed.inputs)
    assert second.signed.fee_sats == fee_sats(second.signed.vsize, 200)
    judge.chain.submit(second.signed.raw)
    assert set(judge.chain.mempool_txids()) == {newer.signed.txid, second.signed.txid}


@pytest.mark.parametrize(
    ("change", "helpers", "used"),
    [
        (tx_builder.DUST_SATS + 200, 0, 0),
        (tx_builder.DUST_SATS, 1, 1),
        (tx_builder.DUST_SATS, MAX_TOP_UPS + 1, 1),
        (tx_builder.DUST_SATS, 0, None),
    ],
)
def test_coins_help_when_the_change_is_too_small(
    judge: Judge, change: int, helpers: int, used: int | None
) -> None:
    """As few as will do, behind the inputs that it had."""
    funding = Funding(judge, lbtc=500 + 49 + change)
    [payer] = [c for c in funding.plan.change if c.asset_id == POLICY_ASSET]
    assert payer.value == change
    material = replace(funding.material, top_up=TOP_UPS[:helpers])
    if used is None:
        with pytest.raises(CannotPay, match="too small"):
            again(funding.member, material)
        return
    newer = again(funding.member, material)
    assert newer.coins == tuple(TOP_UPS[:used])
    assert newer.outpoints[:2] == tuple(i.outpoint for i in funding.member.parsed.inputs)
    assert newer.outpoints[2:] == tuple(c.outpoint for c in newer.coins)
    require_replaced(judge, funding.member, newer)


def test_no_more_coins_help_than_a_few(judge: Judge) -> None:
    """Crumbs would cost more than they bring."""
    funding = Funding(judge, lbtc=500 + 49 + tx_builder.DUST_SATS)
    crumbs = [wallet_coin(700 + n, 1) for n in range(MAX_TOP_UPS)]
    with pytest.raises(CannotPay, match="too small"):
        again(funding.member, replace(funding.material, top_up=[*crumbs, *TOP_UPS]))


def test_a_coin_that_it_spends_already_does_not_help(judge: Judge) -> None:
    """It would be an input twice."""
    funding = Funding(judge, lbtc=500 + 49 + tx_builder.DUST_SATS)
    with pytest.raises(CannotPay, match="too small"):
        again(funding.member, replace(funding.material, top_up=funding.plan.inputs))


@pytest.mark.parametrize(("cap", "passes"), [(200, True), (198, False)])
def test_it_never_pays_above_the_cap(judge: Judge, cap: int, passes: bool) -> None:
    """However much it evicts."""
    funding = Funding(judge)
    if passes:
        assert again(funding.member, funding.material, cap=cap, evicted=0)
    else:
        with pytest.raises(CannotPay, match="cap"):
            again(funding.member, funding.material, cap=cap, evicted=0)
    with pytest.raises(CannotPay, match="cap"):
        again(funding.member, funding.material, cap=cap, evicted=100)


def without_change(material: Material, asset_id: str) -> Material:
    """As if it made no coin of this asset for the wallet."""
    gone = {c.outpoint for c in material.change if c.asset_id == asset_id}
    left = {o: c for o, c in material.coins.items() if o not in gone}
    return replace(material, coins=left)


def moved_key(material: Material) -> Material:
    """As if the wallet's words were others than those it was paid with."""
    moved = {
        c.outpoint: replace(c, index=c.index + 1) for c in material.change if c.asset_id == ASSET
    }
    return replace(material, coins={**material.coins, **moved})


def foreign_swap(swap: Swap) -> Swap:
    """The same with another buyer."""
    return replace(swap, buyer_key_hash=BUYER.wallet_key(0, 9).key_hash)


def test_what_does_not_pay_the_wallet_or_a_swap_is_not_signed(judge: Judge) -> None:
    """Change of another wallet, an HTLC of another swap, an output that nothing is known of."""
    funding = Funding(judge)
    good = funding.material
    for bad in (
        moved_key(good),
        without_change(good, ASSET),
        replace(good, swaps=[]),
        replace(good, swaps=[foreign_swap(funding.swap)]),
        replace(good, swaps=[replace(funding.swap, funding_txid="00" * 32)]),
        replace(good, swaps=[replace(funding.swap, refund_lock_height=LOCK_HEIGHT + 1)]),
    ):
        with pytest.raises(CannotPay, match="neither the wallet's nor that of a swap"):
            again(funding.member, bad)
    assert again(funding.member, good)


def test_another_wallet_signs_nothing(judge: Judge) -> None:
    """Not even when all that is stored fits."""
    funding = Funding(judge)
    with pytest.raises(CannotPay, match="neither the wallet's"):
        sign_again(
            funding.material,
            lambda outpoint: outpoint,
            BUYER,
            rate_sats_per_kvb=200,
            evicted_sats=0,
            cap_sats_per_kvb=CAP,
        )


def test_an_input_that_nothing_is_known_of_is_not_signed(judge: Judge) -> None:
    """It is not the wallet's and not a swap's."""
    funding = Funding(judge)
    [first, *_] = funding.plan.inputs
    inputs = {o: c for o, c in funding.material.coins.items() if o != first.outpoint}
    with pytest.raises(CannotPay, match=str(first.outpoint)):
        again(funding.member, replace(funding.material, coins=inputs))


@pytest.mark.parametrize("takes", [2, 1], ids=["both outputs", "the asset alone, topped up"])
def test_a_refund_is_replaced_with_its_lock_height(judge: Judge, takes: int) -> None:
    """By the same branch of the same HTLC outputs; a claim that came first is not replaced."""
    [swap] = judge.fund(make_swap(0), lock_height=LOCK_HEIGHT)
    script = witness_script(swap)
    values = ((ASSET, swap.asset_amount), (POLICY_ASSET, swap.subsidy_sats))
    inputs = [
        coin_selection.RefundInput(outpoint, asset, value, swap.key_index, script)
        for outpoint, (asset, value) in zip(outpoints(swap), values, strict=True)
    ][:takes]
    plan = coin_selection.plan_refund(
        inputs,
        keys=SELLER,
        lock_height=LOCK_HEIGHT,
        change_indexes=(2, 3),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=100,
        top_up=TOP_UPS[:1],
    )
    judge.chain.submit(plan.signed.raw)
    member = member_of(plan.signed, Purpose.REFUND)
    coins = {c.outpoint: c for c in (*plan.topped_up, *plan.payouts)}
    material = Material(member, coins, [swap], TOP_UPS[1:])
    newer = again(member, material)
    require_replaced(judge, member, newer)
    parsed = parse_transaction(newer.signed.raw)
    assert parsed.lock_time == LOCK_HEIGHT
    assert {o for o in newer.outpoints if o in outpoints(swap)} == set(outpoints(swap)[:takes])
    judge.chain.drop_mempool(newer.signed.txid)
    judge.chain.submit(claim_of(swap).raw)
    assert not judge.verdict(newer.signed.raw).allowed


def test_without_change_nothing_can_pay(judge: Judge) -> None:
    """The outputs of a buyer are never made less."""
    usual = Funding(judge)
    exact = Funding(judge, usual.swap.subsidy_sats + usual.member.fee_sats, number=1)
    assert [c.asset_id for c in exact.plan.change] == [ASSET]
    with pytest.raises(CannotPay, match="no change"):
        again(exact.member, exact.material)
