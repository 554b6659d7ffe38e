"""The two nodes as their calls go: each call is timed and its failure kept, then passed on."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar, cast

from lnliquid.domain.errors import BackendError, BackendRejected, BackendTimeout
from lnliquid.domain.ports import Clock, NodeInfo
from lnliquid.domain.swap import Tip
from lnliquid.metrics.instruments import Instruments

Port = TypeVar("Port")
Answer = TypeVar("Answer")

RECENT_CALLS = 100
NOT_COUNTED = {"tip"}
"""Answered from memory: no call goes out."""
NOT_TIMED = {"wait_paid"}
"""Long by its nature."""


class Backend:
    """The record of one node since the daemon was started. Lags are of a monotonic clock.

    `answers_are_news`: the lag is since the last answer, and not since the last higher tip.
    """

    def __init__(
        self,
        name: str,
        instruments: Instruments,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        answers_are_news: bool = False,
    ) -> None:
        self.name = name
        self.is_up = False
        self.height = 0
        self.calls = 0
        self.errors = 0
        self.last_error = ""
        self.last_error_at = 0
        self._instruments = instruments
        self._clock = clock
        self._monotonic = monotonic
        self._answers_are_news = answers_are_news
        self._best = -1
        self._fresh_at = monotonic()
        self._recent: deque[float] = deque(maxlen=RECENT_CALLS)
        for kind in ("unavailable", "timeout", "rejected"):
            instruments.backend_errors.labels(name, kind)  # shown as 0 from the start

    @property
    def lag_secs(self) -> float:
        """Seconds since the node showed something new."""
        return self._monotonic() - self._fresh_at

    @property
    def mean_call_ms(self) -> float:
        """Mean time of the last calls, 0 before the first."""
        return 1000 * sum(self._recent) / len(self._recent) if self._recent else 0.0

    async def observe(self, method: str, call: Awaitable[Answer]) -> Answer:
        """Await a call of the port's `method` and keep its outcome. Raises what the call raises."""
        is_counted = method not in NOT_COUNTED
        began = self._monotonic()
        self.calls += is_counted
        try:
            answer = await call
        except BackendError as error:
            self._failed(error, is_counted=is_counted)
            raise
        if is_counted and method not in NOT_TIMED:
            secs = self._monotonic() - began
            self._recent.append(secs)
            self._instruments.call_secs.labels(self.name).observe(secs)
        self.is_up = True
        if isinstance(answer, NodeInfo):
            self.height = answer.block_height
        if isinstance(answer, Tip):
            self.height = answer.height
        if self._answers_are_news or self.height > self._best:
            self._best = self.height
            self._fresh_at = self._monotonic()
        return answer

    def _failed(self, error: BackendError, *, is_counted: bool) -> None:
        """Keep what went wrong. A node that answers with an error is up."""
        self.is_up = isinstance(error, BackendRejected)
        if not self.is_up:
            self.last_error, self.last_error_at = error.message, self._clock.now()
        elif self._answers_are_news:
            self._fresh_at = self._monotonic()
        if is_counted:
            self.errors += not self.is_up
            self._instruments.backend_errors.labels(self.name, _kind(error)).inc()


def _kind(error: BackendError) -> str:
    if isinstance(error, BackendRejected):
        return "rejected"
    return "timeout" if isinstance(error, BackendTimeout) else "unavailable"


class _Observed:
    def __init__(self, node: Any, record: Backend) -> None:
        self._node = node
        self._record = record

    def __getattr__(self, name: str) -> Any:
        method, record = getattr(self._node, name), self._record

        def call(*arguments: Any, **named: Any) -> Any:
            answer = method(*arguments, **named)
            return record.observe(name, answer) if isawaitable(answer) else answer

        return call


def observed(node: Port, record: Backend) -> Port:
    """The same port; each of its calls is kept in the record."""
    return cast(Port, _Observed(node, record))
