"""File descriptors of the process: as many as the system allows, some of them not for clients."""

import contextlib
import resource

RESERVE = 256
"""Descriptors that no connection of a client may take: files, nodes, and their reconnects."""
MAX_CONNECTIONS = 8_192
"""Connections of one listener; each costs memory."""
MIN_CONNECTIONS = 16
MOST = 1 << 20
"""Descriptors that are asked for where the system sets no limit."""


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one. Returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST if soft == resource.RLIM_INFINITY else soft
    with contextlib.suppress(OSError, ValueError):  # refused: what there is has to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections(listeners: int = 2) -> int:
    """How many connections each of so many listeners may have, with the limit as it is now."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    free = MOST if limit == resource.RLIM_INFINITY else limit - RESERVE
    return max(MIN_CONNECTIONS, min(free // listeners, MAX_CONNECTIONS))
