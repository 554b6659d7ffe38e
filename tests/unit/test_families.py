"""`seller.families`: what is lost of a family, and how it is stored."""

import pytest

from lnliquid.seller.families import Standing, Version, is_lost, settled
from lnliquid.store.tables import TxState

REPLACED, CONFIRMED, ABANDONED = TxState.REPLACED, TxState.CONFIRMED, TxState.ABANDONED


@pytest.mark.parametrize("winner", ["first", "second", "third"])
def test_of_those_that_replaced_each_other_one_confirms_and_the_others_are_lost(
    winner: str,
) -> None:
    """Whichever it is, and from the height on at which it is buried."""
    versions = [Version(t, REPLACED, None) for t in ("first", "second", "third")]
    stored = settled(versions, Standing(winner, CONFIRMED, 50))
    assert {v.txid for v in stored if v.state is not REPLACED} == {winner}
    for version in versions:
        assert is_lost(version.txid, stored, 50) is (version.txid != winner)
        assert not is_lost(version.txid, stored, 49)


def test_what_was_abandoned_is_lost() -> None:
    """All of it."""
    versions = [Version(t, ABANDONED, None) for t in ("first", "second")]
    assert all(is_lost(v.txid, versions, 0) for v in versions)
