"""What holds for all tests: where their files are, and how often Python looks for garbage.

Thousands of tests open a database each, and one flush to a slow disk for each commit is most of
what some of them wait for. None is about the disk itself, so their files are in memory where the
system has room there; labs are kept on the disk.
"""

import gc
import os
import shutil
from pathlib import Path

from lnliquid.cli import GARBAGE_THRESHOLD

MEMORY = Path("/dev/shm")
ROOM_BYTES = 1 << 30

if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # pytest's own name for it
gc.set_threshold(GARBAGE_THRESHOLD)  # as in the programs themselves
