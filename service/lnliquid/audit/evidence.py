"""What the chain shows of the money: wallet outputs, HTLC outputs, who spends them. Pure.

It is every transaction in the histories of the wallet's addresses and of the HTLCs, and each stored
transaction of ours that no node has seen yet and that can still be sent: the store counts on it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lnliquid.domain import htlc
from lnliquid.domain.swap import Outpoint, Swap, Tip
from lnliquid.domain.transaction import Transaction, parse_transaction
from lnliquid.store.survey import StoreFacts
from lnliquid.watchers.observe import output_script, spend_kind


@dataclass(frozen=True, slots=True)
class SeenTx:
    """A transaction on the chain; `height` is None in the mempool."""

    transaction: Transaction
    height: int | None


@dataclass(frozen=True, slots=True)
class ChainPicture:
    """All that was read, under one tip. `unread` names what could not be, and why."""

    tip: Tip
    wallet_scripts: frozenset[bytes]
    transactions: Mapping[str, SeenTx]
    unread: tuple[str, ...] = ()


class Fate(Enum):
    """What became of an HTLC output."""

    LOCKED = "locked"
    CLAIMED = "claimed"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class HtlcOutput:
    """An output of a transaction of ours that pays the HTLC of a swap."""

    swap: Swap
    asset_id: str
    value: int
    fate: Fate
    spender: str | None
    odd_witness: bool
    """It was spent by neither branch of its script."""


class Evidence:
    """The chain, output by output, beside what is stored of our transactions."""

    def __init__(self, store: StoreFacts, chain: ChainPicture) -> None:
        self._seen = chain.transactions
        self.stored = {own.txid: own for own in store.own_txs}
        self.parsed = {own.txid: parse_transaction(own.raw) for own in store.own_txs}
        self.dead = self._dead()
        """Stored ones that cannot confirm, each with the rival that spends an input of it."""
        self.in_flight = {
            own.txid
            for own in store.own_txs
            if own.is_living and own.txid not in self._seen and own.txid not in self.dead
        }
        """Stored ones that no node has seen and that can still be sent."""
        self.transactions = {txid: seen.transaction for txid, seen in self._seen.items()} | {
            txid: self.parsed[txid] for txid in self.in_flight
        }
        self.spenders: dict[Outpoint, list[str]] = defaultdict(list)
        for txid, transaction in self.transactions.items():
            for spent in transaction.inputs:
                self.spenders[spent.outpoint].append(txid)
        outputs = {
            Outpoint(txid, vout): output
            for txid, transaction in self.transactions.items()
            for vout, output in enumerate(transaction.outputs)
        }
        self.explicit = {
            outpoint: (output.asset_id, output.value)
            for outpoint, output in outputs.items()
            if output.asset_id is not None and output.value is not None
        }
        """(asset, value) of each output that is not blinded."""
        self.wallet = {o for o in self.explicit if outputs[o].script_pubkey in chain.wallet_scripts}
        spends_wallet = {txid for o in self.wallet for txid in self.spenders.get(o, ())}
        self.ours = {txid for txid in self.stored if txid in self.transactions} | spends_wallet
        swaps = {output_script(swap): swap for swap in store.swaps if swap.funding_txid}
        self.htlcs = {
            outpoint: self._htlc(swap, outpoint)
            for outpoint in self.explicit
            if outpoint.txid in self.ours
            and (swap := swaps.get(outputs[outpoint].script_pubkey)) is not None
        }
        paid = {self.stored[w.txid].family: w.script_pubkey for w in store.withdrawals}
        self.withdrawn = {
            o
            for o in self.explicit
            if o.txid in self.stored
            and outputs[o].script_pubkey == paid.get(self.stored[o.txid].family)
        }
        """Outputs of withdrawals to the addresses that the operator gave."""
        refunds = (h.spender for h in self.htlcs.values() if h.fate is Fate.REFUNDED)
        self.ours |= {txid for txid in refunds if txid is not None}

    def _dead(self) -> dict[str, str]:
        seen = self._seen.items()
        spent = {i.outpoint: txid for txid, s in seen for i in s.transaction.inputs}
        unseen = {o.txid for o in self.stored.values() if o.is_living} - self._seen.keys()
        dead: dict[str, str] = {}
        while found := {
            txid: rival
            for txid in unseen - dead.keys()
            for item in self.parsed[txid].inputs
            if (rival := spent.get(item.outpoint) or dead.get(item.outpoint.txid))
        }:
            dead |= found
        return dead

    def _htlc(self, swap: Swap, outpoint: Outpoint) -> HtlcOutput:
        spender = self.spender(outpoint)
        fate, is_odd = Fate.LOCKED, False
        if spender is not None:
            kind = spend_kind(swap, self.transactions[spender].input_of[outpoint])
            fate = Fate.REFUNDED if kind is htlc.SpendKind.REFUND else Fate.CLAIMED
            is_odd = kind is None
        return HtlcOutput(swap, *self.explicit[outpoint], fate, spender, is_odd)

    def spender(self, outpoint: Outpoint) -> str | None:
        """The transaction that spends an output, None while it is unspent."""
        return next(iter(self.spenders.get(outpoint, ())), None)

    def is_seen(self, txid: str) -> bool:
        """True when the chain or the mempool has it."""
        return txid in self._seen

    def height(self, txid: str) -> int | None:
        """Height of a transaction's block; None in the mempool, in flight, and unknown."""
        seen = self._seen.get(txid)
        return seen.height if seen else None
