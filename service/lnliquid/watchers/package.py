"""The graph of our transactions that are to confirm: what builds on what. Pure."""

from collections.abc import Collection, Mapping, Sequence
from graphlib import TopologicalSorter

from lnliquid.domain.swap import Outpoint
from lnliquid.watchers.families import OwnTx


class Graph:
    """`stands`: for each outpoint's txid that is a version of ours, the version that stands now."""

    def __init__(self, members: Sequence[OwnTx], stands: Mapping[str, str]) -> None:
        self._stands = stands
        self.stranded: set[str] = set()
        """Built on a version that does not stand, and something else spends that output of the
        one that does: they confirm only if their version does."""
        known = {m.txid for m in members}
        spent = set[Outpoint]().union(*(m.inputs for m in members))
        self._parents: dict[str, list[str]] = {}
        for member in members:
            now = {o: self.as_it_stands(o) for o in member.inputs}
            if any(moved in spent for built_on, moved in now.items() if moved != built_on):
                self.stranded.add(member.txid)
            spent |= {*now.values()}
            above = {o.txid for o in now.values()} & known - {member.txid}
            self._parents[member.txid] = [] if member.txid in self.stranded else sorted(above)
        by_txid = {m.txid: m for m in members}
        ordered = TopologicalSorter(self._parents).static_order()
        self.members = {txid: by_txid[txid] for txid in ordered}
        """By txid, parents before their children."""

    def as_it_stands(self, outpoint: Outpoint) -> Outpoint:
        """The same output of the version that stands now."""
        return Outpoint(self._stands.get(outpoint.txid, outpoint.txid), outpoint.vout)

    def children(self, txid: str) -> list[OwnTx]:
        """What spends from it."""
        return [m for m in self.members.values() if txid in self._parents[m.txid]]

    def package(self, txid: str) -> list[OwnTx]:
        """The transaction with all that builds on it, parents before their children."""
        found = {txid: self.members[txid]}
        for member in self.members.values():
            if not found.keys().isdisjoint(self._parents[member.txid]):
                found[member.txid] = member
        return list(found.values())

    def roots(self, txids: Collection[str]) -> list[OwnTx]:
        """The topmost unconfirmed transactions that these build on, each once."""
        above = set(txids)
        for txid in reversed(self.members):
            if txid in above:
                above |= set(self._parents[txid])
        return [m for m in self.members.values() if m.txid in above and not self._parents[m.txid]]
