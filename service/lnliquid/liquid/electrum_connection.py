"""The connection to an Electrum server, made anew for as long as its owner lives.

Everything here is level, not edge: a notification only says that something may differ. The tip is
read again after each announcement and every few seconds (which also shows whether the connection is
alive). All statuses are compared again after a reconnect and after a reorg, and otherwise one after
another, slowly, so that it costs little with thousands of scripts. So a notification that is lost,
doubled or out of order costs time or a read, never a missed change.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import structlog
from aiorpcx import RPCError

from lnliquid.domain.electrum_servers import ElectrumServer, parse_servers
from lnliquid.domain.errors import BackendRejected, BackendTimeout, BackendUnavailable
from lnliquid.domain.swap import Tip
from lnliquid.liquid.electrum_pace import Pace
from lnliquid.liquid.electrum_protocol import BACKEND, clean_reason, raise_refusal, read_tip
from lnliquid.liquid.electrum_session import ConnectionLost, ElectrumSession, connect
from lnliquid.liquid.electrum_subscriptions import UNKNOWN, Watches

PROTOCOL = "1.4"
SCRIPTS_AT_ONCE = 100
RENEW_AT = 1_000
"""A connection is made anew when it has subscribed so many scripts that are not watched any more,
and more than are: servers read all of them again at each block, and 1.4 cannot unsubscribe."""
FIRST_DELAY_SECS, MAX_DELAY_SECS = 0.1, 5.0


class ElectrumConnection:
    """Connects to the first of its servers that answers, follows it, and connects again.

    `urls`: see `electrum_servers`. A new connection is tried with the preferred server first.
    `on_wake` is called in the event loop whenever there may be news: a new tip, a changed script,
    connection made, connection lost; it must not block. Each `resync_secs` every status is compared
    again, but at most one in two keepalives. Raises `ValueError` for malformed URLs.
    """

    def __init__(
        self,
        urls: str,
        *,
        deadline_secs: float = 10,
        on_wake: Callable[[], None] = lambda: None,
        keepalive_secs: float = 10,
        resync_secs: float = 300,
        log: Any = None,
    ) -> None:
        self._servers = parse_servers(urls)
        self._server = self._servers[0]
        self._deadline_secs = deadline_secs
        self._keepalive_secs = keepalive_secs
        self._resync_secs = resync_secs
        self._wake = on_wake
        self._log = log or structlog.get_logger(__name__)
        self._task: asyncio.Task[None] | None = None
        self._session: ElectrumSession | None = None
        self._newest: ElectrumSession | None = None
        """Where scripts are subscribed: `_session`, or the one that takes its place."""
        self._connected = asyncio.Event()
        self._attention = asyncio.Event()  # header announced, connection lost, work pending
        self._tip: Tip | None = None
        self._is_slow = False  # the tip was not told in time, so it may be an old one
        self._is_served = False
        """The present server, or the one tried last, was caught up with."""
        self._outages: dict[ElectrumServer, str] = {}
        """Why the servers tried since the last connection did not serve."""
        self._watches = Watches()
        self._scripts_pace = Pace(SCRIPTS_AT_ONCE)

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
            for server in self._servers:
                began, self._server, self._is_served = loop.time(), server, False
                try:
                    await self._serve_connection()
                except Exception as error:  # whatever it is, the next connection may do better
                    self._note_outage(error)
                if self._is_served and loop.time() - began > MAX_DELAY_SECS:
                    delay = FIRST_DELAY_SECS
                    break  # it did serve: begin with the preferred one again
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311  # spreads load only
            delay = min(delay * 2, MAX_DELAY_SECS)

    def _note_outage(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {clean_reason(str(error))}".removesuffix(": ")
        if reason != self._outages.get(self._server):
            self._outages[self._server] = reason
            self._log.warning("electrum disconnected", url=str(self._server), reason=reason)

    async def _serve_connection(self) -> None:
        """Connect, catch up, follow until the connection ends. Always raises."""
        try:
            while True:
                session, self._tip = await self._open()
                before, self._session = self._session, session
                self._outages.clear()
                self._is_served = True
                self._connected.set()
                self._log.info("electrum connected", url=str(self._server), height=self._tip.height)
                self._wake()
                if before is not None:
                    await before.close(force_after=1)
                await self._follow(session)
        finally:
            was_connected, last, self._tip = self.connected, self._session, None
            self._session = self._newest = None
            self._is_slow = False
            self._connected.clear()
            if last is not None:
                await last.abort()
                await last.close(force_after=1)
            if was_connected:
                self._wake()

    async def _open(self) -> tuple[ElectrumSession, Tip]:
        """A connection that has subscribed all that is watched, and the tip it began with."""
        session = await connect(
            self._server,
            on_notification=self._notified,
            on_lost=self._attention.set,
            deadline_secs=self._deadline_secs,
        )
        try:
            await self._ask(session, "server.version", "lnliquid", PROTOCOL)
            tip = await self._read_tip(session)
            self._newest = session
            self._watches.begin_connection()
            while self._watches.pending:
                await self._subscribe_pending(session)
        except BaseException:
            await session.abort()
            await session.close(force_after=1)
            raise
        return session, tip

    async def _follow(self, session: ElectrumSession) -> None:
        """Keep up with the server until another connection is to take this one's place."""
        loop = asyncio.get_running_loop()
        sweep_at = loop.time()
        while self._watches.dropped <= max(RENEW_AT, len(self._watches)):
            if not self._watches.pending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._keepalive_secs):
                        await self._attention.wait()
            self._attention.clear()
            received, is_told = session.received_bytes, False
            try:
                tip, is_told = await self._read_tip(session), True
                self._note_slow(False)
                if tip != self._tip:
                    before, self._tip = self._tip, tip
                    self._wake()
                    if before is not None and not await self._is_on_chain(session, before):
                        self._log.warning("electrum reorg", height=tip.height, was=before.height)
                        self._watches.compare_all()
                if loop.time() >= sweep_at:
                    # One at a time: the server tells what changed, this is for what it lost.
                    self._watches.compare_next()
                    share = self._resync_secs / max(1, len(self._watches))
                    sweep_at = loop.time() + max(2 * self._keepalive_secs, share)
                await self._subscribe_pending(session)
            except TimeoutError:
                if session.received_bytes == received:
                    raise  # half-open: nothing at all came back
                # Otherwise the server is slow; what is pending is tried again.
                if not is_told:
                    self._note_slow(True)

    def _note_slow(self, is_slow: bool) -> None:
        """Show no tip for as long as the server is too slow to tell it; ask again at once."""
        if is_slow:
            self._attention.set()
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            self._log.warning(
                "electrum slow" if is_slow else "electrum in time", url=str(self._server)
            )
            self._wake()

    async def _is_on_chain(self, session: ElectrumSession, block: Tip) -> bool:
        """Is this former tip still in the chain? False when that cannot be told."""
        if self._tip is None or self._tip.height <= block.height:
            return False
        try:
            method = "blockchain.block.header"
            [header] = await session.exchange(method, [(block.height,)], self._deadline_secs)
            return read_tip({"hex": header, "height": block.height}) == block
        except (TimeoutError, BackendRejected):
            return False

    def _notified(self, method: str, params: Sequence[Any]) -> None:
        if method == "blockchain.headers.subscribe":
            self._attention.set()
        elif (
            method == "blockchain.scripthash.subscribe"
            and len(params) == 2
            and self._watches.notified(str(params[0]), params[1])
        ):
            self._wake()

    async def tip(self) -> Tip:
        """See `ports.Chain`. `block_id` is the SHA256 of the serialised header, hex."""
        if self._tip is None or self._session is None:
            self._raise_unavailable()
        if self._is_slow:
            raise BackendUnavailable(BACKEND, f"{self._server} is too slow to tell its tip")
        return self._tip

    async def _read_tip(self, session: ElectrumSession) -> Tip:
        return read_tip(await self._ask(session, "blockchain.headers.subscribe"))

    async def _subscribe_pending(self, session: ElectrumSession) -> None:
        await self._subscribe(session, self._watches.next_pending(self._scripts_pace.at_once))

    async def _subscribe(self, session: ElectrumSession, scripthashes: Sequence[str]) -> None:
        """Subscribe (again) and compare statuses. Raises `TimeoutError` and `ConnectionLost`."""
        answers = await self._exchange(
            session,
            "blockchain.scripthash.subscribe",
            [(h,) for h in scripthashes],
            self._scripts_pace,
        )
        news = False
        for scripthash, answer in zip(scripthashes, answers, strict=True):
            if isinstance(answer, RPCError):
                # Too long a history, perhaps. One script must not stop the others (money rule 10):
                # whoever reads it gets the error, and the next resync tries it again.
                self._log.warning(
                    "script not subscribed",
                    scripthash=scripthash,
                    reason=clean_reason(answer.message),
                )
                answer = UNKNOWN
            news |= self._watches.answered(scripthash, answer)
        if news:
            self._wake()

    def _raise_unavailable(self) -> NoReturn:
        told = [f"{server} ({self._outages[server]})" for server in self._outages]
        raise BackendUnavailable(BACKEND, f"not connected to {', '.join(told) or self._server}")

    def _live(self) -> ElectrumSession:
        if self._session is None:
            self._raise_unavailable()
        return self._session

    async def _ask(self, session: ElectrumSession, method: str, *arguments: Any) -> Any:
        [answer] = await session.exchange(method, [arguments], self._deadline_secs)
        raise_refusal(method, answer)
        return answer

    async def _ask_all(
        self, method: str, argument_lists: Sequence[Sequence[Any]], pace: Pace
    ) -> list[Any]:
        """Read requests in chunks; refusals stay in the list as `RPCError`."""
        answers: list[Any] = []
        while len(answers) < len(argument_lists):
            chunk = argument_lists[len(answers) :][: pace.at_once]
            try:
                answers += await self._exchange(self._live(), method, chunk, pace)
            except ConnectionLost:
                raise BackendUnavailable(BACKEND, f"connection lost during {method}") from None
            except TimeoutError:
                raise BackendTimeout(
                    BACKEND, f"no answer to {method} in {self._deadline_secs:g} s"
                ) from None
        return answers

    async def _exchange(
        self,
        session: ElectrumSession,
        method: str,
        argument_lists: Sequence[Sequence[Any]],
        pace: Pace,
    ) -> list[Any]:
        """One chunk. Raises `ConnectionLost`, and `TimeoutError`: then the next is smaller."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answers = await session.exchange(method, argument_lists, self._deadline_secs)
        except TimeoutError:
            pace.timed_out(len(argument_lists))
            raise
        pace.answered(len(argument_lists), loop.time() - began, self._deadline_secs)
        return answers
