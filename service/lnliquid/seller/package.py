"""The graph of our transactions that are to confirm: what builds on what. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lnliquid.liquid import tx
from lnliquid.store.tables import Purpose, TxState
from lnliquid.swap import Outpoint


@dataclass(frozen=True)
class Member:
    """The version that stands for its family, as stored."""

    txid: str
    purpose: Purpose
    state: TxState
    raw: bytes
    fee_sats: int
    vsize: int
    signed_height: int

    @cached_property
    def parsed(self) -> tx.Transaction:
        """Its parts."""
        return tx.parse(self.raw)

    @property
    def rate(self) -> int:
        """What it pays, in sat per 1,000 vbytes, rounded up."""
        return -(-self.fee_sats * 1000 // self.vsize)


class Graph:
    """`stands`: for each outpoint's txid that is a version of ours, the version that stands now."""

    def __init__(self, members: Sequence[Member], stands: Mapping[str, str]) -> None:
        self.members = {m.txid: m for m in members}
        self._stands = stands
        self._children: dict[str, list[str]] = {txid: [] for txid in self.members}
        self._parents: dict[str, list[str]] = {}
        spent = {i.outpoint for m in members for i in m.parsed.inputs}
        self.stranded: set[str] = set()
        """Built on a version that does not stand, and something else spends that output of the
        one that does: they confirm only if their version does."""
        for member in members:
            above = set()
            for item in member.parsed.inputs:
                now = self.as_it_stands(item.outpoint)
                if now != item.outpoint and now in spent:
                    self.stranded.add(member.txid)
                spent.add(now)
                above.add(now.txid)
            is_stranded = member.txid in self.stranded
            self._parents[member.txid] = (
                [] if is_stranded else sorted(above & self.members.keys() - {member.txid})
            )
            for parent in self._parents[member.txid]:
                self._children[parent].append(member.txid)

    def as_it_stands(self, outpoint: Outpoint) -> Outpoint:
        """The same output of the version that stands now."""
        return Outpoint(self._stands.get(outpoint.txid, outpoint.txid), outpoint.vout)

    def children(self, txid: str) -> list[Member]:
        """What spends from it."""
        return [self.members[child] for child in self._children[txid]]

    def package(self, txid: str) -> list[Member]:
        """The transaction with all that builds on it, parents before their children."""
        below: set[str] = set()
        todo = [txid]
        while todo:
            here = todo.pop()
            if here not in below:
                below.add(here)
                todo += self._children[here]
        ordered: list[Member] = []
        placed: set[str] = set()
        while len(ordered) < len(below):
            for here in self.members:
                if here in below - placed and not (set(self._parents[here]) & below - placed):
                    ordered.append(self.members[here])
                    placed.add(here)
        return ordered

    def roots(self, txids: Collection[str]) -> list[Member]:
        """The topmost unconfirmed transactions that these build on, each once."""
        found = {root: self.members[root] for txid in txids for root in self._roots(txid)}
        return list(found.values())

    def _roots(self, txid: str) -> Iterator[str]:
        if not self._parents[txid]:
            yield txid
        for parent in self._parents[txid]:
            yield from self._roots(parent)
