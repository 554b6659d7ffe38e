"""Where a family of our transactions stands: pure, like `reconcile` for swaps.

A family is all transactions of ours that replaced one another for one purpose. Any of its versions
may confirm, in any order: a miner picks, and a reorg lets another one pick again. So all of
it is done for the family: following, judging, sending, abandoning.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lnliquid.domain.swap import Outpoint
from lnliquid.domain.transaction import Transaction, parse_transaction
from lnliquid.store.tables import PENDING, OwnTxRow, Purpose, TxState


@dataclass(frozen=True)
class Version:
    """Where one transaction of a family is, as stored."""

    txid: str
    state: TxState
    height: int | None


@dataclass(frozen=True)
class OwnTx(Version):
    """A stored transaction of ours. `signed_height` is the tip's when it was signed."""

    family: str
    purpose: Purpose
    raw: bytes
    fee_sats: int
    vsize: int
    signed_height: int

    @classmethod
    def of(cls, row: OwnTxRow) -> "OwnTx":
        """As its row says."""
        return cls(
            row.txid,
            TxState(row.state),
            row.height,
            row.family,
            Purpose(row.purpose),
            row.raw,
            row.fee_sats,
            row.vsize,
            row.signed_height,
        )

    @cached_property
    def parsed(self) -> Transaction:
        """Its parts."""
        return parse_transaction(self.raw)

    @cached_property
    def inputs(self) -> frozenset[Outpoint]:
        """What it spends."""
        return frozenset(i.outpoint for i in self.parsed.inputs)

    @property
    def rate(self) -> int:
        """What it pays, in sat per 1,000 vbytes, rounded up."""
        return -(-self.fee_sats * 1000 // self.vsize)


@dataclass(frozen=True, slots=True)
class Standing:
    """The version that stands for its family, and its state now.

    `send`: txids to broadcast, in this order, until a node takes one; empty when it has one.
    """

    current: str
    state: TxState
    height: int | None
    send: tuple[str, ...] = ()


def stand(versions: Sequence[Version], seen: Mapping[str, int | None]) -> Standing | None:
    """Derive a family's standing; None when it was abandoned and nothing of it is seen.

    `versions`: the first one first. `seen`: heights by txid of what chain and mempool hold, None
    for the mempool. A block outweighs the mempool, and the mempool what was signed last.
    """
    newest = versions[-1]
    stored = next((v for v in versions if v.state in (*PENDING, TxState.CONFIRMED)), None)
    order = [v.txid for v in reversed(versions)]
    if stored is not None:
        order.remove(stored.txid)
        order.insert(0, stored.txid)
    for txid in order:
        height = seen.get(txid)
        if height is not None:
            return Standing(txid, TxState.CONFIRMED, height)
    for txid in order:
        if txid in seen:
            return Standing(txid, TxState.ACCEPTED, None)
    if stored is None:
        if any(v.state is TxState.ABANDONED for v in versions):
            return None
        stored = newest
    # What was seen before and is gone is as good as signed only: a node has to take it again.
    state = stored.state if stored.state is TxState.REFUSED else TxState.SIGNED
    return Standing(stored.txid, state, None, tuple(order))


def settled(versions: Sequence[Version], standing: Standing) -> list[Version]:
    """The versions as they are to be stored: one stands, the others are replaced."""
    return [
        replace(v, state=standing.state, height=standing.height)
        if v.txid == standing.current
        else replace(v, state=TxState.REPLACED)
        for v in versions
    ]


def is_lost(txid: str, versions: Sequence[Version], buried_at: int) -> bool:
    """True when no block will ever hold this version: nothing spends its outputs.

    The family was abandoned, or another version is in a block of height `buried_at` or below.
    """
    return any(
        v.state is TxState.ABANDONED
        or (v.txid != txid and v.state is TxState.CONFIRMED and (v.height or 0) <= buried_at)
        for v in versions
    )


def is_dead(versions: Collection[Collection[Outpoint]], gone: Collection[Outpoint]) -> bool:
    """True when no version can confirm: each spends one of the `gone` outpoints.

    Those are spent by something else that is buried, or of a transaction that never will be.
    `versions` are the inputs of each.
    """
    return all(any(outpoint in gone for outpoint in inputs) for inputs in versions)
