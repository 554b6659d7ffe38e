"""Our own transactions after they were stored: seen, confirmed, sent again, or abandoned.

They are followed by family. From the commit that stored it on, a family's bytes are sent until one
version confirms; a reorg that takes that one out of the chain makes them be sent again. A family is
abandoned only when each version of it has an input that something else spends, buried, as the chain
shows at that moment, or that is of a transaction of which the same is known.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from lnliquid.crashpoints import reach
from lnliquid.domain.errors import BackendError
from lnliquid.domain.ports import Chain, HistoryItem
from lnliquid.domain.swap import Outpoint, Swap, Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import Purpose, TxState
from lnliquid.watchers.chain_view import TipMoved, histories, read_scripts, require_tip
from lnliquid.watchers.families import OwnTx, Standing, is_dead, settled, stand
from lnliquid.watchers.family_store import (
    Family,
    abandon,
    family_with,
    lost_inputs,
    moving_families,
    settle,
    swaps_of,
)
from lnliquid.watchers.observe import REORG_BLOCKS
from lnliquid.watchers.outbox import Outbox

log = structlog.get_logger()

CHECKED_HEIGHT = "own_txs_checked_height"
"""Cursor: the tip at which every transaction that may still change was last looked at.

What could not be read then is marked by itself (`transactions.set_unread`)."""

SCRIPTS_TRIED = 8
"""Scripts asked for one family before it counts as unreadable for now."""


@dataclass(eq=False)
class TransactionTracker:
    """Follows families by the script of an output, the last one unless it is refused.

    Anybody can flood a script until the server refuses its history (money rule 10). The last
    output is the wallet's own as a rule; those before it pay scripts that their buyers know early.
    All versions pay the same scripts, output by output, so the history of any shows them all.
    `may_send` is asked before a refund of these swaps, of these HTLC outputs, is sent again.
    """

    database: Database
    chain: Chain
    outbox: Outbox
    final_confs: int
    may_send: Callable[[Sequence[Swap], Collection[Outpoint]], bool]
    _scripts: dict[str, list[bytes]] = field(default_factory=dict, init=False)
    """Those that tell of a family, in the order in which they are asked for."""
    _found: dict[str, tuple[Tip, Standing]] = field(default_factory=dict, init=False)
    """By the txid of the version that stands: where it was last found, and under which tip."""
    _moved: dict[str, int | None] = field(default_factory=dict, init=False)

    def take_moved(self) -> dict[str, int | None]:
        """Heights, None for the mempool, of those found elsewhere than before; each told once."""
        moved, self._moved = self._moved, {}
        return moved

    def mark_stale(self, txids: Iterable[str]) -> None:
        """These are not where they were found: to be asked for again, and sent again."""
        for txid in txids:
            self._found.pop(txid, None)

    def unconfirmed(self, tip: Tip) -> set[str]:
        """Those that were found in no block under this tip, in the mempool or nowhere.

        One whose history was refused is not among them: nothing is known of it.
        """
        found = self._found.items()
        return {txid for txid, (at, standing) in found if at == tip and standing.height is None}

    async def check(self, tip: Tip, *, mempool_too: bool = True) -> set[str]:
        """Look at every family that may still change. Returns the ids of swaps that it changed.

        One that was in a block under this very tip is not asked for again, unless it is stale;
        neither is one that was in the mempool, unless `mempool_too`: that may have forgotten it.

        Raises `BackendError` when the chain cannot be read, or there is no connection to send
        by. A broadcast that is refused or not answered in time does not end it.
        """

        def look(session: Transaction) -> tuple[tuple[int, int], set[str], dict[str, Family]]:
            # Counted from where we last looked, not from the tip: while we were away a reorg may
            # have come, and many blocks after it.
            checked = coin_store.cursor(session, CHECKED_HEIGHT)
            lowest = min(checked, tip.height) - REORG_BLOCKS
            # What was not buried then is looked at until it is, whatever `final_confs` is now.
            buried = coin_store.cursor(session, coin_store.BURIED_HEIGHT, lowest)
            families = moving_families(session, min(lowest, buried))
            return (checked, buried), tx_store.unread_txids(session), families

        heights_before, unread_before, families = await self.database.read(look)
        self._forget_all_but(families)
        due = {
            name: versions
            for name, versions in families.items()
            if not any(self._is_known(v.txid, tip, mempool_too) for v in versions)
        }
        found = await self._histories(due)
        # A signed one is looked at anyway; one that is in a block must not be forgotten.
        unread = {
            v.txid
            for name in due.keys() - found.keys()
            for v in due[name]
            if v.state is TxState.CONFIRMED
        }
        stands: dict[str, Standing] = {}
        for name, history in found.items():
            standing = stand(due[name], {item.txid: item.height for item in history})
            if standing is not None:
                stands[name] = standing
        changed = {n: s for n, s in stands.items() if settled(due[n], s) != due[n]}
        buried_at = tip.height - self.final_confs + 1
        buried = [
            next(v for v in due[name] if v.txid == standing.current)
            for name, standing in stands.items()
            if len(due[name]) > 1 and standing.height is not None and standing.height <= buried_at
        ]
        swaps: set[str] = set()
        heights = (tip.height, buried_at)
        if changed or buried or heights != heights_before or unread != unread_before:

            def store(session: Transaction) -> set[str]:
                moved = set[str]().union(*(settle(session, due[n], s) for n, s in changed.items()))
                for version in buried:
                    coin_store.keep_outpoints(session, version.txid, version.inputs)
                tx_store.set_unread(session, unread)
                coin_store.set_cursor(session, CHECKED_HEIGHT, tip.height)
                coin_store.set_cursor(session, coin_store.BURIED_HEIGHT, buried_at)
                return moved

            swaps |= await self.database.write(store)
            if changed:
                reach("own_tx.settled")
        for name, standing in stands.items():
            self._note(due[name], standing, tip, is_changed=name in changed)
        for name, standing in stands.items():
            if standing.send:
                swaps |= await self._send_again(due[name], standing, tip)
        return swaps | await self._fail_held()

    def _forget_all_but(self, families: Mapping[str, Family]) -> None:
        """Keep what is known of these, which may still change, and read scripts of new ones."""
        self._scripts = {
            name: self._scripts.get(name) or _scripts_of(versions[0])
            for name, versions in families.items()
        }
        txids = {v.txid for versions in families.values() for v in versions}
        self._found = {txid: found for txid, found in self._found.items() if txid in txids}

    def _is_known(self, txid: str, tip: Tip, mempool_too: bool) -> bool:
        at, standing = self._found.get(txid, (None, None))
        return (
            standing is not None
            and at == tip
            and not standing.send
            and not (mempool_too and standing.height is None)
        )

    def _note(self, versions: Family, standing: Standing, tip: Tip, *, is_changed: bool) -> None:
        """Remember where it is, once that is stored and not before."""
        for version in versions:
            self._found.pop(version.txid, None)
        self._found[standing.current] = (tip, standing)
        if is_changed:
            self._moved[standing.current] = standing.height
            if len(versions) > 1:
                # Its coins were stored anew, and no news may tell what spends them.
                current = next(v for v in versions if v.txid == standing.current)
                self.chain.mark_changed(o.script_pubkey for o in current.parsed.outputs)

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
            read, _refused = await histories(self.chain, sorted(set(asked.values())))
            for name, script in asked.items():
                if script in read:
                    found[name] = read[script]
                    self._scripts[name].remove(script)  # to be the first next time
                    self._scripts[name].insert(0, script)
        return {name: found[name] for name in families if name in found}

    async def _send_again(self, versions: Family, standing: Standing, tip: Tip) -> set[str]:
        """Send the versions, the one that stands first, until a node takes one."""
        by_txid = {v.txid: v for v in versions}
        current = by_txid[standing.current]
        spent = set[Outpoint]().union(*(v.inputs for v in versions))

        def look(session: Transaction) -> tuple[bool, bool, list[Swap], bool]:
            now = family_with(session, current.txid)
            is_abandoned = any(v.state is TxState.ABANDONED for v in now)
            rivals = coin_store.bound_outpoints(session, spent, but_by=current.txid)
            is_copied = self.database.is_on_replica(session)
            return is_abandoned, bool(rivals), swaps_of(session, current), is_copied

        is_abandoned, has_rival, swaps, is_copied = await self.database.read(look)
        if is_abandoned:
            return set()  # with its parent, since it was looked at
        may_send = True
        if current.purpose is Purpose.REFUND:
            may_send = self.may_send(swaps, current.inputs)
        elif current.purpose is not Purpose.DEPOSIT:
            may_send = is_copied
        # Another of ours took what a revived one spends: that one is not to be driven out.
        if may_send and not has_rival:
            for txid in standing.send:
                answered = await self.outbox.send(txid, by_txid[txid].raw)
                if answered is None:
                    return set()  # not the whole server, as far as is known: the others go on
                if answered:
                    reach("own_tx.resent")
                    log.info("transaction rebroadcast", txid=txid, purpose=current.purpose.name)
                    if txid == current.txid:
                        return set()
                    return await self._stands_instead(versions, txid)
        buried_at = tip.height - self.final_confs + 1
        inputs = [v.inputs for v in versions]
        dead = await self.database.read(lambda s: lost_inputs(s, versions, buried_at))
        if not is_dead(inputs, dead):
            dead |= await self._rivals(by_txid.keys(), spent, tip)
        if not is_dead(inputs, dead):
            return set()  # a reason that can pass (fee, chain limit, missing parent): same bytes
        changed = await self.database.write(lambda s: abandon(s, current.txid, buried_at))
        reach("own_tx.abandoned")
        log.warning("transaction abandoned", txid=current.txid, purpose=current.purpose.name)
        return changed

    async def _stands_instead(self, versions: Family, txid: str) -> set[str]:
        """A node took this version, which was not the one that stood."""
        taken = Standing(txid, TxState.ACCEPTED, None)
        return await self.database.write(lambda session: settle(session, versions, taken))

    async def _rivals(self, own: Collection[str], spent: set[Outpoint], tip: Tip) -> set[Outpoint]:
        """Those of these that a transaction which is none of `own` spends, buried, read now."""
        try:
            parents = await self.chain.transactions(sorted({o.txid for o in spent}))
            made = {txid: parse_transaction(raw).outputs for txid, raw in parents.items()}
            scripts = {made[o.txid][o.vout].script_pubkey for o in spent if o.txid in made}
            found, _refused = await read_scripts(self.chain, sorted(scripts), own)
            await require_tip(self.chain, tip)
        except (BackendError, TipMoved) as error:
            log.warning("cannot look for a rival", txids=sorted(own), reason=str(error))
            return set()
        buried_at = tip.height - self.final_confs + 1
        return {
            outpoint
            for seen in found.values()
            for outpoint, (item, _) in seen.spends(spent).items()
            if item.txid not in own and item.height is not None and item.height <= buried_at
        }

    async def _fail_held(self) -> set[str]:
        """Fail the swaps of abandoned fundings, as soon as that is safe."""
        if not await self.database.read(swap_store.held):
            return set()
        changed = await self.database.write(swap_store.fail_held)
        if changed:
            log.warning("swaps lost their funding", swaps=len(changed))
        return changed


def _scripts_of(version: OwnTx) -> list[bytes]:
    """The scripts that a transaction pays to, each once, from the last output to the first."""
    outputs = [o for o in version.parsed.outputs if not o.is_fee]
    return list(dict.fromkeys(o.script_pubkey for o in reversed(outputs)))[:SCRIPTS_TRIED]
