"""What holds for all tests: where their files are, how often Python looks for garbage, fresh seeds.

Thousands of tests open a database each, and one flush to a slow disk for each commit is most of
what some of them wait for. None is about the disk itself, so their files are in memory where the
system has room there, unless TMPDIR says where; labs are kept on the disk.
"""

import gc
import os
import random
import shutil
from pathlib import Path

from lnliquid.cli import GARBAGE_THRESHOLD

MEMORY = Path("/dev/shm")
ROOM_BYTES = 1 << 30


def is_fit(directory: Path) -> bool:
    """True when there is room, and what is put there may be started as a program."""
    if not directory.is_dir() or os.statvfs(directory).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(directory).free > ROOM_BYTES


if "TMPDIR" not in os.environ and is_fit(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # pytest's own name for it
gc.set_threshold(GARBAGE_THRESHOLD)  # as in the programs themselves
os.environ.setdefault("SIM_SEED", str(random.randrange(10**6, 10**9)))  # workers inherit it


def pytest_report_header() -> str:
    """The first of the seeds that only this run plays."""
    return f"simulation: fresh seeds from SIM_SEED={os.environ['SIM_SEED']}"
