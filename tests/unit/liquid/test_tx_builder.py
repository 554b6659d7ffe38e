"""`liquid.tx_builder`: sizes known before signing, fees at the floor, signatures."""

import hashlib
from dataclasses import replace

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnlab.nodes.embedded.chain import Chain
from lnlab.nodes.embedded.txmodel import parse_tx
from lnliquid.domain import htlc
from lnliquid.domain.swap import Outpoint
from lnliquid.domain.terms import CLAIM_VSIZE, fee_sats
from lnliquid.domain.transaction import TxOutput, parse_transaction
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.keys import RECEIVE, Key

from ..builders import (
    ASSET,
    BUYER,
    POLICY_ASSET,
    SELLER,
    VECTORS,
    make_swap,
    outpoints,
    plan_funding,
    preimage_of,
    txid_of,
    uuid_of,
    wallet_coin,
)

RATE = 100
BUYER_KEY = BUYER.wallet_key(RECEIVE, 0)
SECRET = preimage_of(make_swap())
BUYER_SCRIPT = htlc.p2wpkh_script(BUYER_KEY.key_hash)


def vsize_by_judge(raw: bytes) -> int:
    """vsize as the lab's own reader of transactions weighs it."""
    return -(-parse_tx(raw).weight // 4)


def claim(height: int = 100, subsidy: int = 500, rate: int = RATE) -> tx_builder.Signed:
    """The claim of both outputs of one swap."""
    swap = make_swap(subsidy_sats=subsidy)
    script = coin_selection.htlc_script(swap, height)
    values = (swap.asset_amount, subsidy)
    return tx_builder.claim(
        spends=[
            tx_builder.claim_spend(o, v, BUYER_KEY, script, SECRET)
            for o, v in zip(outpoints(swap), values, strict=True)
        ],
        asset_id=ASSET,
        asset_amount=swap.asset_amount,
        subsidy_sats=subsidy,
        script_pubkey=BUYER_SCRIPT,
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=rate,
    )


def refund(swaps: int, height: int = 100) -> tx_builder.Signed:
    """One refund of both outputs of so many swaps."""
    inputs = []
    for number in range(swaps):
        swap = make_swap(number)
        script = coin_selection.htlc_script(swap, height)
        asset, subsidy = outpoints(swap)
        inputs.append(coin_selection.RefundInput(asset, ASSET, swap.asset_amount, number, script))
        inputs.append(coin_selection.RefundInput(subsidy, POLICY_ASSET, 500, number, script))
    plan = coin_selection.plan_refund(
        inputs,
        keys=SELLER,
        lock_height=height,
        change_indexes=(0, 1),
        policy_asset=POLICY_ASSET,
        rate_sats_per_kvb=RATE,
    )
    return plan.signed


def funding(swaps: int) -> tx_builder.Signed:
    """One funding of so many swaps from one coin each of asset and L-BTC, with both changes."""
    many = [make_swap(swap_id=uuid_of(n)) for n in range(swaps)]
    coins = [wallet_coin(1, 50_000 * swaps + 5, ASSET), wallet_coin(2, 2_000_000)]
    return plan_funding(many, coins).signed


@pytest.mark.parametrize(("swaps", "vsize"), [(1, 483), (2, 640), (3, 797), (634, 99_866)])
def test_size_of_a_funding(swaps: int, vsize: int) -> None:
    """483 vB for one swap and 157 for each further one, as elementsd measured them."""
    signed = funding(swaps)
    # From 253 outputs on their number takes two bytes more.
    assert signed.vsize == vsize == 483 + 157 * (swaps - 1) + (2 if swaps > 125 else 0)
    assert vsize_by_judge(signed.raw) == vsize
    # Inputs are counted rounded up before they are chosen, which can cost a sat.
    assert 0 <= signed.fee_sats - fee_sats(vsize, RATE) <= 1


@pytest.mark.parametrize(("height", "vsize"), [(16, 391), (100, 392), (1_000, 392), (100_000, 393)])
def test_size_of_a_claim(height: int, vsize: int) -> None:
    """392 vB at the recorded heights; each byte of the height is in two witness scripts."""
    signed = claim(height)
    assert (signed.vsize, vsize_by_judge(signed.raw)) == (vsize, vsize)
    assert signed.fee_sats == fee_sats(vsize, RATE) == -(-vsize // 10)


def test_the_size_that_is_promised_for_a_claim_holds_on_real_chains() -> None:
    """A subsidy that settings accept as enough for the fee cap pays for the claim."""
    assert claim(3_000_000).vsize <= CLAIM_VSIZE


def test_size_of_a_claim_of_one_output() -> None:
    """The subsidy alone: 224 vB, as recorded."""
    script = coin_selection.htlc_script(make_swap(), 100)
    spend = tx_builder.claim_spend(Outpoint(txid_of(1), 1), 500, BUYER_KEY, script, SECRET)
    outputs = [tx_builder.Output(BUYER_SCRIPT, POLICY_ASSET, 440)]
    assert tx_builder.predict_vsize([spend], outputs) == 224
    signed = tx_builder.sign([spend], outputs, policy_asset=POLICY_ASSET, fee=60)
    assert signed.vsize == vsize_by_judge(signed.raw) == 224


@pytest.mark.parametrize(
    ("swaps", "height", "vsize"), [(1, 100, 375), (2, 100, 561), (1, 100_000, 376)]
)
def test_size_of_a_refund(swaps: int, height: int, vsize: int) -> None:
    """375 vB for one swap and 561 for two, as recorded."""
    signed = refund(swaps, height)
    assert (signed.vsize, vsize_by_judge(signed.raw)) == (vsize, vsize)
    assert signed.fee_sats == fee_sats(vsize, RATE)


def test_the_largest_batch_of_refunds_is_standard() -> None:
    """300 swaps, 600 outputs: size as predicted, under 400,000 weight, fee at the floor."""
    signed = refund(300)
    assert signed.vsize == vsize_by_judge(signed.raw) < 100_000
    assert signed.fee_sats == fee_sats(signed.vsize, RATE)
    assert len(parse_transaction(signed.raw).outputs) == 3


@given(
    inputs=st.lists(st.sampled_from(["wallet", "claim", "refund"]), min_size=1, max_size=4),
    outputs=st.integers(1, 300),
    height=st.sampled_from([1, 16, 17, 127, 128, 32_768, 8_388_608]),
    number=st.integers(0, 9),
)
def test_the_predicted_size_is_the_signed_size(
    inputs: list[str], outputs: int, height: int, number: int
) -> None:
    """For any mix of inputs and number of outputs, also where a count needs more bytes."""
    script = coin_selection.htlc_script(make_swap(number), height)
    kinds = {
        "wallet": lambda o: tx_builder.wallet_spend(o, 9, SELLER.wallet_key(RECEIVE, number)),
        "claim": lambda o: tx_builder.claim_spend(o, 9, BUYER_KEY, script, SECRET),
        "refund": lambda o: tx_builder.refund_spend(o, 9, SELLER.refund_key(number), script),
    }
    spends = [kinds[kind](Outpoint(txid_of(1), n)) for n, kind in enumerate(inputs)]
    pays = [tx_builder.Output(BUYER_SCRIPT, ASSET, 1)] * outputs
    predicted = tx_builder.predict_vsize(spends, pays)
    signed = tx_builder.sign(spends, pays, policy_asset=POLICY_ASSET, fee=1, lock_time=height)
    assert signed.vsize == predicted == vsize_by_judge(signed.raw)


def test_signatures_have_one_length_and_are_valid() -> None:
    """300 digests: 71 bytes with the sighash byte, accepted and low-S by another library."""
    half_order = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    key = Key(b"\x07" * 32)
    public = coincurve.PublicKey(key.public_key)
    for number in range(300):
        digest = hashlib.sha256(number.to_bytes(4, "big")).digest()
        der = key.sign(digest)
        assert len(der) + 1 == Key.SIGNATURE_SIZE == 71
        assert public.verify(der, digest, hasher=None)
        r_size = der[3]
        assert int.from_bytes(der[6 + r_size :], "big") <= half_order
    assert key.sign(digest) == der


def test_sequences_and_lock_times() -> None:
    """A claim is final; a refund lets the lock time count; funding and refund can be replaced."""
    assert {i.sequence for i in parse_transaction(claim().raw).inputs} == {0xFFFFFFFF}
    assert parse_transaction(claim().raw).lock_time == 0
    refunded = parse_transaction(refund(2, 77).raw)
    assert refunded.lock_time == 77
    assert {i.sequence for i in refunded.inputs} == {0xFFFFFFFD}
    assert {i.sequence for i in parse_transaction(funding(1).raw).inputs} == {0xFFFFFFFD}


def test_every_signature_is_sighash_all() -> None:
    """The last byte of each is 01; embit's default for Liquid would be 41."""
    for signed in (claim(), refund(1), funding(1)):
        for item in parse_transaction(signed.raw).inputs:
            assert len(item.witness[0]) == 71
            assert item.witness[0][-1] == 0x01


def test_a_claim_pays_what_the_subsidy_leaves_to_the_buyer() -> None:
    """The asset whole, the rest of the subsidy, the fee as the last output."""
    parsed = parse_transaction(claim(subsidy=500).raw)
    assert [(o.asset_id, o.value) for o in parsed.outputs] == [
        (ASSET, 50_000), (POLICY_ASSET, 460), (POLICY_ASSET, 40),
    ]  # fmt: skip
    assert [o.script_pubkey for o in parsed.outputs] == [BUYER_SCRIPT, BUYER_SCRIPT, b""]


@pytest.mark.parametrize(
    ("subsidy", "outputs", "fee"), [(71, 3, 40), (70, 3, 40), (69, 2, 69), (41, 2, 41), (40, 2, 40)]
)
def test_dust_of_a_claim_goes_to_the_fee(subsidy: int, outputs: int, fee: int) -> None:
    """No output below 30 sat is made, and the fee rate is never below the one asked."""
    signed = claim(subsidy=subsidy)
    assert (len(parse_transaction(signed.raw).outputs), signed.fee_sats) == (outputs, fee)
    assert parse_transaction(signed.raw).fee_sats == fee >= fee_sats(signed.vsize, RATE)


def test_a_subsidy_below_the_fee_is_refused_with_what_is_missing() -> None:
    """Nothing is signed then."""
    with pytest.raises(ValueError, match=r"^1 sat of L-BTC are missing"):
        claim(subsidy=39)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_recorded_transactions_are_read(vector: dict[str, object]) -> None:
    """txid, outpoints, outputs, lock time and size as the lab's reader and elementsd have them."""
    raws = [*vector["chain"], *vector["mempool"], vector["tx"]]  # type: ignore[misc]
    for raw in map(bytes.fromhex, raws):
        mine, judge = parse_transaction(raw), parse_tx(raw)
        assert mine.txid == judge.txid
        assert [(i.outpoint.txid, i.outpoint.vout) for i in mine.inputs] == [
            i.outpoint for i in judge.inputs
        ]
        assert [tuple(i.witness) for i in mine.inputs] == [i.witness for i in judge.inputs]
        assert [(o.script_pubkey, o.asset_id, o.value) for o in mine.outputs] == [
            (o.script, o.asset, o.value) for o in judge.outputs
        ]
        assert mine.vsize == -(-judge.weight // 4)
    if vector["allowed"]:
        assert (mine.vsize, mine.fee_sats) == (vector["vsize"], vector["fee_sats"])


def test_recorded_coins_come_from_the_recorded_transactions() -> None:
    """Where a vector holds the parent of a coin, its txid, asset and value are found in it."""
    checked = 0
    for vector in VECTORS:
        raws = [*vector["chain"], *vector["mempool"]]
        parents = {t.txid: t for t in (parse_transaction(bytes.fromhex(raw)) for raw in raws)}
        for coin in vector["coins"]:
            if coin["txid"] in parents:
                output = parents[coin["txid"]].outputs[coin["vout"]]
                assert (output.asset_id, output.value) == (coin["asset"], coin["value"])
                assert output.script_pubkey.hex() == coin["script_pubkey"]
                checked += 1
    assert checked >= 8


def test_a_transaction_without_witness_is_read() -> None:
    """The genesis coin is spent and coinbases are made without one; txid and outputs hold."""
    chain = Chain()
    chain.generate(1)
    raw, _ = chain.raw_tx(chain.block_txids(chain.tip_hash)[0])
    assert parse_transaction(raw).txid == parse_tx(raw).txid
    assert parse_transaction(raw).fee_sats == 0


def test_a_transaction_without_witness_is_weighed() -> None:
    """Its size is that of its bytes."""
    chain = Chain()
    chain.generate(1)
    raw, _ = chain.raw_tx(chain.block_txids(chain.tip_hash)[0])
    bare = parse_tx(raw).base
    assert parse_transaction(bare).vsize == len(bare)


def test_blinded_outputs_are_read_as_unknown() -> None:
    """Commitments in place of asset and value are None, and no amount is guessed."""
    raw = claim().raw
    explicit = (
        b"\x01" + bytes.fromhex(ASSET)[::-1] + b"\x01" + (50_000).to_bytes(8, "big") + b"\x00"
    )
    assert raw.count(explicit) == 1
    blinded = raw.replace(
        explicit, b"\x0a" + b"\x11" * 32 + b"\x08" + b"\x22" * 32 + b"\x02" + b"\x33" * 32
    )
    output = parse_transaction(blinded).outputs[0]
    assert (output.asset_id, output.value, output.is_fee) == (None, None, False)
    assert output.script_pubkey == BUYER_SCRIPT
    assert parse_transaction(blinded).txid == parse_tx(blinded).txid


def test_bytes_that_are_not_one_transaction_are_refused() -> None:
    """Cut short anywhere, followed by more, empty, or counting more than there is."""
    raw = claim().raw
    damaged = [raw[:n] for n in range(len(raw))]
    damaged += [
        raw + b"\x00",
        b"\x02\x00\x00\x00\x01\xff" + b"\xff" * 8,
        raw[:5] + b"\xfe" + raw[6:],
    ]
    for item in damaged:
        with pytest.raises(ValueError, match="transaction"):
            parse_transaction(item)


def test_signing_does_not_change_what_was_asked() -> None:
    """Outputs are signed in order, with the fee last, and no input is lost."""
    spend = tx_builder.wallet_spend(Outpoint(txid_of(5), 7), 1_000, SELLER.wallet_key(RECEIVE, 0))
    outputs = [
        tx_builder.Output(BUYER_SCRIPT, ASSET, 3),
        tx_builder.Output(BUYER_SCRIPT, POLICY_ASSET, 900),
    ]
    parsed = parse_transaction(
        tx_builder.sign([spend], outputs, policy_asset=POLICY_ASSET, fee=100).raw
    )
    assert parsed.inputs[0].outpoint == Outpoint(txid_of(5), 7)
    assert [replace(o) for o in parsed.outputs] == [
        TxOutput(BUYER_SCRIPT, ASSET, 3),
        TxOutput(BUYER_SCRIPT, POLICY_ASSET, 900),
        TxOutput(b"", POLICY_ASSET, 100),
    ]
