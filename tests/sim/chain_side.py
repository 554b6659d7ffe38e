"""The daemon's view of the chain: `SimChain` fits `ports.Chain` as the Electrum client does.

A notification may be lost, late or doubled; a reconnect or a resync compares all statuses again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lnlab.nodes.embedded.chain import ChainEvent, Rejected
from lnlab.nodes.embedded.txmodel import electrum_scripthash
from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.ports import HistoryItem
from lnliquid.domain.swap import Tip

from .clockwork import Chance, Life
from .coverage import Coverage
from .ground import Ground, parsed

BACKEND = "electrum"
WATCHER = "watcher"
"""Name of the task in whose reads the world may move."""
ALREADY_THERE = ("Transaction already in block chain", "txn-already-known")

UNCONFIRMED = 10**6

Status = tuple[tuple[str, int], ...] | None


@dataclass
class Server:
    """The Electrum server and its faults; it lives on when the daemon dies.

    `behind` is the height that it has caught up to, None when it is up to date; it then shows
    neither later blocks nor the mempool. `stale_tip`: it tells this tip though it knows better.
    """

    up: bool = True
    behind: int | None = None
    stale_tip: Tip | None = None
    refused: set[bytes] = field(default_factory=set)
    withheld: set[str] = field(default_factory=set)
    trouble: float = 0.0
    """How likely a single call is to go wrong."""
    lies: dict[str, int | None] = field(default_factory=dict)
    """Transactions that it leaves out of histories (None), or shows so many blocks above where
    they are, or in the mempool (`UNCONFIRMED`)."""
    lied: set[str] = field(default_factory=set)
    """Transactions of which the daemon may still believe a lie."""

    def heal(self) -> None:
        """No faults any more."""
        self.up, self.behind, self.stale_tip, self.trouble = True, None, None, 0.0
        self.refused.clear()
        self.withheld.clear()
        self.lies.clear()


@dataclass
class _Watch:
    script: bytes
    status: Status = ()
    """As last told; the empty tuple is no status that a server tells."""


class SimChain:
    """A client of the server for one life of the daemon.

    `meddle` may move the world before and after a read of the watcher is answered; `broadcasting`
    looks at every transaction before it is sent.
    """

    def __init__(
        self,
        ground: Ground,
        server: Server,
        chance: Chance,
        life: Life,
        meddle: Callable[[str], None],
        broadcasting: Callable[[bytes], None],
        coverage: Coverage,
    ) -> None:
        self._ground = ground
        self._server = server
        self._chance = chance
        self._life = life
        self._meddle = meddle
        self._broadcasting = broadcasting
        self._coverage = coverage
        self._watches: dict[str, _Watch] = {}
        self._changed: set[bytes] = set()
        self.late: list[str] = []
        """Script hashes whose notification is under way."""
        self.disconnect = ground.chain.subscribe(self._heard)

    # ---- notifications

    def _heard(self, event: ChainEvent) -> None:
        server = self._server
        if event.kind == "reorg":  # a server that sees a reorg has caught up with the chain
            server.behind = server.stale_tip = None
        if not server.up or server.behind is not None:
            return
        for scripthash in sorted(event.scripthashes & self._watches.keys()):
            luck = self._chance.number("notice", event.kind)
            if luck < 0.12:
                continue  # lost
            if luck < 0.24:
                self.late.append(scripthash)
                if luck < 0.2:
                    continue
            self._notify(scripthash)

    def _notify(self, scripthash: str) -> None:
        watch = self._watches.get(scripthash)
        if watch is not None:
            watch.status = self._status(scripthash)
            self._changed.add(watch.script)

    def deliver_late(self) -> None:
        """Notifications that were under way arrive; some say what was told before."""
        late, self.late = self.late, []
        for scripthash in late:
            self._notify(scripthash)

    def resync(self) -> None:
        """Compare every status again, as after a reconnect and every few minutes."""
        if not self._server.up:
            return
        for scripthash, watch in self._watches.items():
            status = self._status(scripthash)
            if status != watch.status:
                watch.status = status
                self._changed.add(watch.script)

    def _status(self, scripthash: str) -> Status:
        items = self._items(scripthash)
        return tuple((i.txid, i.height or 0) for i in items) or None

    def _items(self, scripthash: str) -> tuple[HistoryItem, ...]:
        behind = self._server.behind
        found = self._ground.chain.history(scripthash)
        if behind is not None:
            found = [i for i in found if 0 < i.height <= behind]
        items = (HistoryItem(i.txid, i.height if i.height > 0 else None) for i in found)
        return tuple(item for item in map(self._told, items) if item is not None)

    def _told(self, item: HistoryItem) -> HistoryItem | None:
        """What the server makes of an item."""
        lie = self._server.lies.get(item.txid, 0)
        if lie is None:
            return None
        if not lie or item.height is None:
            return item
        return HistoryItem(item.txid, None if lie == UNCONFIRMED else item.height + lie)

    # ---- calls

    async def _call(self, method: str) -> None:
        """What every call goes through. Raises `BackendError` kinds and `Crash`."""
        await self._life.pause("chain", method)
        self._moves_on(method)
        if not self._server.up:
            raise BackendUnavailable(BACKEND, "not connected")
        if self._chance.happens(self._server.trouble, "trouble", method):
            if self._chance.happens(0.5, "kind", method):
                raise BackendUnavailable(BACKEND, f"connection lost during {method}")
            self._coverage.everywhere("electrum timeout")
            raise BackendTimeout(BACKEND, f"no answer to {method}")

    def _moves_on(self, when: str) -> None:
        """While the watcher reads, the world may move; it must notice by the tip."""
        task = asyncio.current_task()
        if task is not None and task.get_name() == WATCHER:
            self._meddle(when)

    async def tip(self) -> Tip:
        """See `ports.Chain`."""
        await self._call("tip")
        server, chain = self._server, self._ground.chain
        if server.behind is not None:
            return self._ground.tip_at(server.behind)
        return server.stale_tip or self._ground.tip_at(chain.tip_height)

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Succeeds without a connection; the next one subscribes."""
        self._life.require()
        for script in scripts:
            if self._watches.setdefault(electrum_scripthash(script), _Watch(script)).status == ():
                self._changed.add(script)

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        for script in scripts:
            self._watches.pop(electrum_scripthash(script), None)
            self._changed.discard(script)

    def take_changed(self) -> set[bytes]:
        """See `ports.Chain`."""
        changed, self._changed = self._changed, set()
        return changed

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`."""
        self._changed.update(s for s in scripts if electrum_scripthash(s) in self._watches)

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """See `ports.Chain`."""
        await self._call("histories")
        if self._server.refused & set(scripts):
            raise BackendRejected(BACKEND, "history too long")
        result: dict[bytes, tuple[HistoryItem, ...]] = {}
        for script in scripts:
            scripthash = electrum_scripthash(script)
            result[script] = self._items(scripthash)
            watch = self._watches.get(scripthash)
            if watch is not None and watch.status != self._status(scripthash):
                watch.status = ()
        self._moves_on("histories answered")
        return result

    async def transactions(self, txids: Sequence[str], *, strict: bool = False) -> dict[str, bytes]:
        """See `ports.Chain`."""
        await self._call("transactions")
        found: dict[str, bytes] = {}
        for txid in txids:
            known = None if txid in self._server.withheld else self._ground.find(txid)
            if known is not None:
                found[txid] = known[0].raw
            elif txid in self._ground.minted:
                found[txid] = self._ground.minted[txid]
        return found

    async def block_ids(self, heights: Sequence[int]) -> dict[int, str]:
        """See `ports.Chain`."""
        await self._call("block_ids")
        chain, behind = self._ground.chain, self._server.behind
        top = chain.tip_height if behind is None else behind
        if max(heights, default=0) > top:
            raise BackendRejected(BACKEND, "missing header")
        return {h: chain.block_hash(h) for h in heights}

    async def broadcast(self, raw: bytes) -> None:
        """See `ports.Chain`."""
        await self._life.pause("chain", "broadcast")
        self._broadcasting(raw)
        if not self._server.up:
            raise BackendUnavailable(BACKEND, "not connected")
        trouble = self._chance.happens(self._server.trouble, "trouble", "broadcast")
        reaches = not trouble or self._chance.happens(0.5, "reaches", "broadcast")
        if reaches:
            self._submit(raw)
        await self._life.pause("chain", "broadcast answered")
        if trouble:
            self._coverage.own("broadcast timeout", parsed(raw).txid)
            raise BackendTimeout(BACKEND, "no answer to a broadcast; it may be sent")

    def _submit(self, raw: bytes) -> None:
        try:
            txid = self._ground.chain.submit(raw)
        except Rejected as refusal:
            if refusal.code in ALREADY_THERE:
                return
            self._coverage.own("broadcast refused", parsed(raw).txid)
            raise BackendRejected(BACKEND, refusal.reason, -26) from None
        if self._chance.happens(self._server.trouble / 2, "forgotten"):
            self._ground.forget(txid)

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """See `ports.Chain`."""
        await self._life.pause("chain", "fee rate")
        if not self._server.up:
            raise BackendUnavailable(BACKEND, "not connected")
        luck = self._chance.number("fee rate", target_blocks)
        if luck < 0.4:
            return None
        if luck < 0.45:
            raise BackendRejected(BACKEND, "no estimate")
        return 100 + int(luck * 700)
