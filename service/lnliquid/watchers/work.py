"""Which background work does not get done: what fails again and again stops new swaps."""

import re
from dataclasses import dataclass, field

FAILURES = 3
"""Failures in a row for one reason that are no accident any more."""

_DIFFERS = re.compile(r"[0-9a-f]{8,}|[0-9]+")
"""Ids, heights and amounts: what differs from one failure to the next of the same reason."""


@dataclass
class _Row:
    reason: str
    failures: int = 0
    keys: set[str] = field(default_factory=set)


class Work:
    """Failures in a row of each kind of work, by its name for people ("funding")."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._held: dict[str, str] = {}

    def failed(self, name: str, reason: str, key: str = "") -> None:
        """It failed, for the swap `key` if there is one; another reason begins another row."""
        row = self._rows.get(name)
        if row is None or _DIFFERS.sub("", row.reason) != _DIFFERS.sub("", reason):
            row = self._rows[name] = _Row(reason)
        row.failures += 1
        row.keys.add(key)

    def done(self, name: str) -> None:
        """It succeeded."""
        self._rows.pop(name, None)

    def forget(self, key: str) -> None:
        """Nothing is to be done for this swap any more."""
        for name, row in [*self._rows.items()]:
            row.keys.discard(key)
            if not row.keys:
                del self._rows[name]

    def hold(self, name: str, reason: str | None) -> None:
        """It cannot be done for this reason, known at the first failure; None: it can."""
        if reason is None:
            self._held.pop(name, None)
        else:
            self._held[name] = reason

    @property
    def problem(self) -> str | None:
        """What does not get done and why, None when all does."""
        for name, reason in self._held.items():
            return f"{name} cannot be done: {reason}"
        for name, row in self._rows.items():
            if row.failures >= FAILURES:
                return f"{name} fails again and again: {row.reason}"
        return None
