"""Fee bumping: a package of ours that stays unconfirmed is replaced by one that pays more.

A package is a transaction with all of ours that build on it. Its root is replaced (BIP125) by one
that spends the same inputs and makes the same outputs, but for the L-BTC that returns to the
wallet, which pays. What was built on it is signed again on the new outputs: an older version of a
child needs an older version of its parent, so of each family one version at most can confirm.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import structlog

from lnliquid.config import Settings
from lnliquid.crashpoints import reach
from lnliquid.domain.errors import BackendError, ReplicaFailure
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Coin, InvoiceMark, Outpoint, State, Swap, Tip
from lnliquid.liquid.keys import Keychain
from lnliquid.store import coins as coin_store
from lnliquid.store import transactions as tx_store
from lnliquid.store import withdrawals
from lnliquid.store.coins import CoinsGone
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.chain_view import TipMoved
from lnliquid.watchers.families import OwnTx
from lnliquid.watchers.family_store import family_with, swaps_of
from lnliquid.watchers.funding import fee_rate
from lnliquid.watchers.outbox import Outbox, ToStore
from lnliquid.watchers.package import Graph
from lnliquid.watchers.refund_gate import RefundGate
from lnliquid.watchers.replacement import INCREMENT_SATS_PER_KVB, CannotPay, Material, sign_again
from lnliquid.watchers.wakeups import Notices
from lnliquid.watchers.wallet import Inventory

log = structlog.get_logger()

RATE_FACTOR = 1.5
MAX_RAISES = 8
"""Times that a root which the node refuses for its fee is raised at once."""


def was_shown(swap: Swap) -> bool:
    """True when a buyer may act on this funding: no other version is made in its place."""
    return swap.state is not State.CREATED or swap.invoice_mark is not InvoiceMark.NONE


@dataclass(eq=False)
class Bumper:
    """Replaces what waits too long for a block."""

    database: Database
    chain: Chain
    inventory: Inventory
    outbox: Outbox
    keys: Keychain
    settings: Settings
    notices: Notices

    async def bump_stuck(self, tip: Tip, unconfirmed: AbstractSet[str], gate: RefundGate) -> None:
        """Raise the packages of all that is stuck, or that a node refused for its fee.

        `unconfirmed` are those that were found in no block under this tip. What could not be read
        may be in one, whatever is stored of it, and its replacement would never come to be.
        """
        limit = tip.height - self.settings.bump_after_blocks
        known = set(unconfirmed)
        for _ in range(MAX_RAISES):
            underpaid, self.outbox.underpaid = self.outbox.underpaid, set()
            async with self.inventory.spending:
                graph = await self.database.read(_graph)
                stuck = [
                    m.txid
                    for m in graph.members.values()
                    if m.txid in known and (m.signed_height <= limit or m.txid in underpaid)
                ]
                for root in graph.roots(stuck):
                    if root.purpose is Purpose.DEPOSIT or root.txid in graph.stranded:
                        continue  # a higher fee of ours would not bring it back
                    known |= await self._raise(graph, root, tip, known, gate)
            if not self.outbox.underpaid & known:
                return

    async def _raise(
        self, graph: Graph, root: OwnTx, tip: Tip, unconfirmed: AbstractSet[str], gate: RefundGate
    ) -> set[str]:
        """Replace the package of `root`, or what of it can be. Returns the new versions' txids."""
        try:
            policy_asset = self.keys.network.policy_asset
            package = await self.database.read(lambda s: _package(s, graph, root, policy_asset))
            await self._require_replaceable(package, tip, unconfirmed, gate)
            versions = await self._sign_again(graph, package)
            await self._store(package, versions, tip)
        except CannotPay as error:
            log.warning("fee cannot be raised", txid=root.txid, reason=str(error))
            raised: set[str] = set()
            for child in graph.children(root.txid):  # it pays for its parent too
                raised |= await self._raise(graph, child, tip, unconfirmed, gate)
            return raised
        except (BackendError, TipMoved, CoinsGone, ReplicaFailure) as error:
            log.info("fee bump is delayed", txid=root.txid, reason=str(error))
            return set()
        for version in versions:
            if await self.outbox.first_send(version.signed):
                reach("bump.sent")
        return {version.txid for version in versions}

    async def _require_replaceable(
        self, package: Sequence[Material], tip: Tip, unconfirmed: AbstractSet[str], gate: RefundGate
    ) -> None:
        """Raises `CannotPay` when one of these must stay as it is."""
        for member in package:
            own, swaps = member.own, member.swaps
            if own.txid not in unconfirmed:
                raise CannotPay("nothing is known of where it is now")
            if own.purpose is Purpose.FUNDING and any(was_shown(s) for s in swaps):
                raise CannotPay("a buyer was shown this funding")
            if own.purpose is not Purpose.REFUND:
                self.database.require_replica()
            if own.purpose is Purpose.REFUND:
                # Money rule 4 holds for a replacement as for the first refund.
                opened = await gate.open(swaps, tip, member.versions)
                passed = {o for item in opened for o in item.outpoints}
                htlcs = {o for s in swaps for o in (s.asset_outpoint, s.subsidy_outpoint)}
                if not own.inputs & htlcs <= passed:
                    raise CannotPay(
                        "the gate of its refund is closed: a buyer may have claimed or paid"
                    )

    async def _sign_again(self, graph: Graph, package: Sequence[Material]) -> list[ToStore]:
        root, cap = package[0].own, self.settings.fee_cap_sats_per_kvb
        least = root.rate + INCREMENT_SATS_PER_KVB
        if least > cap:
            raise CannotPay(f"it pays {root.rate} sat/kvB, the fee cap")
        estimate = await fee_rate(self.chain, self.settings)
        rate = min(cap, max(estimate, int(root.rate * RATE_FACTOR), least))
        evicted = sum(m.own.fee_sats for m in package if m.own.state is TxState.ACCEPTED)
        used: set[Coin] = set()
        made: dict[str, ToStore] = {}

        def as_it_stands(outpoint: Outpoint) -> Outpoint:
            now = graph.as_it_stands(outpoint)
            new = made.get(now.txid)
            return Outpoint(new.txid, now.vout) if new is not None else now

        for member in package:
            own = member.own
            new = {c.outpoint: c for version in made.values() for c in version.change}
            left = [c for c in member.top_up if c not in used]
            version = await asyncio.to_thread(
                sign_again,
                replace(member, coins={**member.coins, **new}, top_up=left),
                as_it_stands,
                self.keys,
                rate_sats_per_kvb=max(rate, min(cap, own.rate)),
                evicted_sats=evicted if own is root else 0,
                cap_sats_per_kvb=cap,
            )
            made[own.txid] = version
            used |= {*version.coins}
        return list(made.values())

    async def _store(
        self, package: Sequence[Material], versions: Sequence[ToStore], tip: Tip
    ) -> None:
        """T2 for the whole package: all of its new versions, or none."""
        reach("bump.planned")
        await self.outbox.store(versions, tip.height)
        funded = [m for m in package if m.own.purpose is Purpose.FUNDING]
        self.notices.swaps_changed(s.swap_id for m in funded for s in m.swaps)
        reach("bump.stored")
        for version in versions:
            log.info(
                "fee bumped",
                txid=version.txid,
                replaces=version.replaces,
                fee_sats=version.signed.fee_sats,
                purpose=version.purpose.name,
            )


def _graph(session: Transaction) -> Graph:
    members = [OwnTx.of(row) for row in tx_store.pending(session)]
    above = {o.txid for m in members for o in m.inputs}
    return Graph(members, tx_store.standing_for(session, above))


def _package(session: Transaction, graph: Graph, root: OwnTx, policy_asset: str) -> list[Material]:
    """The package of `root`, parents first. Raises `CannotPay`."""
    available = coin_store.available_coins(session)
    top_up = [c for c in available if c.asset_id == policy_asset and c.height is not None]
    package = []
    for own in graph.package(root.txid):
        now = {graph.as_it_stands(o) for o in own.inputs}
        if coin_store.bound_outpoints(session, now, but_by=own.txid):
            raise CannotPay("another of ours spends what it spends by now")
        coins = coin_store.coins_of(session, {own.txid, *(o.txid for o in now)})
        versions = {v.txid for v in family_with(session, own.txid)}
        by_outpoint = {c.outpoint: c for c in coins}
        scripts = withdrawals.scripts_of(session, own.family)
        material = Material(own, by_outpoint, swaps_of(session, own), top_up, versions, scripts)
        package.append(material)
    return package
