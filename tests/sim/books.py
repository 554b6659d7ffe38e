"""Money rule 7 from the chain alone: every unit that came in is somewhere, and known where."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lnlab.nodes.embedded.txmodel import Tx, electrum_scripthash
from lnliquid.domain import htlc
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain

from .clockwork import Violation
from .ground import ASSET, LBTC, Ground
from .withdrawals import Withdrawals

RECEIVE_ADDRESSES = 60
AHEAD = 20


@dataclass(frozen=True)
class Locked:
    """An HTLC output of a funding that was sent."""

    swap_id: str
    asset: str
    value: int
    script: bytes
    lock_height: int
    payment_hash: bytes


class Wallet:
    """The scripts of the seller's wallet."""

    def __init__(self, keys: Keychain) -> None:
        self._keys = keys
        self._change = 0
        self.scripts: dict[bytes, str] = {}
        """Each script with its Electrum name."""
        self.paths: dict[bytes, tuple[int, int]] = {}
        """Each script with branch and index of its key."""
        for index in range(RECEIVE_ADDRESSES):
            self._add(RECEIVE, index)
        self.extend(0)

    def _add(self, branch: int, index: int) -> None:
        script = htlc.p2wpkh_script(self._keys.wallet_key(branch, index).key_hash)
        self.scripts[script] = electrum_scripthash(script)
        self.paths[script] = (branch, index)

    def extend(self, next_change: int) -> None:
        """Know change addresses up to some way behind this index."""
        while self._change < next_change + AHEAD:
            self._add(CHANGE, self._change)
            self._change += 1


class Books:
    """What was sent by, and locked for, the seller; and what the chain holds of it."""

    def __init__(self, ground: Ground, wallet: Wallet) -> None:
        self._ground = ground
        self.wallet = wallet
        self.locked: dict[tuple[str, int], Locked] = {}
        self.sent: dict[str, Tx] = {}
        """Transactions that the daemon sent."""
        self.gone_out: dict[str, dict[str, int]] = {}
        """What others with the seller's keys took out, asset by asset, by txid."""
        self.withdrawals = Withdrawals(ground)

    def fundings_of(self, swap_id: str) -> set[str]:
        """Fundings that were sent for this swap, over all its life."""
        return {txid for (txid, _), lock in self.locked.items() if lock.swap_id == swap_id}

    def is_claim(self, spender: Tx, outpoint: tuple[str, int]) -> bool:
        """Whether this spend of an HTLC output shows the preimage."""
        lock = self.locked[outpoint]
        witness = next(i.witness for i in spender.inputs if i.outpoint == outpoint)
        return read_branch(witness, lock.payment_hash) == "claim"

    def balance(self) -> None:
        """Raise `Violation` unless what came in is all there, per asset."""
        ground, chain = self._ground, self._ground.chain
        came_in: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for deposit in ground.deposits:
            if ground.find(deposit.txid) is not None:
                came_in[ASSET] += deposit.asset
                came_in[LBTC] += deposit.lbtc
        for scripthash in self.wallet.scripts.values():
            for coin in chain.unspent(scripthash):
                held[coin.asset] += coin.value
        for outpoint, lock in self.locked.items():
            if ground.find(outpoint[0]) is None:
                continue
            spender = ground.spender(*outpoint)
            # Spent by the seller it is in the wallet again, less the fee that is counted below.
            if spender is None or self.is_claim(spender, outpoint):
                held[lock.asset] += lock.value
        for txid, tx in self.sent.items():
            if ground.find(txid) is not None:
                held[LBTC] += tx.fee_sats(LBTC)
                held.update(self.withdrawals.paid(tx))
        for txid, taken in self.gone_out.items():
            if ground.find(txid) is not None:
                held.update(taken)
        if came_in != held:
            raise Violation(7, f"came in {dict(came_in)}, found {dict(held)}")

    def all_known(self, tx: Tx, ours: Iterable[bytes]) -> None:
        """Raise `Violation` if a transaction of the seller pays anything unknown."""
        known = self.wallet.scripts.keys() | set(ours)
        for vout, out in enumerate(tx.outputs):
            if not out.is_fee and out.script not in known:
                raise Violation(7, f"output {vout} of {tx.txid} pays an unknown script")


def read_branch(witness: tuple[bytes, ...], payment_hash: bytes) -> str:
    """Which branch of an HTLC a witness took, by its form alone."""
    if len(witness) == 5 and hashlib.sha256(witness[2]).digest() == payment_hash:
        return "claim"
    return "refund" if len(witness) == 4 else "neither"
