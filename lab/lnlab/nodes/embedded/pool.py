"""Unconfirmed transactions as a graph: who spends whom, which scripts they touch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from lnlab.nodes.embedded.txmodel import Coin, Outpoint, Tx, electrum_scripthash


@dataclass(eq=False)
class Entry:
    """An unconfirmed transaction with the coins it spends; relatives are other entries."""

    tx: Tx
    coins: tuple[Coin, ...]
    fee_sats: int
    vsize: int
    order: int = 0
    parents: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)

    @property
    def scripthashes(self) -> set[str]:
        """Electrum names of the scripts it spends from and pays to."""
        coins = (*self.coins, *self.tx.coins(None))
        return {electrum_scripthash(coin.script_pubkey) for coin in coins}


class Pool:
    """Entries by txid with their links kept true; judges nothing."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.spenders: dict[Outpoint, str] = {}
        self._by_script: dict[str, dict[str, Entry]] = {}
        self._order = count()

    def of_script(self, scripthash: str) -> list[Entry]:
        """Entries that touch a script, oldest first."""
        return list(self._by_script.get(scripthash, {}).values())

    def ancestors(self, txids: Iterable[str]) -> set[str]:
        """The given entries and everything unconfirmed that they build on."""
        found: set[str] = set()
        waiting = set(txids)
        while waiting:
            found |= waiting
            waiting = set().union(*(self.entries[txid].parents for txid in waiting)) - found
        return found

    def descendants(self, txids: Iterable[str]) -> set[str]:
        """The given entries and everything that builds on them."""
        found: set[str] = set()
        waiting = set(txids)
        while waiting:
            found |= waiting
            waiting = set().union(*(self.entries[txid].children for txid in waiting)) - found
        return found

    def spenders_of(self, tx: Tx) -> set[str]:
        """Entries that spend outputs of a transaction, which need not be an entry itself."""
        outpoints = ((tx.txid, vout) for vout in range(len(tx.outputs)))
        return {self.spenders[outpoint] for outpoint in outpoints if outpoint in self.spenders}

    def vsize_of(self, txids: Iterable[str]) -> int:
        """Virtual bytes of several entries."""
        return sum(self.entries[txid].vsize for txid in txids)

    def block_template(self, max_weight: int) -> list[Entry]:
        """Entries for the next block, parents first, best paying packages while they fit."""
        packages = []
        for txid, entry in self.entries.items():
            package = self.ancestors([txid])
            fee_sats = sum(self.entries[member].fee_sats for member in package)
            packages.append((-fee_sats / self.vsize_of(package), entry.order, package))
        chosen: dict[str, Entry] = {}
        weight = 0
        for _, _, package in sorted(packages, key=lambda item: item[:2]):
            added = [self.entries[member] for member in package if member not in chosen]
            added_weight = sum(entry.tx.weight for entry in added)
            if weight + added_weight <= max_weight:
                weight += added_weight
                # An entry has more ancestors than each of its own ancestors has.
                added.sort(key=lambda entry: (len(self.ancestors([entry.tx.txid])), entry.order))
                chosen.update((entry.tx.txid, entry) for entry in added)
        return list(chosen.values())

    def add(self, entry: Entry) -> None:
        """Take an entry in. What it replaces must have been removed before.

        A new transaction has no children; for one that comes back from a block, `link_children`.
        """
        txid = entry.tx.txid
        entry.order = next(self._order)
        entry.parents = {txin.outpoint[0] for txin in entry.tx.inputs} & self.entries.keys()
        self.entries[txid] = entry
        for txin in entry.tx.inputs:
            self.spenders[txin.outpoint] = txid
        for parent in entry.parents:
            self.entries[parent].children.add(txid)
        for scripthash in entry.scripthashes:
            self._by_script.setdefault(scripthash, {})[txid] = entry

    def link_children(self, txid: str) -> set[str]:
        """Find the children of an entry that were here before it; returns their scripts."""
        entry = self.entries[txid]
        touched: set[str] = set()
        for child in self.spenders_of(entry.tx) - entry.children:
            entry.children.add(child)
            self.entries[child].parents.add(txid)
            touched |= self.entries[child].scripthashes
        return touched

    def remove(self, txids: Iterable[str]) -> set[str]:
        """Forget entries; returns the scripts whose history changed, those of children included."""
        touched: set[str] = set()
        for txid in txids:
            entry = self.entries.pop(txid)
            for txin in entry.tx.inputs:
                del self.spenders[txin.outpoint]
            for parent in entry.parents:
                self.entries[parent].children.discard(txid)
            for child in entry.children:
                self.entries[child].parents.discard(txid)
                touched |= self.entries[child].scripthashes
            for scripthash in entry.scripthashes:
                del self._by_script[scripthash][txid]
                if not self._by_script[scripthash]:
                    del self._by_script[scripthash]
            touched |= entry.scripthashes
        return touched
