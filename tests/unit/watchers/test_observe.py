"""`watchers.observe`, `.chain_view`: facts of a swap from histories and raw transactions."""

from itertools import permutations

import pytest

from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendTimeout, BackendUnavailable
from lnliquid.domain.htlc import SpendKind
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.reconcile import ChainFacts, Spend
from lnliquid.domain.swap import Outpoint, Swap
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid import coin_selection, tx_builder
from lnliquid.liquid.keys import RECEIVE
from lnliquid.watchers import observe
from lnliquid.watchers.chain_view import read_facts
from lnliquid.watchers.observe import ScriptHistory, facts_of

from ..builders import (
    ASSET,
    BUYER,
    LOCK_HEIGHT,
    POLICY_ASSET,
    SELLER,
    make_swap,
    outpoints,
    preimage_of,
    txid_of,
)
from ..fakes import FakeChain

SWAP, OTHER = make_swap(0), make_swap(1)
PAYOUT = htlc.p2wpkh_script(BUYER.wallet_key(RECEIVE, 0).key_hash)


def spend_of(*outs: Outpoint, swap: Swap = SWAP, kind: SpendKind | None) -> bytes:
    """A transaction that spends outputs of a swap by one branch; None: by nonsense."""
    script = observe.witness_script(swap)
    key = BUYER.wallet_key(RECEIVE, swap.key_index)

    def one(outpoint: Outpoint) -> tx_builder.Spend:
        if kind is SpendKind.CLAIM:
            return tx_builder.claim_spend(outpoint, 500, key, script, preimage_of(swap))
        if kind is SpendKind.REFUND:
            return tx_builder.refund_spend(outpoint, 500, SELLER.refund_key(swap.key_index), script)
        return tx_builder.claim_spend(outpoint, 500, key, script, b"\x00" * 32)

    outputs = [tx_builder.Output(PAYOUT, ASSET, 1)]
    return tx_builder.sign([one(o) for o in outs], outputs, policy_asset=POLICY_ASSET, fee=1).raw


def read(history: list[tuple[str, int | None]], *raws: bytes, swap: Swap = SWAP) -> ChainFacts:
    """Facts from this history, with these transactions at hand."""
    parsed = {t.txid: t for t in map(parse_transaction, raws)}
    items = tuple(HistoryItem(txid, height) for txid, height in history)
    return facts_of(swap, ScriptHistory(items, parsed))


ASSET_OUT, SUBSIDY_OUT = outpoints(SWAP)
FUNDING = ASSET_OUT.txid
CLAIM = spend_of(ASSET_OUT, SUBSIDY_OUT, kind=SpendKind.CLAIM)
REFUND = spend_of(ASSET_OUT, SUBSIDY_OUT, kind=SpendKind.REFUND)


def id_of(raw: bytes) -> str:
    """txid of a raw transaction."""
    return parse_transaction(raw).txid


@pytest.mark.parametrize(("height", "seen"), [(None, True), (7, True)])
def test_an_unspent_funding(height: int | None, seen: bool) -> None:
    """In the mempool or in a block; nothing spends it."""
    assert read([(FUNDING, height)]) == ChainFacts(seen, height, None, None)


def test_a_funding_that_is_not_there() -> None:
    """An empty history says so."""
    assert read([]) == ChainFacts(False, None, None, None)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (CLAIM, SpendKind.CLAIM),
        (REFUND, SpendKind.REFUND),
        (spend_of(ASSET_OUT, SUBSIDY_OUT, kind=None), None),
    ],
)
@pytest.mark.parametrize("height", [None, 12])
def test_a_spend_is_known_by_its_witness(
    raw: bytes, kind: SpendKind | None, height: int | None
) -> None:
    """Claim, refund or neither, with its height; not by its txid or who sent it."""
    seen = read([(FUNDING, 7), (id_of(raw), height)], raw)
    expected = Spend(id_of(raw), height, kind)
    assert seen == ChainFacts(True, 7, expected, expected)


def test_the_outputs_are_told_apart() -> None:
    """The buyer took the asset alone; the seller the subsidy later."""
    claim = spend_of(ASSET_OUT, kind=SpendKind.CLAIM)
    sweep = spend_of(SUBSIDY_OUT, kind=SpendKind.REFUND)
    history = [(FUNDING, 7), (id_of(claim), 9), (id_of(sweep), None)]
    seen = read(history, claim, sweep)
    assert seen.asset_spend == Spend(id_of(claim), 9, SpendKind.CLAIM)
    assert seen.subsidy_spend == Spend(id_of(sweep), None, SpendKind.REFUND)


def test_the_order_of_a_history_does_not_matter() -> None:
    """Nor does an entry that is there twice."""
    claim = spend_of(ASSET_OUT, kind=SpendKind.CLAIM)
    sweep = spend_of(SUBSIDY_OUT, kind=SpendKind.REFUND)
    history = [(FUNDING, 7), (id_of(claim), 9), (id_of(sweep), 11), (id_of(claim), 9)]
    views = {read(list(order), claim, sweep) for order in permutations(history)}
    assert len(views) == 1


def test_strangers_at_the_same_script_are_passed_over() -> None:
    """Anyone may pay to the script, or spend what others paid to it."""
    gift = tx_builder.sign(
        [tx_builder.wallet_spend(Outpoint(txid_of(5), 0), 9, SELLER.wallet_key(RECEIVE, 0))],
        [tx_builder.Output(observe.output_script(SWAP), POLICY_ASSET, 8)],
        policy_asset=POLICY_ASSET,
        fee=1,
    ).raw
    back = spend_of(Outpoint(id_of(gift), 0), kind=SpendKind.REFUND)
    seen = read([(FUNDING, 7), (id_of(gift), 8), (id_of(back), 9)], gift, back)
    assert seen == ChainFacts(True, 7, None, None)


def test_scripts_of_a_swap() -> None:
    """The one that the wallet funds, at the stored lock height."""
    assert observe.witness_script(SWAP) == coin_selection.htlc_script(SWAP, LOCK_HEIGHT)
    assert observe.output_script(SWAP) == htlc.output_script(
        coin_selection.htlc_script(SWAP, LOCK_HEIGHT)
    )
    assert observe.output_script(SWAP) != observe.output_script(OTHER)


def chain_of(*raws: bytes, **histories: list[tuple[str, int | None]]) -> FakeChain:
    """A backend with these transactions and the histories of `swap` and `other`."""
    chain = FakeChain()
    chain.raws = {id_of(raw): raw for raw in raws}
    for name, history in histories.items():
        script = observe.output_script({"swap": SWAP, "other": OTHER}[name])
        chain.found[script] = tuple(HistoryItem(txid, height) for txid, height in history)
    return chain


async def test_facts_of_several_swaps_are_read_in_two_calls() -> None:
    """One for the histories, one for the transactions; fundings are not fetched."""
    other_refund = spend_of(*outpoints(OTHER), swap=OTHER, kind=SpendKind.REFUND)
    chain = chain_of(
        CLAIM,
        other_refund,
        swap=[(FUNDING, 7), (id_of(CLAIM), None)],
        other=[(FUNDING, 7), (id_of(other_refund), 30)],
    )
    facts, refused = await read_facts(chain, [SWAP, OTHER])
    assert refused == {}
    assert facts[SWAP.swap_id].asset_spend == Spend(id_of(CLAIM), None, SpendKind.CLAIM)
    assert facts[OTHER.swap_id].asset_spend == Spend(id_of(other_refund), 30, SpendKind.REFUND)
    assert chain.calls == ["histories", "transactions"]


async def test_a_transaction_of_two_swaps_is_read_for_both() -> None:
    """A batched refund names each by its own script."""
    script, other_script = observe.witness_script(SWAP), observe.witness_script(OTHER)
    batch = tx_builder.sign(
        [
            tx_builder.refund_spend(outpoints(SWAP)[0], 1, SELLER.refund_key(0), script),
            tx_builder.refund_spend(outpoints(OTHER)[0], 1, SELLER.refund_key(1), other_script),
        ],
        [tx_builder.Output(PAYOUT, ASSET, 1)],
        policy_asset=POLICY_ASSET,
        fee=1,
    ).raw
    history: list[tuple[str, int | None]] = [(FUNDING, 7), (id_of(batch), 9)]
    facts, _ = await read_facts(chain_of(batch, swap=history, other=history), [SWAP, OTHER])
    for swap in (SWAP, OTHER):
        assert facts[swap.swap_id].asset_spend == Spend(id_of(batch), 9, SpendKind.REFUND)
        assert facts[swap.swap_id].subsidy_spend is None


async def test_a_transaction_that_the_server_withholds_is_not_taken_for_no_spend() -> None:
    """A claim may hide in it: that swap has no facts, and the other has."""
    chain = chain_of(swap=[(FUNDING, 7), (id_of(CLAIM), None)], other=[(FUNDING, 7)])
    facts, refused = await read_facts(chain, [SWAP, OTHER])
    assert set(facts) == {OTHER.swap_id}
    assert id_of(CLAIM) in refused[SWAP.swap_id]


async def test_one_script_that_the_server_refuses_does_not_hide_the_others() -> None:
    """Money rule 10: its swap is named with the server's reason."""
    chain = chain_of(swap=[(FUNDING, 7)], other=[(FUNDING, 7)])
    chain.refused = {observe.output_script(SWAP)}
    facts, refused = await read_facts(chain, [SWAP, OTHER])
    assert set(facts) == {OTHER.swap_id}
    assert refused == {SWAP.swap_id: "history too large"}


async def test_one_transaction_that_cannot_be_read_does_not_hide_the_others() -> None:
    """Its swap is put aside with the reason."""
    chain = chain_of(swap=[(FUNDING, 7), (txid_of(3), 8)], other=[(FUNDING, 7)])
    chain.raws[txid_of(3)] = b"\x02\x00\x00\x00\x07"
    facts, refused = await read_facts(chain, [SWAP, OTHER])
    assert set(facts) == {OTHER.swap_id}
    assert set(refused) == {SWAP.swap_id}


@pytest.mark.parametrize(
    "error", [BackendUnavailable("electrum", "gone"), BackendTimeout("electrum", "slow")]
)
async def test_a_dead_backend_is_told_and_not_guessed(
    error: BackendUnavailable | BackendTimeout,
) -> None:
    """Nothing is read one by one then, and no swap gets empty facts."""
    chain = chain_of(swap=[(FUNDING, 7)])
    chain.broken = error
    with pytest.raises(type(error)):
        await read_facts(chain, [SWAP, OTHER])
    assert chain.calls == ["histories"]
