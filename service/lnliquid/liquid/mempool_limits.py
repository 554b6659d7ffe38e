"""Limits on chains of unconfirmed transactions, for transactions of our own.

elementsd accepts 25 transactions and 101 kvB with all unconfirmed ancestors, and the same with all
unconfirmed descendants (Elements `policy/policy.h`, as in Bitcoin Core).
"""

from collections.abc import Collection, Iterable

from lnliquid.domain.swap import Pending

MAX_CHAIN_COUNT = 25
MAX_CHAIN_VSIZE = 101_000


class Chains:
    """The graph of our unconfirmed transactions."""

    def __init__(self, pending: Iterable[Pending] = ()) -> None:
        self._pending = {p.txid: p for p in pending}
        self._ancestors: dict[str, frozenset[str]] = {}
        self._descendants: dict[str, set[str]] = {txid: set() for txid in self._pending}
        for txid in self._pending:
            for ancestor in self.ancestors(txid):
                self._descendants[ancestor].add(txid)

    def ancestors(self, txid: str) -> frozenset[str]:
        """The transaction itself and all unconfirmed ones it descends from; empty if confirmed."""
        if txid not in self._pending:
            return frozenset()
        if txid not in self._ancestors:
            above = [self.ancestors(parent) for parent in self._pending[txid].parents]
            self._ancestors[txid] = frozenset({txid}).union(*above)
        return self._ancestors[txid]

    def has_child(self, txid: str) -> bool:
        """True when another unconfirmed transaction of ours spends from this one."""
        return len(self._descendants.get(txid, ())) > 1

    def groups(self) -> list[frozenset[str]]:
        """Unconfirmed transactions that are connected, the lightest group first."""
        groups: list[frozenset[str]] = []
        for txid in self._pending:
            group = self.ancestors(txid)
            touched = [g for g in groups if g & group]
            groups = [g for g in groups if not g & group] + [group.union(*touched)]
        return sorted(groups, key=lambda g: sum(self._pending[txid].vsize for txid in g))

    def fits(self, parents: Collection[str], vsize: int) -> bool:
        """May a new transaction of this size spend outputs of these transactions now?"""
        above = frozenset[str]().union(*(self.ancestors(parent) for parent in parents))
        return self._within(above, vsize) and all(
            self._within(self._descendants[ancestor], vsize) for ancestor in above
        )

    def _within(self, others: Collection[str], vsize: int) -> bool:
        total = sum(self._pending[txid].vsize for txid in others) + vsize
        return len(others) + 1 <= MAX_CHAIN_COUNT and total <= MAX_CHAIN_VSIZE
