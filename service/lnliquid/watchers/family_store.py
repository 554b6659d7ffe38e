"""Families in the store: read whole, and written with their inputs, coins and swaps together."""

from collections import defaultdict
from collections.abc import Sequence

import structlog

from lnliquid.domain.swap import Outpoint, Swap
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Transaction
from lnliquid.store.tables import LIVING, Purpose, TxState
from lnliquid.watchers.families import OwnTx, Standing, is_dead, is_lost

log = structlog.get_logger()

Family = Sequence[OwnTx]
"""All versions, the first one first."""


def family_with(session: Transaction, txid: str) -> Family:
    """All versions of the family that this transaction belongs to; empty when it is not stored."""
    return [OwnTx.of(row) for row in tx_store.versions(session, txid)]


def moving_families(session: Transaction, above_height: int) -> dict[str, Family]:
    """The families that may still change, by name, see `transactions.moving`; the oldest first."""
    families: defaultdict[str, list[OwnTx]] = defaultdict(list)
    for row in tx_store.moving(session, above_height):
        families[row.family].append(OwnTx.of(row))
    return dict(families)


def swaps_of(session: Transaction, own: OwnTx) -> list[Swap]:
    """The swaps that it funds, or whose HTLC outputs it takes back."""
    if own.purpose is Purpose.FUNDING:
        return swap_store.funded_by(session, own.txid)
    if own.purpose is not Purpose.REFUND:
        return []
    found = swap_store.with_outputs_in(session, {o.txid for o in own.inputs})
    return [s for s in found if own.inputs & {s.asset_outpoint, s.subsidy_outpoint}]


def settle(session: Transaction, versions: Family, standing: Standing) -> set[str]:
    """Store where a family stands. Returns the ids of swaps whose funding is another one now."""
    current = next(v for v in versions if v.txid == standing.current)
    moved: set[str] = set()
    for version in versions:
        if version is current or version.state is TxState.REPLACED:
            continue
        moved |= {s.swap_id for s in swap_store.funded_by(session, version.txid)}
        tx_store.point_to(session, version.txid, current.txid)
        values = {vout: o.value for vout, o in enumerate(current.parsed.outputs)}
        coin_store.move_coins(session, version.txid, current.txid, values)
        log.warning("another version stands", txid=current.txid, instead_of=version.txid)
    # It is there; another version may have freed its inputs when buried. A deposit's are not ours.
    if not standing.send and current.purpose is not Purpose.DEPOSIT:
        coin_store.take_outpoints(session, current.inputs, current.txid)
    tx_store.set_state(session, current.txid, standing.state, standing.height)
    return moved


def lost_inputs(session: Transaction, versions: Family, buried_at: int) -> set[Outpoint]:
    """What these spend of ours that no block will ever hold: nothing ever spends that."""
    spent = set[Outpoint]().union(*(v.inputs for v in versions))
    lost = {
        txid
        for txid in {o.txid for o in spent}
        if is_lost(txid, family_with(session, txid), buried_at)
    }
    return {o for o in spent if o.txid in lost}


def abandon(session: Transaction, txid: str, buried_at: int) -> set[str]:
    """Abandon a family, which cannot confirm any more, and all of ours that dies with it.

    That rests on blocks up to the height `buried_at`: a reorg of those brings it back. Returns the
    ids of the unfinished swaps that it funded.
    """
    swaps: set[str] = set()
    children: set[str] = set()
    for version in family_with(session, txid):
        funded = swap_store.funded_by(session, version.txid)
        swaps |= {s.swap_id for s in funded if not s.finished}
        if version.state in LIVING:
            tx_store.set_state(session, version.txid, TxState.ABANDONED, buried_at)
        coin_store.free_outpoints(session, version.txid)
        if version.purpose is Purpose.DEPOSIT:
            coin_store.drop_coins_of(session, version.txid)
        children |= coin_store.live_children(session, version.txid)
    for child in sorted(children):
        below = family_with(session, child)
        # A version that spends nothing of what was abandoned may confirm all the same.
        if is_dead([v.inputs for v in below], lost_inputs(session, below, buried_at)):
            swaps |= abandon(session, child, buried_at)
    return swaps | swap_store.fail_held(session)


def revive(session: Transaction, fork_height: int) -> None:
    """Have families confirm again that were abandoned because of blocks from this height on.

    Each takes what it spends, but for what another of ours has by now: the chain decides between
    the two.
    """
    for row in tx_store.abandoned_above(session, fork_height):
        tx_store.set_state(session, row.txid, TxState.SIGNED)
        log.warning("abandoned transaction revived", txid=row.txid)
        if row.purpose != Purpose.DEPOSIT:
            spent = set[Outpoint]().union(*(v.inputs for v in family_with(session, row.txid)))
            free = spent - coin_store.bound_outpoints(session, spent)
            coin_store.bind_outpoints(session, free, row.txid)
