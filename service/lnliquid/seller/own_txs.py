"""Our own transactions after they were stored: seen, confirmed, sent again, or abandoned.

They are followed by family. From the commit that stored it on, a family's bytes are sent until one
version confirms; a reorg that takes that one out of the chain makes them be sent again. A family is
abandoned only when each version of it has an input that something else spends, buried, as the chain
shows at that moment, or that is of a transaction of which the same is known.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import structlog

from lnliquid.crashpoints import reach
from lnliquid.errors import BackendError
from lnliquid.liquid import tx
from lnliquid.ports import Chain, HistoryItem
from lnliquid.seller.families import Standing, Version, is_dead, is_lost, settled, stand
from lnliquid.seller.family_store import Family, abandon, settle
from lnliquid.seller.observe import REORG_BLOCKS, histories
from lnliquid.seller.outbox import Outbox
from lnliquid.store import coins as coin_store
from lnliquid.store import own_txs as own_tx_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.sqlite import Database, Transaction
from lnliquid.store.tables import OwnTxRow, Purpose, TxState
from lnliquid.swap import Outpoint, Tip

log = structlog.get_logger()

CHECKED_HEIGHT = "own_txs_checked_height"
"""Cursor: the tip at which every transaction that may still change was last looked at.

What could not be read then is marked by itself (`own_txs.set_unread`)."""

SCRIPTS_TRIED = 8
"""Scripts asked for one family before it counts as unreadable for now."""


class OwnTxs:
    """Follows families by the script of an output, the last one unless it is refused.

    Anybody can flood a script until the server refuses its history (money rule 10). The last
    output is the wallet's own as a rule; those before it pay scripts that their buyers know early.
    All versions pay the same scripts, output by output, so the history of any shows them all.
    """

    def __init__(
        self,
        database: Database,
        chain: Chain,
        outbox: Outbox,
        final_confs: int,
        may_send: Callable[[Collection[Outpoint]], bool],
    ) -> None:
        """`may_send` is asked before a refund of these HTLC outputs is sent again."""
        self._database = database
        self._chain = chain
        self._outbox = outbox
        self._final_confs = final_confs
        self._may_send = may_send
        self._scripts: dict[str, list[bytes]] = {}
        """Those that tell of a family, in the order in which they are asked for."""
        self._seen: dict[str, Tip] = {}
        """The tip under which a family was last found where it is, by the version's txid."""
        self._unconfirmed: dict[str, Tip] = {}
        """The tip under which a version that stands was last found to be in no block."""
        self._moved: dict[str, int | None] = {}

    def take_moved(self) -> dict[str, int | None]:
        """Heights, None for the mempool, of those found elsewhere than before; each told once."""
        moved, self._moved = self._moved, {}
        return moved

    def mark_stale(self, txids: Iterable[str]) -> None:
        """These are not where they were found: to be asked for again, and sent again."""
        for txid in txids:
            self._seen.pop(txid, None)

    def unconfirmed(self, tip: Tip) -> set[str]:
        """Those that were found in no block under this tip, in the mempool or nowhere.

        One whose history was refused is not among them: nothing is known of it.
        """
        return {txid for txid, at in self._unconfirmed.items() if at == tip}

    async def check(self, tip: Tip, *, mempool_too: bool = True) -> set[str]:
        """Look at every family that may still change. Returns the ids of swaps that it changed.

        One that was in a block under this very tip is not asked for again, unless it is stale;
        neither is one that was in the mempool, unless `mempool_too`: that may have forgotten it.

        Raises `BackendError` when the chain cannot be read, or there is no connection to send
        by. A broadcast that is refused or not answered in time does not end it.
        """

        def look(session: Transaction) -> tuple[int, set[str], list[OwnTxRow]]:
            # Counted from where we last looked, not from the tip: while we were away a reorg may
            # have come, and many blocks after it.
            checked = coin_store.cursor(session, CHECKED_HEIGHT)
            lowest = min(checked, tip.height) - REORG_BLOCKS
            unread = own_tx_store.unread_txids(session)
            return checked, unread, own_tx_store.moving(session, lowest)

        checked, unread_before, rows = await self._database.read(look)
        families = _by_family(rows)
        self._keep(families, tip)
        due = {
            name: versions
            for name, versions in families.items()
            if not any(
                self._seen.get(row.txid) == tip
                and not (mempool_too and row.txid in self._unconfirmed)
                for row in versions
            )
        }
        found = await self._histories(due)
        # A signed one is looked at anyway; one that is in a block must not be forgotten.
        unread = {
            row.txid
            for name, versions in due.items()
            for row in versions
            if row.state == TxState.CONFIRMED and name not in found
        }
        stands: dict[str, Standing] = {}
        for name, history in found.items():
            standing = stand(
                _versions(due[name]),
                {item.txid: item.height for item in history},
            )
            if standing is not None:
                stands[name] = standing
        changed = {n: s for n, s in stands.items() if _differs(due[n], s)}
        buried = {
            name: stands[name].current
            for name, versions in due.items()
            if len(versions) > 1 and name in stands and self._is_buried(stands[name], tip)
        }
        swaps: set[str] = set()
        if changed or buried or tip.height != checked or unread != unread_before:

            def store(session: Transaction) -> set[str]:
                moved = set[str]()
                for name, standing in changed.items():
                    moved |= settle(session, due[name], standing)
                for txid in buried.values():
                    raw = next(r.raw for r in rows if r.txid == txid)
                    spent = {i.outpoint for i in tx.parse(raw).inputs}
                    coin_store.keep_outpoints(session, txid, spent)
                own_tx_store.set_unread(session, unread)
                coin_store.set_cursor(session, CHECKED_HEIGHT, tip.height)
                buried_height = tip.height - self._final_confs + 1
                coin_store.set_cursor(session, coin_store.BURIED_HEIGHT, buried_height)
                return moved

            swaps |= await self._database.write(store)
            if changed:
                reach("own_tx.settled")
        for name, standing in stands.items():
            self._noted(due[name], standing, tip, is_changed=name in changed)
        for name, standing in stands.items():
            if standing.send:
                swaps |= await self._send_again(due[name], standing, tip)
        return swaps | await self._let_go()

    def _keep(self, families: Mapping[str, Family], tip: Tip) -> None:
        """Forget what is of families that do not move any more, and read scripts of new ones."""
        for name, versions in families.items():
            if name not in self._scripts:
                self._scripts[name] = _scripts_of(versions[0].raw)
        self._scripts = {name: self._scripts[name] for name in families}
        txids = {row.txid for versions in families.values() for row in versions}
        self._seen = {txid: at for txid, at in self._seen.items() if txid in txids}
        self._unconfirmed = dict.fromkeys(self.unconfirmed(tip), tip)

    def _is_buried(self, standing: Standing, tip: Tip) -> bool:
        height = standing.height
        return height is not None and tip.height - height + 1 >= self._final_confs

    def _noted(self, versions: Family, standing: Standing, tip: Tip, *, is_changed: bool) -> None:
        for row in versions:
            self._unconfirmed.pop(row.txid, None)
        if not standing.send:
            self._seen[standing.current] = tip  # once that is stored, and not before
        if standing.height is None:
            self._unconfirmed[standing.current] = tip
        if is_changed:
            self._moved[standing.current] = standing.height
            if len(versions) > 1:
                # Its coins were stored anew, and no news may tell what spends them.
                raw = next(row.raw for row in versions if row.txid == standing.current)
                self._chain.mark_changed(o.script_pubkey for o in tx.parse(raw).outputs)

    async def _histories(
        self, families: Mapping[str, Family]
    ) -> dict[str, tuple[HistoryItem, ...]]:
        """For each family the history of one of its scripts; none where all are refused."""
        found: dict[str, tuple[HistoryItem, ...]] = {}
        for nth in range(SCRIPTS_TRIED):
            asked = {
                name: self._scripts[name][nth]
                for name in families
                if name not in found and nth < len(self._scripts[name])
            }
            if not asked:
                break
            read, _refused = await histories(self._chain, sorted(set(asked.values())))
            for name, script in asked.items():
                if script in read:
                    found[name] = read[script]
                    self._scripts[name].remove(script)  # to be the first next time
                    self._scripts[name].insert(0, script)
        return {name: found[name] for name in families if name in found}

    async def _send_again(self, versions: Family, standing: Standing, tip: Tip) -> set[str]:
        """Send the versions, the one that stands first, until a node takes one."""
        family = versions[0].family
        rows = {row.txid: row for row in versions}
        purpose = Purpose(versions[0].purpose)
        inputs = {txid: {i.outpoint for i in tx.parse(rows[txid].raw).inputs} for txid in rows}
        spent = set[Outpoint]().union(*inputs.values())

        def look(session: Transaction) -> tuple[bool, bool]:
            now = own_tx_store.versions(session, family)
            rivals = coin_store.bound_outpoints(session, spent, but_by=standing.current)
            return any(row.state == TxState.ABANDONED for row in now), bool(rivals)

        is_abandoned, has_rival = await self._database.read(look)
        if is_abandoned:
            return set()  # with its parent, since it was looked at
        # Another of ours took what a revived one spends: that one is not to be driven out.
        may_send = purpose is not Purpose.REFUND or self._may_send(inputs[standing.current])
        if may_send and not has_rival:
            for txid in standing.send:
                answered = await self._outbox.send(txid, rows[txid].raw)
                if answered is None:
                    return set()  # not the whole server, as far as is known: the others go on
                if answered:
                    reach("own_tx.resent")
                    log.info("transaction rebroadcast", txid=txid, purpose=purpose.name)
                    if txid == standing.current:
                        return set()
                    return await self._stands_instead(versions, txid)
        dead = await self._database.read(lambda s: self._lost_inputs(s, spent, tip))
        if not is_dead([*inputs.values()], dead):
            dead |= await self._rivals(set(inputs), spent, tip)
        if not is_dead([*inputs.values()], dead):
            return set()  # a reason that can pass (fee, chain limit, missing parent): same bytes
        buried_at = tip.height - self._final_confs + 1
        swaps = await self._database.write(lambda s: abandon(s, family, buried_at))
        reach("own_tx.abandoned")
        log.warning("transaction abandoned", txid=standing.current, purpose=purpose.name)
        return swaps

    async def _stands_instead(self, versions: Family, txid: str) -> set[str]:
        """A node took this version, which was not the one that stood."""
        taken = Standing(txid, TxState.ACCEPTED, None)
        return await self._database.write(lambda session: settle(session, versions, taken))

    def _lost_inputs(self, session: Transaction, inputs: set[Outpoint], tip: Tip) -> set[Outpoint]:
        """Those of these that are of one of ours that can never be: nothing ever spends them."""
        buried_at = tip.height - self._final_confs + 1
        families = own_tx_store.families_of(session, {o.txid for o in inputs})
        lost = {t for t, rows in families.items() if is_lost(t, _versions(rows), buried_at)}
        return {o for o in inputs if o.txid in lost}

    async def _rivals(self, own: set[str], inputs: set[Outpoint], tip: Tip) -> set[Outpoint]:
        """Those of these that a transaction which is none of `own` spends, buried, read now."""
        try:
            parents = await self._chain.transactions(sorted({o.txid for o in inputs}))
            scripts = {
                tx.parse(parents[o.txid]).outputs[o.vout].script_pubkey
                for o in inputs
                if o.txid in parents
            }
            found, _refused = await histories(self._chain, sorted(scripts))
            buried = {
                item.txid
                for history in found.values()
                for item in history
                if item.txid not in own
                and item.height is not None
                and tip.height - item.height + 1 >= self._final_confs
            }
            rivals = await self._chain.transactions(sorted(buried))
            if await self._chain.tip() != tip:
                return set()
        except BackendError as error:
            log.warning("cannot look for a rival", txids=sorted(own), reason=error.message)
            return set()
        spent = {i.outpoint for raw in rivals.values() for i in tx.parse(raw).inputs}
        return inputs & spent

    async def _let_go(self) -> set[str]:
        """Free the swaps of abandoned fundings, as soon as that is safe."""
        if not await self._database.read(swap_store.held):
            return set()
        changed = await self._database.write(swap_store.let_go)
        if changed:
            log.warning("swaps lost their funding", swaps=len(changed))
        return changed


def _by_family(rows: Sequence[OwnTxRow]) -> dict[str, list[OwnTxRow]]:
    """Versions by family; a family whose standing version was stored first comes first."""
    families: defaultdict[str, list[OwnTxRow]] = defaultdict(list)
    for row in rows:
        families[row.family].append(row)
    return dict(families)


def _scripts_of(raw: bytes) -> list[bytes]:
    """The scripts that a transaction pays to, each once, from the last output to the first."""
    outputs = [o for o in tx.parse(raw).outputs if not o.is_fee]
    return list(dict.fromkeys(o.script_pubkey for o in reversed(outputs)))[:SCRIPTS_TRIED]


def _versions(family: Family) -> list[Version]:
    return [Version(row.txid, TxState(row.state), row.height) for row in family]


def _differs(family: Family, standing: Standing) -> bool:
    versions = _versions(family)
    return settled(versions, standing) != versions
