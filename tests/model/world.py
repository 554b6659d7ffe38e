"""The world of the model: chain, mempool, Lightning, buyers and the store, in one immutable value.

It knows what a node and a miner do, and decides nothing for the seller. Time is the chain's height;
that an invoice expires is a move of its own.
"""

from collections.abc import Collection, Iterable
from functools import cache
from typing import NamedTuple

from lnliquid.domain import htlc
from lnliquid.domain.ports import InvoiceStatus
from lnliquid.domain.reconcile import Action
from lnliquid.domain.swap import Outpoint, Swap
from lnliquid.domain.transaction import Transaction, TxInput
from lnliquid.store.tables import LIVING, Purpose, TxState
from lnliquid.watchers.observe import witness_script

from ..unit.builders import make_swap, preimage_of

COINS = ("K1", "K2", "K3")
"""Outputs of buried transactions, each enough to fund all swaps."""


class Tx(NamedTuple):
    """A transaction that exists. Only the seller's have a purpose, a family and what is stored."""

    txid: str
    inputs: tuple[Outpoint, ...]
    purpose: Purpose | None = None
    family: str = ""
    rank: int = 1
    """Among those that replace one another, who pays more."""
    lock_height: int = 0
    """Of the HTLC outputs that a funding makes; for a refund, its own."""
    replaceable: bool = True
    is_claim: bool = False
    state: TxState | None = None
    height: int | None = None
    """Both as the seller stored them."""
    funds: tuple[int, ...] = ()
    """The swaps whose HTLC outputs it makes."""
    is_ordered: bool = False
    """A refund that the operator ordered."""


class Pending(NamedTuple):
    """A decision of the daemon that a crash loses."""

    before: Swap
    after: Swap
    action: Action | None
    is_saved: bool = False


class Sale(NamedTuple):
    """One swap: its record, its invoice at Lightning, its buyer, what the daemon is about to do."""

    swap: Swap
    invoice: InvoiceStatus = InvoiceStatus.ABSENT
    is_shown: bool = False
    """The buyer has had an invoice of it; its secret follows from the preimage, and stays."""
    is_paid: bool = False
    hung: str = ""
    """A call that Lightning will carry out later: `make` or `drop`."""
    pending: Pending | None = None


class View(NamedTuple):
    """A chain and its mempool. `blocks`: heights by txid."""

    tip: int
    blocks: tuple[tuple[str, int], ...] = ()
    mempool: tuple[str, ...] = ()

    def heights(self) -> dict[str, int | None]:
        """Of all that is in a block, or, None, in the mempool."""
        return {**dict(self.blocks), **dict.fromkeys(self.mempool)}


class World(NamedTuple):
    """Everything there is. `faults`: how many more things may go wrong."""

    chain: View
    sales: tuple[Sale, ...]
    txs: tuple[Tx, ...] = ()
    sent: frozenset[str] = frozenset()
    """What a node once had: a miner may take it at any time."""
    stalled: View | None = None
    """What a lagging Electrum server shows."""
    faults: int = 0
    final_confs: int = 2
    """No reorg is as deep as this."""
    are_deleted: bool = False
    """Others delete invoices that are paid, which the operator is told to prevent (ADR 4)."""
    limit: int = 0
    """The chain grows to this height, and then only while everything comes to rest."""

    @property
    def seen(self) -> View:
        """The chain as the seller's server shows it."""
        return self.stalled or self.chain

    def tx(self, txid: str) -> Tx:
        """That transaction."""
        return next(t for t in self.txs if t.txid == txid)

    def with_tx(self, *changed: Tx) -> "World":
        """These added, or in the place of those of the same txid."""
        new = {t.txid: t for t in self.txs} | {t.txid: t for t in changed}
        return self._replace(txs=tuple(new.values()))

    def with_sale(self, nth: int, **changes: object) -> "World":
        """This sale changed."""
        sales = list(self.sales)
        sales[nth] = sales[nth]._replace(**changes)  # type: ignore[arg-type]
        return self._replace(sales=tuple(sales))

    def families(self) -> dict[str, list[Tx]]:
        """The seller's own, the first version first."""
        found: dict[str, list[Tx]] = {}
        for own in self.txs:
            if own.purpose is not None:
                found.setdefault(own.family, []).append(own)
        return found

    def bound(self) -> list[Outpoint]:
        """Outpoints with a live owner; one twice has two."""
        return [
            outpoint
            for versions in self.families().values()
            if any(v.state in LIVING for v in versions)
            for outpoint in {o for v in versions for o in v.inputs}
        ]


def spender(world: World, view: View, outpoint: Outpoint) -> Tx | None:
    """What spends this outpoint in the chain or the mempool of a view."""
    there = view.heights()
    return next((t for t in world.txs if t.txid in there and outpoint in t.inputs), None)


def confirmations(view: View, txid: str) -> int:
    """How many this transaction has."""
    height = dict(view.blocks).get(txid)
    return 0 if height is None else view.tip - height + 1


def is_buried(world: World, view: View, txid: str) -> bool:
    """True when no reorg takes it out of its block any more."""
    return confirmations(view, txid) >= world.final_confs


# ---- real transactions, as far as reading a spend needs them

_swaps: dict[tuple[str, int], Swap] = {}
_read: dict[str, Transaction] = {}


def note_funding(txid: str, swaps: Iterable[tuple[int, Swap]]) -> None:
    """Remember whose HTLC outputs these are, to make the witnesses of their spends."""
    _swaps.update({(txid, nth): swap for nth, swap in swaps})
    _read.setdefault(txid, Transaction(txid, (), (), 0, 100))


def note_spend(spend: Tx) -> None:
    """Make the inputs with the witnesses that a claim or a refund really has."""
    if spend.txid not in _read:
        inputs = tuple(TxInput(o, 0, _witness(o, spend.is_claim)) for o in spend.inputs)
        _read[spend.txid] = Transaction(spend.txid, inputs, (), 0, 100)


def _witness(outpoint: Outpoint, is_claim: bool) -> list[bytes]:
    swap = _swaps.get((outpoint.txid, outpoint.vout // 2))
    if swap is None:
        return []
    script = witness_script(swap)
    if is_claim:
        return htlc.claim_witness(b"signature", b"key", preimage_of(swap), script)
    return htlc.refund_witness(b"signature", b"key", script)


def read_transactions() -> dict[str, Transaction]:
    """All that were noted, by txid."""
    return _read


@cache
def new_swap(nth: int) -> Swap:
    """A swap that waits for its funding."""
    return make_swap(
        nth,
        min_funding_confs=1,
        funding_txid=None,
        asset_vout=None,
        subsidy_vout=None,
        refund_lock_height=None,
    )


# ---- nodes and miners


def can_confirm(world: World, view: View, spend: Tx, there: Iterable[str]) -> bool:
    """True when its inputs exist among these transactions, unspent by a block, and it is final."""
    taken = {o for txid, _ in view.blocks for o in world.tx(txid).inputs}
    is_final = spend.purpose is not Purpose.REFUND or spend.lock_height <= view.tip
    exists = set(there)
    return is_final and all(
        o not in taken and (o.txid in COINS or o.txid in exists) for o in spend.inputs
    )


def _outbids(new: Tx, old: Tx) -> bool:
    if not old.replaceable:
        return False
    if new.is_claim:
        return not (old.is_claim and new.replaceable)  # a buyer pays more than our refunds do
    if old.is_claim:
        return new.rank > 1  # a bumped refund pays more than a claim that may be replaced
    return new.family == old.family != "" and new.rank > old.rank


def _without(world: World, mempool: Iterable[str], gone: set[str]) -> tuple[str, ...]:
    """The mempool without these and all that spends from them."""
    kept = [t for t in mempool if t not in gone]
    below = {t for t in kept if any(o.txid in gone for o in world.tx(t).inputs)}
    return _without(world, kept, below) if below else tuple(kept)


def accept(world: World, txid: str) -> World | None:
    """The node takes it into its mempool, or has it already; None: refused."""
    view, new = world.chain, world.tx(txid)
    there = view.heights()
    if txid in there:
        return world
    if not can_confirm(world, view, new, there):
        return None
    rivals = {t for t in view.mempool if set(world.tx(t).inputs) & set(new.inputs)}
    if not all(_outbids(new, world.tx(t)) for t in rivals):
        return None
    kept = _without(world, view.mempool, rivals)
    chain = view._replace(mempool=tuple(sorted((*kept, txid))))
    return world._replace(chain=chain, sent=world.sent | {txid})


def mine(world: World, txids: Iterable[str]) -> World | None:
    """A block with these in this order; None when it would not be valid."""
    view = world.chain
    height = view.tip + 1
    for txid in txids:
        new = world.tx(txid)
        confirmed = [t for t, _ in view.blocks]
        if txid in confirmed or not can_confirm(world, view, new, confirmed):
            return None
        rivals = {t for t in view.mempool if set(world.tx(t).inputs) & set(new.inputs)} - {txid}
        mempool = _without(world, [t for t in view.mempool if t != txid], rivals)
        # The tip stays until the block is whole: final is what the block before allows.
        view = view._replace(blocks=tuple(sorted((*view.blocks, (txid, height)))), mempool=mempool)
    sent = world.sent | {t for t, h in view.blocks if h == height}
    return world._replace(chain=view._replace(tip=height), sent=sent)


def reorg(world: World, depth: int, txids: Collection[str]) -> World | None:
    """As many other blocks take the place of the last ones; the first of them holds these."""
    view = world.chain
    low = view.tip - depth
    if low < 0 or any(txid not in {t.txid for t in world.txs} for txid in txids):
        return None
    undone = [t for t, h in view.blocks if h > low]
    kept = tuple((t, h) for t, h in view.blocks if h <= low)
    shorter = world._replace(chain=View(low, kept, ()))
    mined = mine(shorter, txids)
    if mined is None:
        return None
    after = mined._replace(chain=mined.chain._replace(tip=view.tip))
    for txid in sorted((*undone, *view.mempool), key=[t.txid for t in world.txs].index):
        after = accept(after, txid) or after
    return after
