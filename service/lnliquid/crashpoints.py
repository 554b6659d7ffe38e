"""Named points at which a test can stop the daemon dead, as a power cut would.

With `LNLIQUID_CRASH_AT=point` in the environment, or `point:n` for the n-th time, the process kills
itself with SIGKILL when it gets there: no handler runs, nothing is flushed. `*` stands for any
point. Unset, a point costs a comparison. A point that is not in the registry is an error.
"""

import os
import signal

POINTS = (
    "create.checked",  # before T1
    "create.reserved",  # T1 committed, nothing funded
    "fund.planned",  # signed, not stored
    "fund.journaled",  # in the rescue journal, not in the store
    "fund.stored",  # T2 committed, not sent
    "fund.sent",  # sent, the caller not told
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
)

VARIABLE = "LNLIQUID_CRASH_AT"

_wanted, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or "1")


def reach(point: str) -> None:
    """Mark that the program is here; die if a test asked for it."""
    global _left  # counts down over the life of the process
    if not _wanted:
        return
    if point not in POINTS:
        raise ValueError(f"crash point {point} is not registered")
    if _wanted in (point, "*"):
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
