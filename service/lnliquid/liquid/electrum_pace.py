"""How many requests go out at once: a chunk that a slow server cannot answer in time is halved.

Without that a chunk that once timed out would time out again in every round, for ever.
"""


class Pace:
    """The size of the next chunk, between 1 and `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.at_once = most

    def timed_out(self, size: int) -> None:
        """A chunk of this size had no whole answer at its deadline."""
        self.at_once = max(1, min(self.at_once, size // 2))

    def answered(self, size: int, took_secs: float, deadline_secs: float) -> None:
        """A chunk was answered. Twice as much is tried if that fits well into the deadline."""
        if size == self.at_once and took_secs < deadline_secs / 4:
            self.at_once = min(self._most, 2 * self.at_once)
