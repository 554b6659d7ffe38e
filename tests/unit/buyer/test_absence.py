"""What is not given is not taken for what is not there, where that would matter."""

from collections.abc import Sequence

import pytest

from lnliquid.buyer.chain_view import look_at_htlc, read_coins
from lnliquid.domain import htlc
from lnliquid.domain.errors import BackendRejected
from lnliquid.domain.ports import HistoryItem
from lnliquid.liquid.keys import RECEIVE

from ..builders import BUYER, txid_of
from ..fakes import FakeChain
from .test_verify import good


class OddChain(FakeChain):
    """A chain whose server has an odd answer for every transaction that is not set."""

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """As the client tells of such an answer."""
        if strict and any(txid not in self.raws for txid in txids):
            raise BackendRejected("electrum", "daemon is away")
        return await super().transactions(txids)


async def test_the_buyer_does_not_take_a_spend_that_is_not_given_for_none() -> None:
    """Else it would pay for what is spent already."""
    swap, chain = good().swap, OddChain()
    script = htlc.output_script(swap.witness_script)
    chain.found[script] = (HistoryItem(swap.funding_txid, 7), HistoryItem(txid_of(1), 8))
    with pytest.raises(BackendRejected):
        await look_at_htlc(chain, swap)


async def test_the_buyer_does_not_spend_coins_whose_spend_is_not_given() -> None:
    """A history that is not whole may hide it."""
    chain = OddChain()
    script = htlc.p2wpkh_script(BUYER.wallet_key(RECEIVE, 0).key_hash)
    chain.found[script] = (HistoryItem(txid_of(1), 8),)
    with pytest.raises(BackendRejected):
        await read_coins(chain, BUYER, 1)
