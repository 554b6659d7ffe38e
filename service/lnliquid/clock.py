"""The machine's clock, the only one of the service."""

import time


class SystemClock:
    """`ports.Clock`."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())
