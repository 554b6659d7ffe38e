"""The mempool: which unconfirmed transactions elementsd 23.3.3 would hold, and why not others.

Order of checks and reasons follow `validation.cpp` (MemPoolAccept), `txmempool.cpp` and
`policy/rbf.cpp`, with elementsd's default limits.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from lnlab.nodes.embedded import policy
from lnlab.nodes.embedded.policy import RELAY_SATS_PER_KVB, fee_at
from lnlab.nodes.embedded.pool import Entry, Pool
from lnlab.nodes.embedded.script import ScriptFailed, check_scripts
from lnlab.nodes.embedded.txmodel import Coin, Outpoint, Rejected, Tx

MAX_CHAIN_COUNT = 25
MAX_CHAIN_VSIZE = 101_000
CARVE_OUT_VSIZE = 10_000
MAX_REPLACED = 100
COINBASE_MATURITY_BLOCKS = 100
_DISABLE_FLAG, _TIME_FLAG, _LOCK_MASK = 1 << 31, 1 << 22, 0xFFFF


class ChainView(Protocol):
    """What the mempool needs to know of the active chain."""

    policy_asset: str

    @property
    def tip_height(self) -> int:
        """Height of the newest block."""

    def confirmed_coin(self, outpoint: Outpoint) -> Coin | None:
        """The coin at an outpoint, if no block has spent it."""

    def median_time(self, height: int) -> int:
        """Median time past of the active block at a height, in unix seconds (BIP113)."""


class Mempool(Pool):
    """The pool with elementsd's rules: `check` decides, blocks and reorganisations change it."""

    def __init__(self, chain: ChainView) -> None:
        super().__init__()
        self._chain = chain
        # Scripts depend on the transaction and on the outputs its txids commit to, never on the
        # chain's state, so they are run only once.
        self._scripts_passed: set[bytes] = set()

    def find_coin(self, outpoint: Outpoint) -> Coin | None:
        """A coin of the chain or of an unconfirmed transaction, spent by another one or not."""
        txid, vout = outpoint
        if entry := self.entries.get(txid):
            return entry.tx.coin(vout, None)
        return self._chain.confirmed_coin(outpoint)

    def check(self, tx: Tx, *, from_block: bool = False) -> tuple[Entry, set[str]]:
        """The entry a transaction would become and the entries it would replace, or `Rejected`.

        `from_block`: it comes back from a disconnected block, where the fee floor does not hold.
        """
        chain = self._chain
        policy.check_transaction(tx)
        if tx.is_coinbase:
            raise Rejected("coinbase")
        policy.check_standard(tx, chain.policy_asset)
        policy.check_issuance_range_and_base_size(tx)
        policy.check_supported(tx)
        if not self._is_final(tx):
            raise Rejected("non-final")
        if known := self.entries.get(tx.txid):
            same = known.tx.raw == tx.raw
            raise Rejected(
                "txn-already-in-mempool" if same else "txn-same-nonwitness-data-in-mempool"
            )
        conflicts = self._conflicts(tx)
        if any(txin.pegin_witness for txin in tx.inputs):
            raise Rejected("extra-pegin-witness")
        coins = self._find_coins(tx)
        if not self._sequence_locks_met(tx, coins):
            raise Rejected("non-BIP68-final")
        if not self._is_mature(coins):
            raise Rejected("bad-txns-premature-spend-of-coinbase")
        policy.check_amounts(tx, coins)
        policy.check_inputs_standard(tx, coins)
        sigops_cost = policy.sigops_cost(tx, coins)
        if sigops_cost > policy.MAX_STANDARD_SIGOPS_COST:
            raise Rejected("bad-txns-too-many-sigops", str(sigops_cost))
        vsize = (max(tx.weight, sigops_cost * policy.BYTES_PER_SIGOP) + 3) // 4
        fee_sats = tx.fee_sats(chain.policy_asset)
        floor_sats = fee_at(RELAY_SATS_PER_KVB, vsize)
        if fee_sats < floor_sats and not from_block:
            raise Rejected("min relay fee not met", f"{fee_sats} < {floor_sats}")
        parents = {txin.outpoint[0] for txin in tx.inputs} & self.entries.keys()
        ancestors = self._check_chain_limits(vsize, parents, conflicts)
        if ancestors & conflicts:
            raise Rejected("bad-txns-spends-conflicting-tx")
        entry = Entry(tx, coins, fee_sats, vsize, parents=parents)
        replaced = self._check_replacement(entry, conflicts) if conflicts else set()
        if tx.raw not in self._scripts_passed:
            try:
                check_scripts(tx, coins)
            except ScriptFailed as failure:
                raise Rejected(f"mempool-script-verify-flag-failed ({failure})") from None
            self._scripts_passed.add(tx.raw)
        return entry, replaced

    def _is_final(self, tx: Tx) -> bool:
        height = self._chain.tip_height
        return policy.is_final(tx, height + 1, self._chain.median_time(height))

    def _conflicts(self, tx: Tx) -> set[str]:
        """Entries that spend one of the same coins; each has to signal replacement itself."""
        conflicts = set()
        for txin in tx.inputs:
            spender = self.spenders.get(txin.outpoint)
            if spender is None:
                continue
            if not self.entries[spender].tx.signals_replacement:
                raise Rejected("txn-mempool-conflict")
            conflicts.add(spender)
        return conflicts

    def _find_coins(self, tx: Tx) -> tuple[Coin, ...]:
        coins = []
        for txin in tx.inputs:
            coin = self.find_coin(txin.outpoint)
            if coin is None:
                outputs = ((tx.txid, vout) for vout in range(len(tx.outputs)))
                if any(map(self._chain.confirmed_coin, outputs)):
                    raise Rejected("txn-already-known")
                raise Rejected("bad-txns-inputs-missingorspent")
            coins.append(coin)
        return tuple(coins)

    def _sequence_locks_met(self, tx: Tx, coins: Iterable[Coin]) -> bool:
        """BIP68: relative locks, counted to the next block; unconfirmed coins count from it."""
        if 0 <= tx.version < 2:
            return True
        chain, next_height = self._chain, self._chain.tip_height + 1
        for txin, coin in zip(tx.inputs, coins, strict=True):
            height = next_height if coin.height is None else coin.height
            lock = txin.sequence & _LOCK_MASK
            if txin.sequence & _DISABLE_FLAG:
                continue
            if txin.sequence & _TIME_FLAG:
                start_secs = chain.median_time(max(height - 1, 0))
                if start_secs + (lock << 9) > chain.median_time(chain.tip_height):
                    return False
            elif height + lock > next_height:
                return False
        return True

    def _is_mature(self, coins: Iterable[Coin]) -> bool:
        next_height = self._chain.tip_height + 1
        return not any(
            coin.coinbase
            and coin.height is not None
            and next_height - coin.height < COINBASE_MATURITY_BLOCKS
            for coin in coins
        )

    def _check_chain_limits(self, vsize: int, parents: set[str], conflicts: set[str]) -> set[str]:
        """Limits on unconfirmed ancestors and descendants; returns the ancestors."""
        ancestors = self.ancestors(parents)
        # A replacement of one entry may use the room which that entry and its children leave.
        spare = self.descendants(conflicts) if len(conflicts) == 1 else set()
        families = [self.descendants([txid]) for txid in ancestors]

        def within(ancestor_count: int, extra_count: int, extra_vsize: int) -> bool:
            max_vsize = MAX_CHAIN_VSIZE + self.vsize_of(spare) + extra_vsize
            return (
                len(ancestors) + 1 <= ancestor_count
                and self.vsize_of(ancestors) + vsize <= MAX_CHAIN_VSIZE
                and all(
                    len(family) + 1 <= MAX_CHAIN_COUNT + bool(spare) + extra_count
                    and self.vsize_of(family) + vsize <= max_vsize
                    for family in families
                )
            )

        # The carve-out: one small child beyond the limits, if it has a single unconfirmed parent.
        carved_out = vsize <= CARVE_OUT_VSIZE and within(2, 1, CARVE_OUT_VSIZE)
        if not within(MAX_CHAIN_COUNT, 0, 0) and not carved_out:
            raise Rejected("too-long-mempool-chain", self._chain_limit_passed(vsize, ancestors))
        return ancestors

    def _chain_limit_passed(self, vsize: int, ancestors: set[str]) -> str:
        """Which limit, in elementsd's words (``txmempool.cpp``, CalculateMemPoolAncestors)."""
        if len(ancestors) + 1 > MAX_CHAIN_COUNT:
            return f"too many unconfirmed ancestors [limit: {MAX_CHAIN_COUNT}]"
        if self.vsize_of(ancestors) + vsize > MAX_CHAIN_VSIZE:
            return f"exceeds ancestor size limit [limit: {MAX_CHAIN_VSIZE}]"
        for txid in ancestors:
            family = self.descendants([txid])
            if len(family) + 1 > MAX_CHAIN_COUNT:
                return f"too many descendants for tx {txid} [limit: {MAX_CHAIN_COUNT}]"
            if self.vsize_of(family) + vsize > MAX_CHAIN_VSIZE:
                return f"exceeds descendant size limit for tx {txid} [limit: {MAX_CHAIN_VSIZE}]"
        return "too many unconfirmed relatives"

    def _check_replacement(self, entry: Entry, conflicts: set[str]) -> set[str]:
        """BIP125 as elementsd has it; returns all entries that would go."""
        for txid in conflicts:
            old = self.entries[txid]
            rate, old_rate = (one.fee_sats * 1000 // one.vsize for one in (entry, old))
            if rate <= old_rate:
                rates = f"new feerate {_rate_text(rate)} <= old feerate {_rate_text(old_rate)}"
                raise _too_cheap(entry, f"; {rates}")
        if sum(len(self.descendants([txid])) for txid in conflicts) > MAX_REPLACED:
            raise Rejected("too many potential replacements")
        known = {txin.outpoint[0] for txid in conflicts for txin in self.entries[txid].tx.inputs}
        if entry.parents - known:
            raise Rejected("replacement-adds-unconfirmed")
        replaced = self.descendants(conflicts)
        old_sats = sum(self.entries[txid].fee_sats for txid in replaced)
        if entry.fee_sats < old_sats:
            fees = f"{_money_text(entry.fee_sats)} < {_money_text(old_sats)}"
            raise _too_cheap(entry, f", less fees than conflicting txs; {fees}")
        extra_sats = entry.fee_sats - old_sats
        floor_sats = fee_at(RELAY_SATS_PER_KVB, entry.vsize)
        if extra_sats < floor_sats:
            fees = f"{_money_text(extra_sats)} < {_money_text(floor_sats)}"
            raise _too_cheap(entry, f", not enough additional fees to relay; {fees}")
        return replaced

    def confirm(self, txs: Iterable[Tx]) -> set[str]:
        """A block has these: they leave, and so does what conflicts with them."""
        touched: set[str] = set()
        for tx in txs:
            if tx.txid in self.entries:
                touched |= self.remove([tx.txid])
            rivals = {self.spenders[i.outpoint] for i in tx.inputs if i.outpoint in self.spenders}
            touched |= self.remove(self.descendants(rivals))
        return touched

    def restore(self, txs: Iterable[Tx], *, keep: bool) -> set[str]:
        """Blocks with these (oldest first) were disconnected: take back what is still valid.

        Without `keep` they are forgotten, with what builds on them. Returns the touched scripts.
        """
        touched: set[str] = set()
        restored = []
        for tx in txs:
            try:
                if not keep:
                    raise Rejected("disconnected too deep")
                entry, replaced = self.check(tx, from_block=True)
            except Rejected:
                touched |= self.remove(self.descendants(self.spenders_of(tx)))
                continue
            touched |= self.remove(replaced)
            self.add(entry)
            touched |= entry.scripthashes
            restored.append(tx.txid)
        # Only now, so that limits above ignored what already built on a block's transactions.
        remaining = [txid for txid in restored if txid in self.entries]
        for txid in remaining:
            touched |= self.link_children(txid)
        grown = self.descendants(remaining) - set(remaining)
        touched |= self._remove_if(sorted(grown), self._is_chain_too_long)
        return touched | self._remove_if(list(self.entries), self._is_premature)

    def _remove_if(self, txids: list[str], condition: Callable[[str], bool]) -> set[str]:
        doomed = {txid for txid in txids if condition(txid)}
        return self.remove(self.descendants(doomed))

    def _is_chain_too_long(self, txid: str) -> bool:
        ancestors = self.ancestors([txid])
        return len(ancestors) > MAX_CHAIN_COUNT or self.vsize_of(ancestors) > MAX_CHAIN_VSIZE

    def _is_premature(self, txid: str) -> bool:
        # elementsd keeps the relative locks it computed at entry while their block stands, so it
        # also drops a lock of zero blocks on an unconfirmed parent; here it stays, being met.
        tx = self.entries[txid].tx
        coins = self._find_coins(tx)
        locks_met = self._is_final(tx) and self._sequence_locks_met(tx, coins)
        return not (locks_met and self._is_mature(coins))


def _too_cheap(entry: Entry, why: str) -> Rejected:
    """A replacement that pays too little, in elementsd's words (``validation.cpp``)."""
    return Rejected("insufficient fee", f"rejecting replacement {entry.tx.txid}{why}")


def _rate_text(sats_per_kvb: int) -> str:
    """A fee rate as ``CFeeRate::ToString`` has it."""
    return f"{sats_per_kvb // 100_000_000}.{sats_per_kvb % 100_000_000:08d} BTC/kvB"


def _money_text(sats: int) -> str:
    """An amount as ``FormatMoney`` has it: at least two decimals, no zeros after them."""
    whole, _, decimals = f"{sats / 100_000_000:.8f}".partition(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"
