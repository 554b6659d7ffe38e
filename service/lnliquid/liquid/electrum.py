"""The Liquid chain over the Electrum protocol 1.4: `ElectrumChain` fits `ports.Chain`.

Everything here is level, not edge: a notification only says that something may differ. The tip is
read again after each announcement and every few seconds (which also shows whether the connection is
alive); all statuses are compared again after a reconnect and every few minutes, so a notification
that is lost, doubled or out of order costs time or a read, never a missed change.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn
from urllib.parse import urlsplit

import structlog
from aiorpcx import RPCError

from lnliquid.errors import BackendTimeout, BackendUnavailable
from lnliquid.liquid.electrum_answers import (
    ALREADY_THERE,
    BACKEND,
    NOT_FOUND,
    TransactionCache,
    clean_reason,
    is_refusal,
    raise_refusal,
    read_history,
    read_tip,
    read_transaction,
)
from lnliquid.liquid.electrum_session import BUSY_CODES, ConnectionLost, ElectrumSession, connect
from lnliquid.liquid.htlc import electrum_scripthash
from lnliquid.ports import HistoryItem
from lnliquid.swap import Tip

PROTOCOL = "1.4"
SCRIPTS_AT_ONCE = 100
TRANSACTIONS_AT_ONCE = 25
CACHE_BYTES = 16_000_000
FIRST_DELAY_SECS, MAX_DELAY_SECS = 0.1, 5.0

UNKNOWN = "?"
"""In place of a status: whatever is reported next is news."""


@dataclass(slots=True)
class _Watch:
    """A watched script and the status last reported for it, UNKNOWN when a read contradicts it."""

    script: bytes
    status: str | None = UNKNOWN


class ElectrumChain:
    """Client of one Electrum server that reconnects for as long as it lives.

    `url` is `tcp://host:port`. `on_wake` is called in the event loop whenever there may be news: a
    new tip, a changed script, connection made, connection lost; it must not block.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_secs: float = 10,
        on_wake: Callable[[], None] = lambda: None,
        keepalive_secs: float = 10,
        resync_secs: float = 300,
        log: Any = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "tcp" or not parts.hostname or not parts.port:
            raise ValueError(f"Electrum URL {url!r} is not of the form tcp://host:port")
        self._url, self._host, self._port = url, parts.hostname, parts.port
        self._deadline_secs = deadline_secs
        self._keepalive_secs = keepalive_secs
        self._resync_secs = resync_secs
        self._wake = on_wake
        self._log = log or structlog.get_logger(__name__)
        self._task: asyncio.Task[None] | None = None
        self._session: ElectrumSession | None = None
        self._connected = asyncio.Event()
        self._attention = asyncio.Event()  # header announced, connection lost, work pending
        self._tip: Tip | None = None
        self._last_error: str | None = None
        self._watches: dict[str, _Watch] = {}
        self._pending: set[str] = set()  # script hashes to subscribe on this connection
        self._changed: set[bytes] = set()
        self._cache = TransactionCache(CACHE_BYTES)

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin connecting, in the background; the server need not be up."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="electrum")

    async def close(self) -> None:
        """Disconnect and stay so."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def connected(self) -> bool:
        """True when greeted, the tip is known and every watched script is subscribed."""
        return self._connected.is_set()

    async def wait_connected(self, timeout_secs: float) -> None:
        """Return once connected. Raises `BackendUnavailable` when it takes longer than that."""
        try:
            async with asyncio.timeout(timeout_secs):
                await self._connected.wait()
        except TimeoutError:
            self._raise_unavailable()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY_SECS
        while True:
            began = loop.time()
            try:
                await self._serve_connection()
            except Exception as error:  # whatever it is, the next connection may do better
                self._note_outage(error)
            if loop.time() - began > MAX_DELAY_SECS:
                delay = FIRST_DELAY_SECS
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311  # spreads load only
            delay = min(delay * 2, MAX_DELAY_SECS)

    def _note_outage(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {clean_reason(str(error))}".removesuffix(": ")
        if reason != self._last_error:
            self._last_error = reason
            self._log.warning("electrum_disconnected", url=self._url, reason=reason)

    async def _serve_connection(self) -> None:
        """Connect, catch up, follow until the connection ends. Always raises."""
        session = await connect(
            self._host,
            self._port,
            on_notification=self._notified,
            on_lost=self._attention.set,
            deadline_secs=self._deadline_secs,
        )
        try:
            await self._ask(session, "server.version", "lnliquid", PROTOCOL)
            self._tip = await self._read_tip(session)
            self._pending = set(self._watches)
            while self._pending:
                await self._subscribe_pending(session)
            self._session, self._last_error = session, None
            self._connected.set()
            self._log.info("electrum_connected", url=self._url, height=self._tip.height)
            self._wake()
            await self._follow(session)
        finally:
            was_connected, self._session, self._tip = self.connected, None, None
            self._connected.clear()
            await session.abort()
            await session.close(force_after=1)
            if was_connected:
                self._wake()

    async def _follow(self, session: ElectrumSession) -> None:
        loop = asyncio.get_running_loop()
        resync_at = loop.time() + self._resync_secs
        while True:
            if not self._pending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._keepalive_secs):
                        await self._attention.wait()
            self._attention.clear()
            received = session.received_bytes
            try:
                tip = await self._read_tip(session)
                if tip != self._tip:
                    self._tip = tip
                    self._wake()
                if loop.time() >= resync_at:
                    resync_at = loop.time() + self._resync_secs
                    self._pending = set(self._watches)
                await self._subscribe_pending(session)
            except TimeoutError:
                if session.received_bytes == received:
                    raise  # half-open: nothing at all came back
                # Otherwise the server is slow; what is pending is tried again.

    def _notified(self, method: str, params: Sequence[Any]) -> None:
        if method == "blockchain.headers.subscribe":
            self._attention.set()
        elif method == "blockchain.scripthash.subscribe" and len(params) == 2:
            watch = self._watches.get(str(params[0]))
            if watch is not None and params[1] != watch.status:
                watch.status = params[1]
                self._changed.add(watch.script)
                self._wake()

    # -- tip and scripts ------------------------------------------------------------------------

    async def tip(self) -> Tip:
        """See `ports.Chain`. `block_id` is the SHA256 of the serialised header, hex."""
        if self._tip is None or self._session is None:
            self._raise_unavailable()
        return self._tip

    async def _read_tip(self, session: ElectrumSession) -> Tip:
        return read_tip(await self._ask(session, "blockchain.headers.subscribe"))

    async def watch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Without a connection it succeeds too: the next one subscribes."""
        new: dict[str, _Watch] = {}
        for script in scripts:
            scripthash = electrum_scripthash(script)
            if scripthash not in self._watches:
                new[scripthash] = self._watches[scripthash] = _Watch(script)
        self._pending.update(new)
        self._changed.update(watch.script for watch in new.values())
        wanted = list(new)
        try:
            while wanted and self._session is not None:
                await self._subscribe(self._session, wanted[:SCRIPTS_AT_ONCE])
                del wanted[:SCRIPTS_AT_ONCE]
        except (ConnectionLost, TimeoutError):
            self._attention.set()  # still pending; the connection's own task goes on with it

    def unwatch(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Protocol 1.4 cannot unsubscribe: later notifications are ignored."""
        for script in scripts:
            scripthash = electrum_scripthash(script)
            self._watches.pop(scripthash, None)
            self._pending.discard(scripthash)
            self._changed.discard(script)

    def take_changed(self) -> set[bytes]:
        """See `ports.Chain`."""
        changed, self._changed = self._changed, set()
        return changed

    def mark_changed(self, scripts: Iterable[bytes]) -> None:
        """See `ports.Chain`. Scripts that are no longer watched are left out."""
        self._changed.update(s for s in scripts if electrum_scripthash(s) in self._watches)

    async def _subscribe_pending(self, session: ElectrumSession) -> None:
        await self._subscribe(session, list(islice(self._pending, SCRIPTS_AT_ONCE)))

    async def _subscribe(self, session: ElectrumSession, scripthashes: Sequence[str]) -> None:
        """Subscribe (again) and compare statuses. Raises `TimeoutError` and `ConnectionLost`."""
        answers = await session.exchange(
            "blockchain.scripthash.subscribe", [(h,) for h in scripthashes], self._deadline_secs
        )
        news = False
        for scripthash, answer in zip(scripthashes, answers, strict=True):
            self._pending.discard(scripthash)
            watch = self._watches.get(scripthash)
            if watch is None:
                continue
            if isinstance(answer, RPCError):
                # Too long a history, perhaps. One script must not stop the others (money rule 10):
                # whoever reads it gets the error, and the next resync tries it again.
                self._log.warning(
                    "electrum_not_subscribed",
                    scripthash=scripthash,
                    reason=clean_reason(answer.message),
                )
                answer = UNKNOWN
            elif answer == watch.status:
                continue
            watch.status = answer
            self._changed.add(watch.script)
            news = True
        if news:
            self._wake()

    async def histories(self, scripts: Sequence[bytes]) -> dict[bytes, tuple[HistoryItem, ...]]:
        """See `ports.Chain`. `BackendRejected` when the server refuses one of the scripts."""
        method = "blockchain.scripthash.get_history"
        wanted = {electrum_scripthash(script): script for script in scripts}
        answers = await self._ask_all(method, [(h,) for h in wanted], SCRIPTS_AT_ONCE)
        result: dict[bytes, tuple[HistoryItem, ...]] = {}
        for (scripthash, script), answer in zip(wanted.items(), answers, strict=True):
            raise_refusal(f"history of {scripthash}", answer)
            result[script], status = read_history(answer)
            watch = self._watches.get(scripthash)
            if watch is not None and watch.status != status:
                # What was read is not what was last reported. Should that old status be reported
                # again, it is a change for whoever has read this.
                watch.status = UNKNOWN
        return result

    # -- transactions ---------------------------------------------------------------------------

    async def transactions(self, txids: Sequence[str]) -> dict[str, bytes]:
        """See `ports.Chain`."""
        method = "blockchain.transaction.get"
        found = {txid: raw for txid in txids if (raw := self._cache.get(txid)) is not None}
        missing = [txid for txid in dict.fromkeys(txids) if txid not in found]
        answers = await self._ask_all(method, [(t,) for t in missing], TRANSACTIONS_AT_ONCE)
        for txid, answer in zip(missing, answers, strict=True):
            if is_refusal(answer, NOT_FOUND):
                continue
            raise_refusal(method, answer)
            raw = read_transaction(txid, answer)
            self._cache.put(txid, raw)
            found[txid] = raw
            await asyncio.sleep(0)  # hashing a large transaction takes some 10 ms
        return found

    async def broadcast(self, raw: bytes) -> None:
        """See `ports.Chain`."""
        method = "blockchain.transaction.broadcast"
        session = self._live()
        try:
            [answer] = await session.exchange(method, [(raw.hex(),)], self._deadline_secs)
        except (ConnectionLost, TimeoutError):
            raise BackendTimeout(BACKEND, "no answer to a broadcast; it may be sent") from None
        if isinstance(answer, RPCError) and answer.code in BUSY_CODES:
            raise BackendTimeout(BACKEND, "server busy during a broadcast; it may be sent")
        if not is_refusal(answer, ALREADY_THERE):
            raise_refusal(method, answer)

    async def fee_rate_sats_per_kvb(self, target_blocks: int) -> int | None:
        """See `ports.Chain`. A refusal counts as having none, as electrs refuses then."""
        [answer] = await self._ask_all("blockchain.estimatefee", [(target_blocks,)], 1)
        if isinstance(answer, (int, float)) and 0 < answer < 1:  # L-BTC per kvB; -1 for none
            return max(1, round(answer * 100_000_000))
        return None

    # -- calls ----------------------------------------------------------------------------------

    def _raise_unavailable(self) -> NoReturn:
        why = f" ({self._last_error})" if self._last_error else ""
        raise BackendUnavailable(BACKEND, f"not connected to {self._url}{why}")

    def _live(self) -> ElectrumSession:
        if self._session is None:
            self._raise_unavailable()
        return self._session

    async def _ask(self, session: ElectrumSession, method: str, *arguments: Any) -> Any:
        [answer] = await session.exchange(method, [arguments], self._deadline_secs)
        raise_refusal(method, answer)
        return answer

    async def _ask_all(
        self, method: str, argument_lists: Sequence[Sequence[Any]], at_once: int
    ) -> list[Any]:
        """Read requests in chunks; refusals stay in the list as `RPCError`."""
        answers: list[Any] = []
        for start in range(0, len(argument_lists), at_once):
            chunk = argument_lists[start : start + at_once]
            try:
                answers += await self._live().exchange(method, chunk, self._deadline_secs)
            except ConnectionLost:
                raise BackendUnavailable(BACKEND, f"connection lost during {method}") from None
            except TimeoutError:
                raise BackendTimeout(
                    BACKEND, f"no answer to {method} in {self._deadline_secs:g} s"
                ) from None
        return answers
