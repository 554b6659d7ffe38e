"""The embedded Elements regtest chain: blocks, mempool and queries behind one synchronous object.

Behaves as `elementsd 23.3.3 -chain=liquid-regtest -initialfreecoins=2100000000000000
-con_blocksubsidy=0` does for explicit transactions: same policy asset, same verdicts, reorgs by
invalidating blocks. No I/O, no threads; time comes from the clock it is given. Txids, asset ids
and block hashes are hex in display order, amounts satoshi, scripts and transactions bytes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from lnlab.nodes.embedded.block import Block, genesis, make_block, make_coinbase
from lnlab.nodes.embedded.ledger import HistoryItem, Ledger
from lnlab.nodes.embedded.mempool import Mempool
from lnlab.nodes.embedded.policy import RELAY_SATS_PER_KVB
from lnlab.nodes.embedded.pool import Entry
from lnlab.nodes.embedded.txmodel import (
    Coin,
    Outpoint,
    Rejected,
    Tx,
    electrum_scripthash,
    is_unspendable,
    parse_tx,
)

__all__ = ["Chain", "ChainEvent", "Coin", "HistoryItem", "Rejected", "Verdict"]

MAX_TEMPLATE_WEIGHT = 4_000_000 - 8_000
"""The block limit less room for header and coinbase, as elementsd's miner keeps it."""
DEEP_REORG_BLOCKS = 10
"""Invalidating more blocks than this at once loses the transactions of the deeper ones."""
FEE_SAMPLE_BLOCKS = 25
FEE_SAMPLE_MIN_BLOCKS = 3


@dataclass(frozen=True)
class Verdict:
    """Outcome of `testmempoolaccept`; size and fee only when allowed, as there."""

    txid: str
    allowed: bool
    reject_reason: str | None
    vsize: int | None
    fee_sats: int | None


@dataclass(frozen=True)
class ChainEvent:
    """Something changed; `scripthashes` are the Electrum names of the scripts it touched."""

    kind: Literal["block", "reorg", "mempool"]
    scripthashes: frozenset[str]


class Chain:
    """One node's view of a chain of its own."""

    def __init__(self, *, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or (lambda: int(time.time()))
        first, self.policy_asset = genesis()
        self._blocks = {first.hash: first}
        self._active = [first]
        self._located: dict[str, tuple[Tx, Block]] = {}
        self._once_located: dict[str, tuple[Tx, Block]] = {}
        self._listeners: list[Callable[[ChainEvent], None]] = []
        self.ledger = Ledger()
        self.mempool = Mempool(self)
        # Elements enters the outputs of the genesis block, unlike Bitcoin.
        first.spent = self.ledger.connect(
            [replace(tx, inputs=()) for tx in first.txs], first.height
        )
        self._located.update((tx.txid, (tx, first)) for tx in first.txs)

    # ---- blocks

    @property
    def tip_height(self) -> int:
        """Height of the newest active block; genesis is 0."""
        return self._active[-1].height

    @property
    def tip_hash(self) -> str:
        """Hash of the newest active block."""
        return self._active[-1].hash

    def block_hash(self, height: int) -> str:
        """Hash of the active block at a height; LookupError if there is none."""
        return self._at(height).hash

    def header(self, height: int) -> bytes:
        """Serialised header of the active block at a height; LookupError if there is none."""
        return self._at(height).header

    def block_txids(self, block_hash: str) -> list[str]:
        """Txids of a block, coinbase first; LookupError for an unknown block."""
        return [tx.txid for tx in self._blocks[block_hash].txs]

    def block_height(self, block_hash: str) -> int | None:
        """Height of an active block; None for a stale or unknown one."""
        block = self._blocks.get(block_hash)
        return block.height if block and self._is_active(block) else None

    def block(self, block_hash: str) -> Block:
        """An active or stale block; LookupError for an unknown one."""
        return self._blocks[block_hash]

    def block_time(self, height: int) -> int:
        """Header time of the active block at a height, unix seconds; LookupError if none."""
        return self._at(height).time_secs

    def median_time(self, height: int) -> int:
        """Median time past of the active block at a height, unix seconds (BIP113)."""
        return self._at(height).median_time_secs

    def generate(
        self,
        count: int = 1,
        script_pubkey: bytes = b"\x51",
        only: Sequence[str] | None = None,
    ) -> list[str]:
        """Mine blocks from the mempool, fees to a script; returns their hashes.

        With ``only`` the blocks hold just these txids, parents first; LookupError for another.
        """
        hashes = []
        for _ in range(count):
            if only is None:
                entries = self.mempool.block_template(MAX_TEMPLATE_WEIGHT)
            else:
                entries = [self.mempool.entries[txid] for txid in only]
            fees_sats = sum(entry.fee_sats for entry in entries)
            tip = self._active[-1]
            coinbase = make_coinbase(
                tip.height + 1, len(self._blocks), self.policy_asset, fees_sats, script_pubkey
            )
            block = make_block(
                tip,
                max(self._clock(), tip.median_time_secs + 1),
                (coinbase, *(entry.tx for entry in entries)),
                len(self._blocks),
                tuple(entry.fee_sats * 1000 // entry.vsize for entry in entries),
            )
            self._blocks[block.hash] = block
            self._notify("block", self._connect(block))
            hashes.append(block.hash)
        return hashes

    def invalidate(self, block_hash: str) -> None:
        """Treat a block and all after it as invalid; LookupError if unknown.

        Transactions of disconnected blocks return to the mempool where still valid. If another
        branch is now the longest valid one, it becomes active.
        """
        block = self._blocks[block_hash]
        if block.previous is None:
            raise ValueError("the genesis block cannot be invalidated")
        block.invalid = True
        touched: set[str] = set()
        depth = self.tip_height - block.height + 1
        if self._is_active(block):
            for done in range(depth):
                txs, scripts = self._disconnect()
                touched |= scripts | self.mempool.restore(txs, keep=done < DEEP_REORG_BLOCKS)
            touched |= self._activate_best()
            self._notify("reorg", touched)

    def reconsider(self, block_hash: str) -> None:
        """Take back `invalidate` for a block and its branch; LookupError if unknown."""
        block = self._blocks[block_hash]
        for other in self._blocks.values():
            if other.invalid and (_is_ancestor(other, block) or _is_ancestor(block, other)):
                other.invalid = False
        tip = self._active[-1]
        touched = self._activate_best()
        if self._active[-1] is not tip:
            self._notify("reorg", touched)

    # ---- transactions

    def test_accept(self, raw: bytes) -> Verdict:
        """`testmempoolaccept` without a fee cap; ValueError("TX decode failed") if unreadable."""
        tx = parse_tx(raw)
        try:
            entry, _ = self.mempool.check(tx)
        except Rejected as refusal:
            missing = refusal.code == "bad-txns-inputs-missingorspent"
            reason = "missing-inputs" if missing else refusal.code
            return Verdict(tx.txid, False, reason, None, None)
        return Verdict(tx.txid, True, None, entry.vsize, entry.fee_sats)

    def submit(self, raw: bytes) -> str:
        """`sendrawtransaction` without a fee cap: returns the txid, or raises `Rejected`.

        A transaction that is in the mempool already is accepted again without effect.
        """
        tx = parse_tx(raw)
        if any(self.ledger.coin((tx.txid, vout)) for vout in range(len(tx.outputs))):
            raise Rejected("Transaction already in block chain")
        if tx.txid not in self.mempool.entries:
            entry, replaced = self.mempool.check(tx)
            touched = self.mempool.remove(replaced)
            self.mempool.add(entry)
            self._notify("mempool", touched | entry.scripthashes)
        return tx.txid

    def drop_mempool(self, txid: str) -> None:
        """Lab fault: forget an unconfirmed transaction and its descendants; LookupError if none."""
        if txid not in self.mempool.entries:
            raise LookupError(f"{txid} is not in the mempool")
        self._notify("mempool", self.mempool.remove(self.mempool.descendants([txid])))

    def raw_tx(self, txid: str) -> tuple[bytes, str | None]:
        """A transaction and its block's hash, None if unconfirmed; LookupError if not found.

        One that was in a stale block only is found there, as in elementsd's and electrs' indexes.
        """
        if entry := self.mempool.entries.get(txid):
            return entry.tx.raw, None
        tx, block = self._located.get(txid) or self._once_located[txid]
        return tx.raw, block.hash

    def mempool_txids(self) -> list[str]:
        """Unconfirmed transactions, in the order they came."""
        return list(self.mempool.entries)

    def mempool_entry(self, txid: str) -> Entry:
        """Fee, size and relatives of an unconfirmed transaction; LookupError if not found."""
        return self.mempool.entries[txid]

    # ---- coins and histories

    def confirmed_coin(self, outpoint: Outpoint) -> Coin | None:
        """The coin at an outpoint as of the tip, whatever the mempool spends."""
        return self.ledger.coin(outpoint)

    def spender(self, txid: str, vout: int) -> str | None:
        """The transaction, confirmed or not, that spends an output."""
        outpoint = (txid, vout)
        return self.mempool.spenders.get(outpoint) or self.ledger.spender(outpoint)

    def coin(self, txid: str, vout: int, include_mempool: bool = True) -> Coin | None:
        """`gettxout`: None when spent (by the mempool too, if included) or never there."""
        if not include_mempool:
            return self.ledger.coin((txid, vout))
        if (txid, vout) in self.mempool.spenders:
            return None
        coin = self.mempool.find_coin((txid, vout))
        return coin if coin and not is_unspendable(coin.script_pubkey) else None

    def coins_with_script(self, script: bytes) -> list[Coin]:
        """Confirmed unspent coins of a script (`scantxoutset raw(...)`)."""
        return self.ledger.unspent(electrum_scripthash(script))

    def history(self, scripthash: str) -> list[HistoryItem]:
        """Electrum history of a script: confirmed in chain order, then unconfirmed."""
        return self.ledger.history(scripthash) + [
            HistoryItem(entry.tx.txid, -1 if entry.parents else 0)
            for entry in self.mempool.of_script(scripthash)
        ]

    def unspent(self, scripthash: str) -> list[Coin]:
        """Electrum coins of a script: confirmed then unconfirmed, less what the mempool spends."""
        coins = self.ledger.unspent(scripthash)
        for entry in self.mempool.of_script(scripthash):
            coins += [
                coin
                for coin in entry.tx.coins(None)
                if electrum_scripthash(coin.script_pubkey) == scripthash
            ]
        return [coin for coin in coins if (coin.txid, coin.vout) not in self.mempool.spenders]

    def fee_rate(self) -> float | None:
        """Rough `estimatesmartfee` in BTC/kvB; None until a few recent blocks held transactions."""
        recent = self._active[-FEE_SAMPLE_BLOCKS:]
        rates = [median(block.rates_sats_per_kvb) for block in recent if block.rates_sats_per_kvb]
        if len(rates) < FEE_SAMPLE_MIN_BLOCKS:
            return None
        return max(median(rates), RELAY_SATS_PER_KVB) / 1e8

    def subscribe(self, listener: Callable[[ChainEvent], None]) -> Callable[[], None]:
        """Call a listener after each change; returns the way to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # ---- the active chain

    def _at(self, height: int) -> Block:
        if not 0 <= height < len(self._active):
            raise LookupError(f"no block at height {height}, the tip is {self.tip_height}")
        return self._active[height]

    def _is_active(self, block: Block) -> bool:
        return block.height < len(self._active) and self._active[block.height] is block

    def _connect(self, block: Block) -> set[str]:
        block.spent = self.ledger.connect(block.txs, block.height)
        self._active.append(block)
        self._located.update((tx.txid, (tx, block)) for tx in block.txs)
        return self.mempool.confirm(block.txs) | _scripthashes(block)

    def _disconnect(self) -> tuple[list[Tx], set[str]]:
        """Take the tip off; returns its transactions and the scripts it touched."""
        block = self._active.pop()
        self.ledger.disconnect(block.txs, block.spent)
        for tx in block.txs:
            self._once_located[tx.txid] = self._located.pop(tx.txid)
        return list(block.txs), _scripthashes(block)

    def _activate_best(self) -> set[str]:
        """Switch to the longest valid chain, the first seen of equals; returns touched scripts."""
        valid: dict[str, Block] = {}
        for block in self._blocks.values():  # parents come before their children
            if not block.invalid and (block.previous is None or block.previous.hash in valid):
                valid[block.hash] = block
        best = max(valid.values(), key=lambda block: (block.height, -block.sequence))
        path = []
        while not self._is_active(best):
            path.append(best)
            if best.previous is None:
                raise AssertionError("every chain starts at genesis, which is active")
            best = best.previous
        touched: set[str] = set()
        disconnected: list[Tx] = []
        while self._active[-1] is not best:
            txs, scripts = self._disconnect()
            disconnected = txs + disconnected
            touched |= scripts
        for block in reversed(path):
            touched |= self._connect(block)
        returning = [tx for tx in disconnected if tx.txid not in self._located]
        return touched | self.mempool.restore(returning, keep=True)

    def _notify(self, kind: Literal["block", "reorg", "mempool"], scripthashes: set[str]) -> None:
        event = ChainEvent(kind, frozenset(scripthashes))
        for listener in tuple(self._listeners):
            listener(event)


def _scripthashes(block: Block) -> set[str]:
    coins = block.spent + [coin for tx in block.txs for coin in tx.coins(None)]
    return {electrum_scripthash(coin.script_pubkey) for coin in coins}


def _is_ancestor(ancestor: Block, block: Block) -> bool:
    """Whether a block is another one, or comes before it on its branch."""
    walk: Block | None = block
    while walk and walk.height > ancestor.height:
        walk = walk.previous
    return walk is ancestor
