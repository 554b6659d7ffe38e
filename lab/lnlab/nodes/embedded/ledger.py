"""The confirmed state: unspent coins, who spent the others, and each script's history.

Connecting and disconnecting blocks are exact opposites, so the state depends on the active chain
alone, whatever reorganisations led to it. Both cost time in proportion to the block, not the chain.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lnlab.nodes.embedded.txmodel import Coin, Outpoint, Tx, electrum_scripthash


@dataclass(frozen=True)
class HistoryItem:
    """A transaction that touches a script. Electrum heights: 0 unconfirmed, -1 with parents so."""

    txid: str
    height: int


class Ledger:
    """Coins and histories of the active chain, by outpoint and by Electrum script hash."""

    def __init__(self) -> None:
        self._coins: dict[Outpoint, Coin] = {}
        self._by_script: defaultdict[str, dict[Outpoint, Coin]] = defaultdict(dict)
        self._history: defaultdict[str, list[HistoryItem]] = defaultdict(list)
        self._spenders: dict[Outpoint, str] = {}

    def coin(self, outpoint: Outpoint) -> Coin | None:
        """The unspent coin at an outpoint."""
        return self._coins.get(outpoint)

    def spender(self, outpoint: Outpoint) -> str | None:
        """The confirmed transaction that spent an outpoint."""
        return self._spenders.get(outpoint)

    def unspent(self, scripthash: str) -> list[Coin]:
        """Coins of a script, by height and then outpoint."""
        coins = self._by_script.get(scripthash, {}).values()
        return sorted(coins, key=lambda coin: (coin.height or 0, coin.txid, coin.vout))

    def history(self, scripthash: str) -> list[HistoryItem]:
        """Transactions of a script, in chain order."""
        return list(self._history.get(scripthash, ()))

    def add(self, coins: Iterable[Coin]) -> None:
        """Make coins spendable."""
        for coin in coins:
            outpoint = (coin.txid, coin.vout)
            self._coins[outpoint] = coin
            self._by_script[electrum_scripthash(coin.script_pubkey)][outpoint] = coin

    def connect(self, txs: Sequence[Tx], height: int) -> list[Coin]:
        """Apply a block's transactions; returns the coins they spent, which `disconnect` wants."""
        spent: list[Coin] = []
        for tx in txs:
            scripthashes: dict[str, None] = {}  # a set that keeps its order
            if not tx.is_coinbase:
                for txin in tx.inputs:
                    coin = self._remove(txin.outpoint)
                    self._spenders[txin.outpoint] = tx.txid
                    scripthashes[electrum_scripthash(coin.script_pubkey)] = None
                    spent.append(coin)
            coins = tx.coins(height)
            self.add(coins)
            scripthashes.update((electrum_scripthash(coin.script_pubkey), None) for coin in coins)
            for scripthash in scripthashes:
                self._history[scripthash].append(HistoryItem(tx.txid, height))
        return spent

    def disconnect(self, txs: Sequence[Tx], spent: Sequence[Coin]) -> None:
        """Undo `connect` of the newest block."""
        remaining = list(spent)
        for tx in reversed(txs):
            touched = set()
            for coin in reversed(tx.coins(None)):
                self._remove((coin.txid, coin.vout))
                touched.add(electrum_scripthash(coin.script_pubkey))
            if not tx.is_coinbase:
                for txin in reversed(tx.inputs):
                    coin = remaining.pop()
                    del self._spenders[txin.outpoint]
                    self.add([coin])
                    touched.add(electrum_scripthash(coin.script_pubkey))
            for scripthash in touched:
                self._history[scripthash].pop()
                if not self._history[scripthash]:
                    del self._history[scripthash]

    def _remove(self, outpoint: Outpoint) -> Coin:
        coin = self._coins.pop(outpoint)
        scripthash = electrum_scripthash(coin.script_pubkey)
        del self._by_script[scripthash][outpoint]
        if not self._by_script[scripthash]:
            del self._by_script[scripthash]
        return coin
