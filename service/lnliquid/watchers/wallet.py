"""Keeps the stored coins what the chain shows of the wallet's addresses.

Watched are: every receive address up to a gap behind the last used one, every change address that
holds a coin or held one until lately, and a gap of fresh ones, so that a wallet restored from its
mnemonic finds itself. Other change addresses are not watched any more, as after a restart: a
payment to one of those by mistake is not found.
"""

import asyncio
from collections.abc import Collection, Sequence

from lnliquid.domain import htlc
from lnliquid.domain.ports import Chain
from lnliquid.domain.swap import Outpoint
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.store import coins as coin_store
from lnliquid.store.coins import SeenCoin
from lnliquid.store.database import Database, Transaction
from lnliquid.watchers.backoff import Backoff
from lnliquid.watchers.chain_view import read_scripts
from lnliquid.watchers.observe import REORG_BLOCKS, ScriptHistory
from lnliquid.watchers.work import Work

GAP = 20
"""Unused addresses that are looked at behind the last used one (as in BIP44)."""

NEXT_INDEX = {RECEIVE: "next_receive_index", CHANGE: "next_change_index"}


class Inventory:
    """The wallet's addresses under watch."""

    def __init__(self, database: Database, chain: Chain, keys: Keychain) -> None:
        self._database = database
        self._chain = chain
        self._keys = keys
        self._addresses: dict[bytes, tuple[int, int]] = {}
        """The watched ones by script."""
        self._scripts: dict[tuple[int, int], bytes] = {}
        """The same by address."""
        self.backoff = Backoff()
        """Of what the server refuses, and of all that the watcher tries again."""
        self.work = Work()
        """What watcher and funder do not get done."""
        self.synced = False
        """True once the watcher has gone through all that is stored and all watched addresses.

        Until then nothing can be promised.
        """
        self.spending = asyncio.Lock()
        """Held from choosing coins and change addresses until they are stored as taken."""

    async def extend(self) -> list[bytes]:
        """Watch all addresses that are to be watched and are not yet.

        Returns the scripts of those that need not be watched any more.
        """

        def look(session: Transaction) -> set[tuple[int, int]]:
            ends = {b: coin_store.cursor(session, name) + GAP for b, name in NEXT_INDEX.items()}
            start = max(0, ends[CHANGE] - 2 * GAP)
            fresh = [(RECEIVE, i) for i in range(ends[RECEIVE])]
            fresh += [(CHANGE, i) for i in range(start, ends[CHANGE])]
            recent = coin_store.last_spent_height(session) - REORG_BLOCKS
            return {*coin_store.addresses_with_coins(session, recent), *fresh}

        wanted = await self._database.read(look)
        new = {
            htlc.p2wpkh_script(self._keys.wallet_key(*address).key_hash): address
            for address in sorted(wanted - self._scripts.keys())
        }
        if new:
            await self._chain.watch(new)
            self._addresses.update(new)
            self._scripts.update({address: script for script, address in new.items()})
        return [self._scripts[address] for address in self._scripts.keys() - wanted]

    def _unwatch(self, scripts: Sequence[bytes]) -> None:
        self._chain.unwatch(scripts)
        for script in scripts:
            del self._scripts[self._addresses.pop(script)]
            self.backoff.forget(script)

    async def read(self, scripts: Sequence[bytes]) -> None:
        """Read the history of these watched addresses and store what it says.

        An address that the server refuses (too long a history) keeps its coins as they were and is
        read again later; the others are not held up.
        """
        found, refused = await read_scripts(self._chain, scripts)

        def store(session: Transaction) -> None:
            for script, seen in found.items():
                branch, index = self._addresses[script]
                coin_store.replace_script_coins(
                    session, branch, index, coins_of_script(script, seen)
                )
                name = NEXT_INDEX[branch]
                if seen.items and index >= coin_store.cursor(session, name):
                    coin_store.set_cursor(session, name, index + 1)

        await self._database.write(store)
        for script, reason in refused.items():
            self.backoff.add(script, "address put aside", script=script.hex(), reason=reason)
        for script in found:
            self.backoff.forget(script)

    def read_again(self, addresses: Collection[tuple[int, int]]) -> None:
        """Read these addresses (branch, index) though nothing may tell that they changed."""
        self._chain.mark_changed(s for s, own in self._addresses.items() if own in addresses)

    async def sync(self, changed: set[bytes]) -> set[bytes]:
        """Read every changed address, and go on while that brings new ones into the gap.

        Returns the scripts of `changed` that are not the wallet's. When it raises, all of
        `changed` counts as changed again.
        """
        others: set[bytes] = set()
        todo = changed | (self._addresses.keys() & self.backoff.due())
        try:
            while True:
                over = await self.extend()
                todo |= self._chain.take_changed()
                if not todo:
                    break
                mine = {script for script in todo if script in self._addresses}
                others |= todo - mine
                if mine:
                    await self.read(sorted(mine))
                todo = set()
            self._unwatch(over)  # only now: none of them has news that were not read
        except BaseException:
            self._chain.mark_changed(changed | others | todo)
            raise
        return others


def coins_of_script(script: bytes, seen: ScriptHistory) -> list[SeenCoin]:
    """Explicit outputs to `script` in its history, each with the transaction that spends it."""
    heights = seen.heights
    made = {
        Outpoint(txid, vout): output
        for txid in heights
        for vout, output in enumerate(seen.transactions[txid].outputs)
        if output.script_pubkey == script
    }
    spends = {o: (item.txid, item.height) for o, (item, _) in seen.spends(made).items()}
    return [
        SeenCoin(
            outpoint,
            output.asset_id,
            output.value,
            heights[outpoint.txid],
            *spends.get(outpoint, (None, None)),
        )
        for outpoint, output in made.items()
        if output.asset_id is not None and output.value is not None
    ]
