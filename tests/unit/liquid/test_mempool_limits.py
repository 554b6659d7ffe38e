"""Limits on chains of unconfirmed transactions."""

from lnliquid.domain.swap import Pending
from lnliquid.liquid.mempool_limits import Chains


def line(count: int, vsize: int = 483) -> Chains:
    """A chain of `count` transactions, each spending from the one before: t0, t1, …"""
    return Chains(
        Pending(f"t{n}", vsize, frozenset({f"t{n - 1}"} if n else {"confirmed"}))
        for n in range(count)
    )


def test_confirmed_parents_are_no_limit() -> None:
    """What is not pending counts as confirmed."""
    assert Chains().fits({"whatever"}, 100_000)


def test_25th_fits_and_26th_does_not() -> None:
    """elementsd: the 25th transaction of one unconfirmed chain passes, the 26th fails."""
    assert line(24).fits({"t23"}, 483)
    assert not line(25).fits({"t24"}, 483)


def test_101_kvb_is_the_limit_of_size() -> None:
    """All unconfirmed ancestors and the new one together may have 101,000 vbytes."""
    assert line(1, vsize=99_866).fits({"t0"}, 1_134)
    assert not line(1, vsize=99_866).fits({"t0"}, 1_135)


def test_siblings_count_for_their_common_ancestor() -> None:
    """A second child is limited by what the first child's branch holds already."""
    root = Pending("root", 500, frozenset())
    branch = [Pending(f"b{n}", 500, frozenset({f"b{n - 1}" if n else "root"})) for n in range(23)]
    chains = Chains([root, *branch])
    assert chains.fits({"root"}, 500)
    full = Chains([root, *branch, Pending("c", 500, frozenset({"root"}))])
    assert not full.fits({"root"}, 500)
    assert not full.fits({"b22"}, 500)


def test_has_child() -> None:
    """Only a transaction that nothing of ours spends from may be replaced alone."""
    chains = line(2)
    assert chains.has_child("t0")
    assert not chains.has_child("t1")
