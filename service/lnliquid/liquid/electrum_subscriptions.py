"""The scripts that an Electrum client follows: their statuses, which have news, which to ask for.

No I/O. A status is the server's hash over the whole history of a script (protocol 1.4).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from lnliquid.domain.htlc import electrum_scripthash
from lnliquid.domain.ports import ExpectedHistories
from lnliquid.liquid.electrum_protocol import status_of

UNKNOWN = "?"
"""In place of a status: whatever is reported next is news."""


@dataclass(slots=True)
class _Watch:
    """A script and the status last reported for it, UNKNOWN when a read contradicts it."""

    script: bytes
    status: str | None = UNKNOWN
    is_guess: bool = False
    """The status follows from what the caller expects, and the server has not been asked yet."""


class Watches:
    """Watched scripts by script hash."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}
        self.pending: set[str] = set()
        """Script hashes to subscribe, or to compare again."""
        self._changed: set[bytes] = set()
        self._sweep: deque[str] = deque()
        self.dropped = 0
        """Scripts forgotten since a connection was last made."""

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, scripts: Iterable[bytes]) -> list[str]:
        """Take in those that are new; they are pending and changed. Returns their hashes."""
        expected = scripts if isinstance(scripts, ExpectedHistories) else {}
        new: dict[str, _Watch] = {}
        for script in scripts:
            scripthash = electrum_scripthash(script)
            if scripthash not in self._watches:
                watch = _Watch(script)
                if history := expected.get(script):
                    watch.status, watch.is_guess = status_of(history), True
                new[scripthash] = self._watches[scripthash] = watch
        self.pending.update(new)
        self._changed.update(watch.script for watch in new.values())
        return list(new)

    def drop(self, scripts: Iterable[bytes]) -> None:
        """Forget these."""
        for script in scripts:
            scripthash = electrum_scripthash(script)
            self.dropped += self._watches.pop(scripthash, None) is not None
            self.pending.discard(scripthash)
            self._changed.discard(script)

    def take_changed(self) -> set[bytes]:
        """Scripts with news; from now on they have none."""
        changed, self._changed = self._changed, set()
        return changed

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """Say that these have news, as far as they are watched."""
        self._changed.update(s for s in scripts if electrum_scripthash(s) in self._watches)

    def begin_connection(self) -> None:
        """A connection that has subscribed nothing."""
        self.dropped = 0
        self.compare_all()

    def compare_all(self) -> None:
        """Every status is to be asked for again."""
        self.pending = set(self._watches)

    def compare_next(self) -> None:
        """One more status is to be asked for again; each has its turn."""
        while self._sweep:
            scripthash = self._sweep.popleft()
            if scripthash in self._watches:
                self.pending.add(scripthash)
                return
        self._sweep.extend(self._watches)

    def next_pending(self, count: int) -> list[str]:
        """So many of those that are pending, at most."""
        return list(islice(self.pending, count))

    def notified(self, scripthash: str, status: str | None) -> bool:
        """The server announced a status. True when that is news."""
        watch = self._watches.get(scripthash)
        if watch is None or watch.status == status:
            return False
        watch.status = status
        self._changed.add(watch.script)
        return True

    def answered(self, scripthash: str, status: str | None) -> bool:
        """The server was asked for a status, UNKNOWN when it refused. True when that is news."""
        self.pending.discard(scripthash)
        watch = self._watches.get(scripthash)
        if watch is None:
            return False
        was_guess, watch.is_guess = watch.is_guess, False
        if watch.status == status != UNKNOWN:
            if was_guess:  # what was expected is so: no news after all
                self._changed.discard(watch.script)
            return False
        watch.status = status
        self._changed.add(watch.script)
        return True

    def was_read(self, scripthash: str, status: str | None) -> None:
        """A history with this status was read.

        If it is not what was last reported, then that one, reported again, is a change for whoever
        has read this.
        """
        watch = self._watches.get(scripthash)
        if watch is not None and watch.status != status:
            watch.status = UNKNOWN
