"""Writes that failed, by kind: the store is well again when each of these kinds can be written.

A small write succeeds where a large one finds no room, so no success of another kind counts. Of
each kind the last write that failed is kept: where nothing else tries that kind again, it is
carried out once more and rolled back.
"""

import threading
from collections.abc import Callable
from typing import Any

Work = Callable[[Any], Any]


def kind_of(work: Work) -> str:
    """Where in the program the write was made."""
    code = getattr(work, "__code__", None)
    return type(work).__qualname__ if code is None else f"{code.co_qualname}"


class WriteFailures:
    """Used by the writer's thread, read by others."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Work, str]] = {}
        self._lock = threading.Lock()

    def note(self, kind: str, work: Work, reason: str) -> None:
        """This write failed."""
        with self._lock:
            self._last[kind] = (work, reason)

    def forget(self, kind: str) -> None:
        """One of this kind succeeded."""
        if self._last:
            with self._lock:
                self._last.pop(kind, None)

    def open(self) -> dict[str, Work]:
        """The last failed write of each kind that did not succeed since."""
        with self._lock:
            return {kind: work for kind, (work, _) in self._last.items()}

    @property
    def reason(self) -> str | None:
        """Why the oldest of them failed, None when there is none."""
        with self._lock:
            return next((reason for _, reason in self._last.values()), None)
