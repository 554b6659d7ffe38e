"""Where the money is as the chain shows it: wallet outputs, HTLC outputs, fees. Pure.

The picture is made of every transaction in the histories of the wallet's addresses and of the
HTLCs, and of those stored transactions of ours that no node has seen yet and that still can be
sent: they are what the store already reckons with.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lnliquid.liquid import htlc, tx
from lnliquid.seller.observe import output_script, witness_script
from lnliquid.store.survey import StoreFacts
from lnliquid.swap import Outpoint, Swap, Tip


@dataclass(frozen=True, slots=True)
class SeenTx:
    """A transaction on the chain; `height` is None in the mempool."""

    transaction: tx.Transaction
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
class Holding:
    """An output that pays the wallet or an HTLC."""

    asset_id: str
    value: int


@dataclass(frozen=True, slots=True)
class HtlcOutput:
    """An output of a transaction of ours that pays the HTLC of a swap."""

    swap: Swap
    holding: Holding
    fate: Fate
    spender: str | None
    odd_witness: bool


@dataclass(slots=True)
class Ledger:
    """One asset: what came in, and where it is now. Smallest unit."""

    came_in: int = 0
    wallet: int = 0
    locked: int = 0
    claimed: int = 0
    fees: int = 0
    elsewhere: int = 0
    """Paid by us to scripts that are neither the wallet's nor an HTLC's. There should be none."""

    @property
    def gap(self) -> int:
        """What came in and is nowhere; 0 when the ledger balances."""
        here = self.wallet + self.locked + self.claimed + self.fees + self.elsewhere
        return self.came_in - here


class Money:
    """The picture, output by output."""

    def __init__(self, store: StoreFacts, chain: ChainPicture) -> None:
        self.chain = chain
        self.stored = {own.txid: own for own in store.own_txs}
        self.parsed = {own.txid: tx.parse(own.raw) for own in store.own_txs}
        seen = {txid: item.transaction for txid, item in chain.transactions.items()}
        self.in_flight, self.dead = self._unseen(seen)
        """Stored and not seen yet: those that can still be sent, and those that cannot."""
        self.transactions = {**seen, **{txid: self.parsed[txid] for txid in self.in_flight}}
        self.spenders: dict[Outpoint, list[str]] = defaultdict(list)
        for txid, transaction in self.transactions.items():
            for item in transaction.inputs:
                self.spenders[item.outpoint].append(txid)
        self.wallet: dict[Outpoint, Holding] = {
            Outpoint(txid, vout): Holding(output.asset_id, output.value)
            for txid, transaction in self.transactions.items()
            for vout, output in enumerate(transaction.outputs)
            if output.script_pubkey in chain.wallet_scripts
            and output.asset_id is not None
            and output.value is not None
        }
        self.ours = {
            txid
            for txid, transaction in self.transactions.items()
            if txid in self.stored or any(i.outpoint in self.wallet for i in transaction.inputs)
        }
        self.htlcs = self._htlcs({output_script(s): s for s in store.swaps if s.funding_txid})
        self.ours |= {
            out.spender for out in self.htlcs.values() if out.fate is Fate.REFUNDED and out.spender
        }

    def _unseen(self, seen: Mapping[str, tx.Transaction]) -> tuple[set[str], dict[str, str]]:
        spent = {i.outpoint: txid for txid, t in seen.items() for i in t.inputs}
        unseen = {o.txid for o in self.stored.values() if o.is_living} - set(seen)
        dead: dict[str, str] = {}
        while True:
            found = {
                txid: rival
                for txid in unseen - set(dead)
                for item in self.parsed[txid].inputs
                if (rival := spent.get(item.outpoint) or dead.get(item.outpoint.txid))
            }
            if not found:
                return unseen - set(dead), dead
            dead |= found

    def _htlcs(self, scripts: Mapping[bytes, Swap]) -> dict[Outpoint, HtlcOutput]:
        found = {}
        for txid in self.ours:
            for vout, output in enumerate(self.transactions[txid].outputs):
                swap = scripts.get(output.script_pubkey)
                if swap is None or output.asset_id is None or output.value is None:
                    continue
                outpoint = Outpoint(txid, vout)
                spender = self.spender(outpoint)
                fate, odd = self._fate(swap, outpoint, spender)
                holding = Holding(output.asset_id, output.value)
                found[outpoint] = HtlcOutput(swap, holding, fate, spender, odd)
        return found

    def _fate(self, swap: Swap, outpoint: Outpoint, spender: str | None) -> tuple[Fate, bool]:
        if spender is None:
            return Fate.LOCKED, False
        inputs = self.transactions[spender].inputs
        witness = next(i.witness for i in inputs if i.outpoint == outpoint)
        read = htlc.read_spend_witness(witness, witness_script(swap), swap.payment_hash)
        refunded = read is not None and read.kind is htlc.SpendKind.REFUND
        return Fate.REFUNDED if refunded else Fate.CLAIMED, read is None

    def spender(self, outpoint: Outpoint) -> str | None:
        """The transaction that spends an output, None while it is unspent."""
        spenders = self.spenders.get(outpoint)
        return spenders[0] if spenders else None

    def height(self, txid: str) -> int | None:
        """Height of a transaction's block; None in the mempool, in flight, and unknown."""
        seen = self.chain.transactions.get(txid)
        return seen.height if seen else None

    def ledgers(self) -> dict[str, Ledger]:
        """One ledger for each asset."""
        books: dict[str, Ledger] = defaultdict(Ledger)
        for outpoint, holding in self.wallet.items():
            if outpoint.txid not in self.ours:
                books[holding.asset_id].came_in += holding.value
            if self.spender(outpoint) is None:
                books[holding.asset_id].wallet += holding.value
        for out in self.htlcs.values():
            book = books[out.holding.asset_id]
            if out.fate is Fate.LOCKED:
                book.locked += out.holding.value
            elif out.fate is Fate.CLAIMED:
                book.claimed += out.holding.value
        for txid in self.ours:
            for vout, output in enumerate(self.transactions[txid].outputs):
                outpoint = Outpoint(txid, vout)
                if output.asset_id is None or output.value is None:
                    continue  # blinded: it shows as a gap
                if output.is_fee:
                    books[output.asset_id].fees += output.value
                elif outpoint not in self.wallet and outpoint not in self.htlcs:
                    books[output.asset_id].elsewhere += output.value
        return dict(books)
