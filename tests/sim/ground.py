"""The Liquid chain under the simulation: blocks, reorgs, and coins that come from outside.

The embedded chain of the lab judges every transaction. Coins of "the bank" are anyone's to spend
and appear when wanted: deposits to the seller and fees of foreign transactions come from them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lnlab.nodes.embedded.chain import Chain, Rejected
from lnlab.nodes.embedded.encode import encode_input, encode_output, encode_tx
from lnlab.nodes.embedded.mempool import ChainView, Mempool
from lnlab.nodes.embedded.policy import fee_at
from lnlab.nodes.embedded.pool import Entry
from lnlab.nodes.embedded.txmodel import Coin, Tx, parse_tx
from lnliquid.domain.swap import Tip
from lnliquid.liquid.networks import REGTEST

ASSET = "a5" * 32
LBTC = REGTEST.policy_asset
OP_TRUE = b"\x51"
OPEN_SCRIPT = b"\x00\x20" + hashlib.sha256(OP_TRUE).digest()
REPLACEABLE = 0xFFFFFFFD
BASE_HEIGHT = 20
"""Blocks that no reorg undoes."""
DEPOSIT_FEE_SATS = 300

parsed = lru_cache(maxsize=1 << 14)(parse_tx)
"""Transactions are looked at over and over."""

Held = Callable[[str], bool]
"""True for a txid that the next block leaves out."""


def nothing_held(_txid: str) -> bool:
    """A block takes everything."""
    return False


class HoldingMempool(Mempool):
    """A mempool with a miner's whims and a fee market.

    `held`: what the miner leaves out, with all that builds on it. `miner_rate`: packages (BIP125
    ancestors included) that pay less stay out. `relay_rate`: what pays less is not taken in.
    """

    def __init__(self, chain: ChainView) -> None:
        super().__init__(chain)
        self.held: Held = nothing_held
        self.miner_rate = 0
        self.relay_rate = 0

    def check(self, tx: Tx, *, from_block: bool = False) -> tuple[Entry, set[str]]:
        """See `Mempool`."""
        entry, replaced = super().check(tx, from_block=from_block)
        floor_sats = fee_at(self.relay_rate, entry.vsize)
        if entry.fee_sats < floor_sats and not from_block:
            raise Rejected("mempool min fee not met", f"{entry.fee_sats} < {floor_sats}")
        return entry, replaced

    def _is_too_cheap(self, txid: str) -> bool:
        """True when no package with this transaction pays the miner's rate."""
        if not self.miner_rate:
            return False
        tops = self.descendants([txid])
        return not any(self._rate(self.ancestors([top])) >= self.miner_rate for top in tops)

    def _rate(self, package: set[str]) -> float:
        fee_sats = sum(self.entries[member].fee_sats for member in package)
        return fee_sats * 1000 / self.vsize_of(package)

    def block_template(self, max_weight: int) -> list[Entry]:
        """What the next block holds."""
        left: set[str] = set()
        kept = []
        for entry in super().block_template(max_weight):  # parents come first
            txid = entry.tx.txid
            if self.held(txid) or entry.parents & left or self._is_too_cheap(txid):
                left.add(txid)
            else:
                kept.append(entry)
        return kept


@dataclass(frozen=True)
class Deposit:
    """A payment to the seller's wallet from outside, and the bank coins that it spends."""

    txid: str
    asset: int
    lbtc: int
    inputs: tuple[Coin, ...]
    raw: bytes


class Ground:
    """The chain, its miner and its bank. `pass_time` is told the seconds each block took."""

    def __init__(
        self, now: Callable[[], int], pass_time: Callable[[int], None], block_secs: int
    ) -> None:
        self.chain = Chain(clock=now)
        self.pool = HoldingMempool(self.chain)
        self.chain.mempool = self.pool
        self._pass_time = pass_time
        self._block_secs = block_secs
        self.minted: dict[str, bytes] = {}
        """The transactions that made the bank's coins, by txid: of before the chain began."""
        self.deposits: list[Deposit] = []
        self.chain.generate(BASE_HEIGHT)

    # ---- blocks

    def tip_at(self, height: int) -> Tip:
        """A block of the active chain, as a server tells it."""
        return Tip(height, self.chain.block_hash(height), self.chain.block_time(height))

    def mine(self, count: int = 1, held: Held = nothing_held, secs: int | None = None) -> None:
        """Mine blocks on the tip; each takes `secs`, or the usual time."""
        for _ in range(count):
            self._pass_time(self._block_secs if secs is None else secs)
            self.pool.held = held
            self.chain.generate()

    def reorg(self, depth: int, more: int, held: Held, between: Callable[[list[Tx]], None]) -> int:
        """Replace the last `depth` blocks by as many and `more`; returns the depth that was done.

        `between` is called while the blocks are gone, with the transactions that were in them.
        """
        chain = self.chain
        depth = min(depth, chain.tip_height - BASE_HEIGHT)
        if depth <= 0:
            return 0
        first = chain.block_hash(chain.tip_height - depth + 1)
        gone = [
            parsed(chain.raw_tx(txid)[0])
            for height in range(chain.tip_height - depth + 1, chain.tip_height + 1)
            for txid in chain.block_txids(chain.block_hash(height))[1:]
        ]
        chain.invalidate(first)
        between(gone)
        self.mine(depth, held, secs=1)
        self.mine(more, held)
        return depth

    def mine_version(self, raw: bytes) -> bool:
        """Mine a block with this transaction instead of what spends its inputs now.

        A miner may have kept an older version. False when it cannot be in the next block.
        """
        tx, miner_rate = parsed(raw), self.pool.miner_rate
        for txin in tx.inputs:
            rival = self.pool.spenders.get(txin.outpoint)
            if rival is not None and rival != tx.txid:
                self.chain.drop_mempool(rival)
        relay_rate, self.pool.relay_rate = self.pool.relay_rate, 0
        self.send(raw)
        self.pool.relay_rate = relay_rate
        if tx.txid not in self.pool.entries:
            return False
        package = self.pool.ancestors([tx.txid])
        self.pool.miner_rate = 0
        self.mine(1, lambda txid: txid not in package)
        self.pool.miner_rate = miner_rate
        return True

    def reorg_to(self, depth: int, raw: bytes) -> bool:
        """Replace the last blocks by as many, the first with this transaction, if that can be."""
        self.chain.invalidate(self.chain.block_hash(self.chain.tip_height - depth + 1))
        mined = self.mine_version(raw)
        self.mine(depth - mined)
        return mined

    def forget(self, txid: str) -> None:
        """The network forgets an unconfirmed transaction and what builds on it."""
        if txid in self.pool.entries:
            self.chain.drop_mempool(txid)

    # ---- transactions

    def find(self, txid: str) -> tuple[Tx, int | None] | None:
        """A transaction of the chain or the mempool, with its height."""
        try:
            raw, block_hash = self.chain.raw_tx(txid)
        except LookupError:
            return None
        if block_hash is None:
            return parsed(raw), None
        height = self.chain.block_height(block_hash)
        return None if height is None else (parsed(raw), height)  # None: of a stale block only

    def confirmations(self, txid: str) -> int:
        """Confirmations of a transaction; 0 in the mempool and when it is nowhere."""
        found = self.find(txid)
        if found is None or found[1] is None:
            return 0
        return self.chain.tip_height - found[1] + 1

    def spender(self, txid: str, vout: int) -> Tx | None:
        """The transaction, confirmed or not, that spends an output."""
        spender = self.chain.spender(txid, vout)
        found = self.find(spender) if spender else None
        return found[0] if found else None

    def send(self, raw: bytes) -> str | None:
        """Submit a transaction of somebody else's; None when it is refused."""
        try:
            return self.chain.submit(raw)
        except Rejected:
            return None

    # ---- the bank

    def mint(self, asset: str, value: int) -> Coin:
        """A fresh coin of the bank."""
        raw = encode_tx(
            [encode_input((f"{len(self.minted):064x}", 0))],
            [encode_output(asset, value, OPEN_SCRIPT)],
            witnesses=[()],
        )
        coin = Coin(parsed(raw).txid, 0, asset, value, OPEN_SCRIPT, 1)
        self.minted[coin.txid] = raw
        self.chain.ledger.add([coin])
        return coin

    def deposit(self, script: bytes, asset: int, lbtc: int) -> str | None:
        """Pay the seller from the bank: one output of each."""
        inputs = (self.mint(ASSET, asset), self.mint(LBTC, lbtc + DEPOSIT_FEE_SATS))
        raw = open_tx(inputs, [(ASSET, asset, script), (LBTC, lbtc, script)])
        txid = self.send(raw)
        if txid is not None:
            self.deposits.append(Deposit(txid, asset, lbtc, inputs, raw))
        return txid

    def send_deposits_again(self) -> None:
        """Who paid in sends it again, when a reorg or the network lost it."""
        for deposit in self.deposits:
            if self.find(deposit.txid) is None:
                self.send(deposit.raw)

    def take_back(self, deposit: Deposit) -> str | None:
        """Spend a deposit's coins otherwise, back to the bank, with a higher fee."""
        outputs = [
            (ASSET, deposit.asset, OPEN_SCRIPT),
            (LBTC, deposit.lbtc - DEPOSIT_FEE_SATS, OPEN_SCRIPT),
        ]
        return self.send(open_tx(deposit.inputs, outputs))


def open_tx(inputs: Sequence[Coin], outputs: Sequence[tuple[str, int, bytes]]) -> bytes:
    """A transaction of bank coins; what is left of the L-BTC is the fee."""
    fee = sum(c.value for c in inputs if c.asset == LBTC)
    fee -= sum(value for asset, value, _ in outputs if asset == LBTC)
    return encode_tx(
        [encode_input((c.txid, c.vout), sequence=REPLACEABLE) for c in inputs],
        [encode_output(*output) for output in outputs] + [encode_output(LBTC, fee)],
        witnesses=[(OP_TRUE,)] * len(inputs),
    )
