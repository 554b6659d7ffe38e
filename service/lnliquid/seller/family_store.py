"""Where a family stands, written to the store: its versions, inputs, coins and swaps together."""

from collections.abc import Sequence

import structlog

from lnliquid.liquid import tx
from lnliquid.seller.families import Standing, is_dead
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Transaction
from lnliquid.store.tables import LIVING, OwnTxRow, Purpose, TxState
from lnliquid.swap import Outpoint

log = structlog.get_logger()

Family = Sequence[OwnTxRow]
"""All versions, the first one first."""


def settle(session: Transaction, versions: Family, standing: Standing) -> set[str]:
    """Store where a family stands. Returns the ids of swaps whose funding is another one now."""
    current = standing.current
    moved: set[str] = set()
    for row in versions:
        if row.txid == current or row.state == TxState.REPLACED:
            continue
        moved |= {s.swap_id for s in swap_store.funded_by(session, row.txid)}
        own_tx_store.point_to(session, row.txid, current)
        raw = next(r.raw for r in versions if r.txid == current)
        values = {vout: o.value for vout, o in enumerate(tx.parse(raw).outputs)}
        coin_store.move_coins(session, row.txid, current, values)
        log.warning("another version stands", txid=current, instead_of=row.txid)
    if not standing.send:  # it is there; another version may have freed its inputs when buried
        raw = next(row.raw for row in versions if row.txid == current)
        coin_store.take_outpoints(session, {i.outpoint for i in tx.parse(raw).inputs}, current)
    own_tx_store.set_state(session, current, standing.state, standing.height)
    return moved


def abandon(session: Transaction, family: str, buried_at: int) -> set[str]:
    """Abandon a family that cannot confirm any more, and all of ours that die with it.

    That rests on blocks up to the height `buried_at`: a reorg of those brings it back. Returns the
    ids of the unfinished swaps that it funded.
    """
    swaps: set[str] = set()
    children: set[str] = set()
    versions = own_tx_store.versions(session, family)
    for row in versions:
        swaps |= {s.swap_id for s in swap_store.funded_by(session, row.txid) if not s.finished}
        if row.state in LIVING:
            own_tx_store.set_state(session, row.txid, TxState.ABANDONED, buried_at)
        coin_store.free_outpoints(session, row.txid)
        if row.purpose == Purpose.DEPOSIT:
            coin_store.drop_coins_of(session, row.txid)
        children |= coin_store.live_children(session, row.txid)
    for child in sorted(children):
        name = own_tx_store.family_of(session, child)
        inputs = [
            {i.outpoint for i in tx.parse(row.raw).inputs}
            for row in own_tx_store.versions(session, name)
        ]
        spent = set[Outpoint]().union(*inputs)
        found = own_tx_store.families_of(session, {o.txid for o in spent})
        lost = {
            txid for txid, rows in found.items() if any(r.state == TxState.ABANDONED for r in rows)
        }
        # A version that spends nothing of what was abandoned may confirm all the same.
        if is_dead(inputs, {o for o in spent if o.txid in lost}):
            swaps |= abandon(session, name, buried_at)
    swaps |= swap_store.let_go(session)
    return swaps


def revive(session: Transaction, fork_height: int) -> None:
    """Have families confirm again that were abandoned because of blocks from this height on.

    Each takes what it spends, but for what another of ours has by now: the chain decides between
    the two. Refunds are signed anew instead, past their gate.
    """
    for row in own_tx_store.abandoned_above(session, fork_height):
        own_tx_store.set_state(session, row.txid, TxState.SIGNED)
        log.warning("abandoned transaction revived", txid=row.txid)
        if row.purpose != Purpose.DEPOSIT:
            versions = own_tx_store.versions(session, row.family)
            spent = {i.outpoint for v in versions for i in tx.parse(v.raw).inputs}
            free = spent - coin_store.bound_outpoints(session, spent)
            coin_store.bind_outpoints(session, free, row.txid)
