"""`api.convert`: what a swap looks like to a buyer, and what is never shown."""

from dataclasses import replace

import pytest

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.api import convert
from lnliquid.domain.swap import State

from ..builders import ANY_TIME, NOW, make_swap, preimage_of, txid_of


@pytest.mark.parametrize("state", list(State))
def test_the_invoice_is_never_shown_before_the_lock_is_confirmed(state: State) -> None:
    """Money rule 3, also while a reorg has taken a funded swap back."""
    swap = make_swap(state=state, bolt11="lnert1secret", invoice_expires_at=NOW)
    message = convert.swap_to(swap, ANY_TIME)
    assert message.state == int(state)
    assert bool(message.bolt11) is (state is not State.CREATED)
    assert bool(message.invoice_expires_at) is (state is not State.CREATED)
    assert (b"lnert1secret" in message.SerializeToString()) is (state is not State.CREATED)


def test_a_swap_is_told_as_it_is_stored() -> None:
    """Every field of the message, and no secret; nothing of the HTLC before it is signed."""
    swap = make_swap(3, spend_txid=txid_of(5), finished=True, state=State.CLAIMED)
    message = convert.swap_to(swap, ANY_TIME)
    same = {
        "swap_id", "request_id", "asset_id", "asset_amount", "total_price_msat",
        "min_funding_confs", "buyer_claim_address", "max_ln_cltv_blocks", "spend_txid",
        "created_at", "funding_txid", "refund_lock_height", "asset_vout", "subsidy_vout",
    }  # fmt: skip
    assert {n: getattr(message, n) for n in same} == {n: getattr(swap, n) for n in same}
    assert message.fee_subsidy_sats == swap.subsidy_sats
    assert message.is_final
    assert message.payment_hash == swap.payment_hash.hex()
    assert message.seller_key_hash == swap.seller_key_hash.hex()
    assert swap.buyer_key_hash in message.witness_script
    assert preimage_of(swap) not in message.SerializeToString()
    unsigned = convert.swap_to(
        replace(swap, funding_txid=None, refund_lock_height=None, asset_vout=None), ANY_TIME
    )
    empty = ("funding_txid", "refund_lock_height", "witness_script", "asset_vout", "subsidy_vout")
    assert not any(getattr(unsigned, name) for name in empty)


def test_the_states_of_schema_and_domain_have_the_same_numbers() -> None:
    """They are converted by number."""
    assert {f"SWAP_STATE_{s.name}": int(s) for s in State} == {
        name: number for name, number in pb.SwapState.items() if number
    }
