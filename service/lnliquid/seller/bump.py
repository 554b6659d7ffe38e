"""Fee bumping: a package of ours that stays unconfirmed is replaced by one that pays more.

A package is a transaction with all of ours that build on it. Its root is replaced (BIP125) by one
that spends the same inputs and makes the same outputs, but for the L-BTC that returns to the
wallet, which pays. What was built on it is signed again on the new outputs: an older version of a
child needs an older version of its parent, so of each family one version at most can confirm.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace

import structlog

from lnliquid.crashpoints import reach
from lnliquid.errors import BackendError
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.ports import Chain
from lnliquid.seller import journal
from lnliquid.seller.following import TipMoved
from lnliquid.seller.funder import fee_rate
from lnliquid.seller.inventory import NEXT_INDEX, Inventory
from lnliquid.seller.journal import JournalFailure, RescueJournal
from lnliquid.seller.notices import Notices
from lnliquid.seller.outbox import Outbox, keep_deposit
from lnliquid.seller.package import Graph, Member
from lnliquid.seller.refund_gate import RefundGate
from lnliquid.seller.replacement import (
    INCREMENT_SATS_PER_KVB,
    CannotPay,
    Material,
    Replacement,
    sign_again,
)
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.coins import CoinsGone
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.swap import Coin, InvoiceMark, Outpoint, State, Swap, Tip

log = structlog.get_logger()

RATE_FACTOR = 1.5
MAX_RAISES = 8
"""Times that a root which the node refuses for its fee is raised at once."""


def was_shown(swap: Swap) -> bool:
    """True when a buyer may act on this funding: no other version is made in its place."""
    return swap.state is not State.CREATED or swap.invoice_mark is not InvoiceMark.NONE


class Bumper:
    """Replaces fundings, lanes and refunds that wait too long for a block."""

    def __init__(
        self,
        database: Database,
        chain: Chain,
        inventory: Inventory,
        outbox: Outbox,
        rescue: RescueJournal,
        keys: Keychain,
        settings: Settings,
        notices: Notices,
    ) -> None:
        self._database = database
        self._chain = chain
        self._inventory = inventory
        self._outbox = outbox
        self._rescue = rescue
        self._keys = keys
        self._settings = settings
        self._notices = notices

    async def bump_stuck(self, tip: Tip, unconfirmed: AbstractSet[str], gate: RefundGate) -> None:
        """Raise the packages of all that is stuck, or that a node refused for its fee.

        `unconfirmed` are those that were found in no block under this tip. What could not be read
        may be in one, whatever is stored of it, and its replacement would never come to be.
        """
        limit = tip.height - self._settings.bump_after_blocks
        known = set(unconfirmed)
        for _ in range(MAX_RAISES):
            underpaid, self._outbox.underpaid = self._outbox.underpaid, set()
            async with self._inventory.spending:
                graph = await self._graph()
                stuck = [
                    m.txid
                    for m in graph.members.values()
                    if m.txid in known and (m.signed_height <= limit or m.txid in underpaid)
                ]
                for root in graph.roots(stuck):
                    if root.purpose is Purpose.DEPOSIT or root.txid in graph.stranded:
                        continue  # a higher fee of ours would not bring it back
                    known |= await self._raise(graph, root, tip, known, gate)
            if not self._outbox.underpaid & known:
                return

    async def _graph(self) -> Graph:
        def look(session: Transaction) -> tuple[list[Member], dict[str, str]]:
            members = [
                Member(
                    row.txid,
                    Purpose(row.purpose),
                    TxState(row.state),
                    row.raw,
                    row.fee_sats,
                    row.vsize,
                    row.signed_height,
                )
                for row in own_tx_store.pending(session)
            ]
            above = {i.outpoint.txid for m in members for i in m.parsed.inputs}
            return members, own_tx_store.standing_for(session, above)

        return Graph(*await self._database.read(look))

    async def _raise(
        self,
        graph: Graph,
        root: Member,
        tip: Tip,
        unconfirmed: AbstractSet[str],
        gate: RefundGate,
    ) -> set[str]:
        """Replace the package of `root`, or what of it can be. Returns the new versions' txids."""
        try:
            versions = await self._replace(graph, root, tip, unconfirmed, gate)
        except CannotPay as error:
            log.warning("fee cannot be raised", txid=root.txid, reason=str(error))
            raised: set[str] = set()
            for child in graph.children(root.txid):  # it pays for its parent too
                raised |= await self._raise(graph, child, tip, unconfirmed, gate)
            return raised
        except (BackendError, TipMoved, CoinsGone, JournalFailure) as error:
            log.info("fee bump is delayed", txid=root.txid, reason=str(error))
            return set()
        for version in versions:
            if await self._outbox.first_send(version.signed.txid, version.signed.raw):
                reach("bump.sent")
        return {version.signed.txid for version in versions}

    async def _replace(
        self,
        graph: Graph,
        root: Member,
        tip: Tip,
        unconfirmed: AbstractSet[str],
        gate: RefundGate,
    ) -> list[Replacement]:
        package = graph.package(root.txid)
        await self._require_replaceable(package, tip, unconfirmed, gate)
        cap = self._settings.fee_cap_sats_per_kvb
        least = root.rate + INCREMENT_SATS_PER_KVB
        if least > cap:
            raise CannotPay(f"it pays {root.rate} sat/kvB, the fee cap")
        estimate = await fee_rate(self._chain, self._settings)
        rate = min(cap, max(estimate, int(root.rate * RATE_FACTOR), least))
        evicted = sum(m.fee_sats for m in package if m.state is TxState.ACCEPTED)
        made: dict[str, Replacement] = {}
        used: set[Outpoint] = set()

        def as_it_stands(outpoint: Outpoint) -> Outpoint:
            now = graph.as_it_stands(outpoint)
            new = made.get(now.txid)
            return Outpoint(new.signed.txid, now.vout) if new is not None else now

        for member in package:
            material = await self._material(member, as_it_stands, made, used)
            version = await asyncio.to_thread(
                sign_again,
                member,
                material,
                as_it_stands,
                self._keys,
                rate_sats_per_kvb=max(rate, min(cap, member.rate)),
                evicted_sats=evicted if member is root else 0,
                cap_sats_per_kvb=cap,
            )
            made[member.txid] = version
            used |= {c.outpoint for c in version.topped_up}
        await self._store(list(made.values()), tip)
        return list(made.values())

    async def _require_replaceable(
        self, package: list[Member], tip: Tip, unconfirmed: AbstractSet[str], gate: RefundGate
    ) -> None:
        """Raises `CannotPay` when one of these must stay as it is."""
        for member in package:
            if member.txid not in unconfirmed:
                raise CannotPay("nothing is known of where it is now")
            swaps = await self._swaps(member)
            if member.purpose is Purpose.FUNDING and any(was_shown(s) for s in swaps):
                raise CannotPay("a buyer was shown this funding")
            if member.purpose is Purpose.REFUND:
                await self._require_passed(member, swaps, tip, gate)

    async def _require_passed(
        self, member: Member, swaps: list[Swap], tip: Tip, gate: RefundGate
    ) -> None:
        """Money rule 4 holds for a replacement as for the first refund."""
        versions = await self._database.read(
            lambda s: own_tx_store.versions(s, own_tx_store.family_of(s, member.txid))
        )
        ours = {row.txid for row in versions}
        passed = {
            outpoint for item in await gate.open(swaps, tip, ours) for outpoint in item.outpoints
        }
        htlcs = {o for s in swaps for o in (s.asset_outpoint, s.subsidy_outpoint)}
        wanted = {i.outpoint for i in member.parsed.inputs} & htlcs
        if not wanted <= passed:
            raise CannotPay("the gate of its refund is closed: a buyer may have claimed or paid")

    async def _swaps(self, member: Member) -> list[Swap]:
        if member.purpose is Purpose.FUNDING:
            return await self._database.read(lambda s: swap_store.funded_by(s, member.txid))
        if member.purpose is not Purpose.REFUND:
            return []
        inputs = {i.outpoint for i in member.parsed.inputs}
        found = await self._database.read(
            lambda s: swap_store.with_outputs_in(s, {o.txid for o in inputs})
        )
        return [s for s in found if inputs & {s.asset_outpoint, s.subsidy_outpoint}]

    async def _material(
        self,
        member: Member,
        as_it_stands: Callable[[Outpoint], Outpoint],
        made: dict[str, Replacement],
        used: set[Outpoint],
    ) -> Material:
        stands = {as_it_stands(i.outpoint): i.outpoint for i in member.parsed.inputs}
        wanted = {outpoint.txid for outpoint in stands}

        def look(session: Transaction) -> tuple[list[Coin], list[Coin], list[Coin]]:
            if coin_store.bound_outpoints(session, stands, but_by=member.txid):
                raise CannotPay("another of ours spends what it spends by now")
            top_up = [
                c
                for c in coin_store.available_coins(session)
                if c.asset_id == self._keys.network.policy_asset and c.height is not None
            ]
            return (
                coin_store.coins_of(session, wanted),
                coin_store.coins_of(session, {member.txid}),
                [c for c in top_up if c.outpoint not in used],
            )

        inputs, change, top_up = await self._database.read(look)
        inputs += [c for version in made.values() for c in version.change]
        return Material({c.outpoint: c for c in inputs}, change, await self._swaps(member), top_up)

    async def _journal(self, versions: list[Replacement]) -> None:
        next_change = await self._database.read(
            lambda session: coin_store.cursor(session, NEXT_INDEX[CHANGE])
        )
        lines: list[str] = []
        for version in versions:
            if version.member.purpose is Purpose.FUNDING:
                txid, raw = version.signed.txid, version.signed.raw
                swaps = await self._swaps(version.member)
                lines.append(
                    journal.tx_line(
                        txid, raw, next_change_index=next_change, replaces=version.member.txid
                    )
                )
                lines += journal.lines_of([replace(s, funding_txid=txid) for s in swaps])
        if lines:
            await asyncio.to_thread(self._rescue.append, lines)

    async def _store(self, versions: list[Replacement], tip: Tip) -> None:
        """T2 for the whole package: all of its new versions, or none."""
        reach("bump.planned")
        deposits = await self._outbox.deposits([c for v in versions for c in v.topped_up])
        await self._journal(versions)
        reach("bump.journaled")

        def write(session: Transaction) -> set[str]:
            swap_ids: set[str] = set()
            for coin, raw in deposits:
                keep_deposit(session, coin, raw, tip.height)
            for version in versions:
                old, signed = version.member.txid, version.signed
                own_tx_store.add(
                    session,
                    txid=signed.txid,
                    raw=signed.raw,
                    purpose=version.member.purpose,
                    fee_sats=signed.fee_sats,
                    vsize=signed.vsize,
                    signed_height=tip.height,
                    replaces=old,
                )
                swap_ids |= {s.swap_id for s in swap_store.funded_by(session, old)}
                own_tx_store.point_to(session, old, signed.txid)
                coin_store.bind_coins(session, version.topped_up, signed.txid)
                coin_store.bind_outpoints(session, version.outpoints, signed.txid)
                values = {c.outpoint.vout: c.value for c in version.change}
                coin_store.move_coins(session, old, signed.txid, values)
            return swap_ids

        self._notices.swaps_changed(await self._database.write(write))
        reach("bump.stored")
        for version in versions:
            log.info(
                "fee bumped",
                txid=version.signed.txid,
                replaces=version.member.txid,
                fee_sats=version.signed.fee_sats,
                purpose=version.member.purpose.name,
            )
