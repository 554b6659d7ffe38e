"""The same trouble again and again: said a few times, then counted, then said to be over."""

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

SAID = 3
"""How often the same line is written before it is counted."""
OVER_SECS = 60.0
"""A trouble that was not met for this long is over."""
SUMMARY_SECS = 600.0
"""How often one that goes on is said with its count."""
MAX_KINDS = 5_000
"""Troubles that are told apart at a time; further ones are written as they come."""
LEVELS = {"warning", "error"}
CHANGES = {"not ready"}
"""Lines that say a change, each of which counts."""
VARYING = {"attempts", "retry_secs", "secs", "log_id", "timestamp", "age_secs"}


@dataclass
class _Trouble:
    line: dict[str, Any]
    times: int
    met_at: float
    told_at: float


class Repeats:
    """A processor for `structlog`. `flush` is to be called about once a second."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._troubles: dict[tuple[str, ...], _Trouble] = {}

    def __call__(
        self, _logger: Any, _method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The line, with its count where it stands for several. Raises `DropEvent`."""
        if line.get("level") not in LEVELS or line.get("event") in CHANGES or "times" in line:
            return line
        now, key = self._now(), _key(line)
        trouble = self._troubles.get(key)
        if trouble is None or now - trouble.met_at > OVER_SECS:
            if len(self._troubles) < MAX_KINDS:
                kept = {name: value for name, value in line.items() if name not in VARYING}
                kept.pop("exc_info", None)
                self._troubles[key] = _Trouble(kept, 1, now, now)
            return line
        trouble.times += 1
        trouble.met_at = now
        if trouble.times <= SAID:
            return line
        if now - trouble.told_at < SUMMARY_SECS:
            raise structlog.DropEvent
        trouble.told_at = now
        line["times"] = trouble.times
        return line

    def flush(self, log: Any) -> None:
        """Say of each trouble that is over how often it was met, and forget it."""
        now = self._now()
        over = [key for key, one in self._troubles.items() if now - one.met_at > OVER_SECS]
        for key in over:
            trouble = self._troubles.pop(key)
            if trouble.times > SAID:
                told = trouble.line
                values = {k: v for k, v in told.items() if k not in ("event", "level")}
                log.warning("trouble over", trouble=told["event"], **values, times=trouble.times)


def _key(line: MutableMapping[str, Any]) -> tuple[str, ...]:
    values = (f"{name}={_text(value)}" for name, value in sorted(line.items()))
    return tuple(text for text in values if text.partition("=")[0] not in VARYING)


def _text(value: Any) -> str:
    """Of an error its kind and place, which are the same each time."""
    if isinstance(value, BaseException):
        frame = value.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        return f"{type(value).__name__} {frame.tb_frame.f_code.co_filename if frame else ''}"
    return str(value)


REPEATS = Repeats()
"""That of the process's log."""
