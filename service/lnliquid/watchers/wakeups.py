"""Who wants to hear of changes inside the process. Notices only wake; the store holds the truth."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable


class Notices:
    """Wakes the watcher, and whoever waits for a swap to change."""

    def __init__(self) -> None:
        self.watcher = asyncio.Event()
        """Set when the watcher should look again."""
        self.caught_up = asyncio.Event()
        """Set once the watcher has read everything after the start."""
        self._creating = 0
        self.none_creating = asyncio.Event()
        """Set while no call of CreateSwap may reserve in a moment; a funding waits for those."""
        self.none_creating.set()
        self.news: set[str] = set()
        """Swaps changed by others than the watcher since it last looked."""
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def wake_watcher(self) -> None:
        """Something may have happened on the chain or in Lightning."""
        self.watcher.set()

    def swaps_changed(self, swap_ids: Iterable[str]) -> None:
        """Stored swaps changed: wake those who wait for them, and the watcher."""
        for swap_id in swap_ids:
            self.news.add(swap_id)
            for event in self._waiting.get(swap_id, ()):
                event.set()
        self.watcher.set()

    def begin_creating(self) -> None:
        """A request is on its way to T1."""
        self._creating += 1
        self.none_creating.clear()

    def end_creating(self) -> None:
        """It got there, or was refused."""
        self._creating -= 1
        if not self._creating:
            self.none_creating.set()

    def subscribe(self, swap_id: str) -> asyncio.Event:
        """An event that is set at each change of this swap; give it back with `unsubscribe`."""
        event = asyncio.Event()
        self._waiting[swap_id].add(event)
        return event

    def unsubscribe(self, swap_id: str, event: asyncio.Event) -> None:
        """Stop listening."""
        self._waiting[swap_id].discard(event)
        if not self._waiting[swap_id]:
            del self._waiting[swap_id]
