"""What the C library does with memory that is freed.

A network that runs on the CPU allocates maps of megabytes for every few images. By default glibc gives
each back to the system, and every page of the next one is a page fault and has to be zeroed.
"""

import contextlib
import ctypes

# of <malloc.h>
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

KEPT = 512 << 20  # bytes of freed memory that a process keeps
LARGEST = 32 << 20  # bytes of a block that is taken from them: the most that glibc allows


def keep_freed_memory() -> None:
    """Let this process use freed memory again; without glibc nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, KEPT)
