"""Named points at which a test can stop the daemon dead, as a power cut would.

With `LNLIQUID_CRASH_AT=point` in the environment, or `point:n` for the n-th time, the process kills
itself with SIGKILL when it gets there: no handler runs, nothing is flushed. `*` stands for any
point. A test in the same process gets a call at each point instead, by `observed`. With neither, a
point costs a comparison. A point that is not in the registry is an error.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

POINTS = (
    "commit.ready",  # a group of writes is carried out, nothing of it committed
    "commit.stored",  # the database has it, its replica not
    "commit.copied",  # both have it, nobody is told
    "create.checked",  # before T1
    "create.reserved",  # T1 committed, nothing funded
    "fund.planned",  # signed, not stored
    "fund.stored",  # T2 committed, not sent
    "fund.sent",  # sent, the caller not told
    "lanes.planned",  # coins are rearranged: signed, not stored
    "lanes.stored",  # stored, not sent
    "lanes.sent",  # sent
    "watch.read",  # the chain was read, nothing decided
    "watch.saved",  # a new state was committed, its actions not begun
    "invoice.made",  # Lightning has the invoice, the store has not
    "invoice.stored",  # the store has it too
    "claim.saved",  # CLAIMED was committed
    "finish.saved",  # the swap is final
    "invoice.dropped",  # Lightning deleted the invoice, the store still has it
    "refund.planned",  # a refund is signed, not stored
    "refund.stored",  # stored, not sent
    "refund.sent",  # sent
    "withdraw.planned",  # a withdrawal is signed, not stored
    "withdraw.stored",  # stored, not sent
    "withdraw.sent",  # sent, the operator not told
    "bump.planned",  # a package is signed at a higher fee, not stored
    "bump.stored",  # stored, the older versions replaced, nothing sent
    "bump.sent",  # one of the package was sent
    "own_tx.settled",  # where a family stands now was committed, its version and block
    "own_tx.resent",  # stored bytes were sent again, the answer committed
    "own_tx.abandoned",  # a family was abandoned, its coins and swaps are free
)

VARIABLE = "LNLIQUID_CRASH_AT"

Hook = Callable[[str], None]
"""Called with the name of a point; what it raises ends what the program was doing."""


def _killing(wanted: str) -> Hook | None:
    """Kills the process at the wanted point; None when there is none."""
    name, _, count = wanted.partition(":")
    left = int(count or "1")

    def kill(point: str) -> None:
        nonlocal left
        if name in (point, "*"):
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return kill if name else None


_hook = _killing(os.environ.get(VARIABLE, ""))


@contextlib.contextmanager
def observed(hook: Hook) -> Iterator[None]:
    """Call `hook` at each point that is reached meanwhile."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def reach(point: str) -> None:
    """Mark that the program is here; die if a test asked for it."""
    if _hook is None:
        return
    if point not in POINTS:
        raise ValueError(f"crash point {point} is not registered")
    _hook(point)
