"""Until when the ends of attempts count: a time that a pilot shares with its supervisors, renewed by its scheduler.

Who was silent for longer than the lease is taken for dead, and others have its attempts. A process that was frozen
meanwhile wakes as if nothing had been; it must look here before it records an end. Where there is no such file, as
on the machine of the queue itself, every end counts. A pilot whom its scheduler gave up for another reason, as its
engine said that it was over, finds a file of that name in its folder; so do supervisors that are left without it.
"""

import contextlib
import mmap
import os
import sys
import time
from math import inf
from pathlib import Path

from launcher.system.paths import Home

NAME = "lease"
BURIED = "buried"  # in a pilot's folder: its scheduler has given it up
_BYTES = 8
_NS = 10**9
_NEVER = (1 << 63) - 1


def now() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The shared time; one writer, the pilot."""

    def __init__(self, bytes_of: memoryview, *, shared: bool) -> None:
        """Look at eight bytes that are mapped into memory: they are read and written in one instruction.

        Args:
            bytes_of: these bytes.
            shared: they are a file's.
        """
        self._ns, self._shared = bytes_of.cast("q"), shared

    @property
    def until(self) -> float:
        """When it is over, by `now`; infinite where it never is."""
        ns = self._ns[0]
        return inf if ns == _NEVER else ns / _NS

    def is_over(self) -> bool:
        """Tell whether nothing of ours counts any more."""
        return now() >= self.until

    @property
    def is_shared(self) -> bool:
        """Whether a pilot's life decides: this is no machine of a queue."""
        return self._shared

    def end(self) -> None:
        """Let it be over now."""
        self._ns[0] = 0

    def run_until(self, until: float) -> None:
        """Let it run until a time; never shorter than it does already."""
        self._ns[0] = max(self._ns[0], _NEVER if until == inf else int(until * _NS))


def make_lease(home: Home) -> Lease:
    """Make a lease that is over, for the supervisors of a node's home.

    Raises:
        OSError: there is no room for it.
    """
    descriptor = os.open(home.folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, _BYTES)
        os.posix_fallocate(descriptor, 0, _BYTES)  # a page without room behind it would kill us
        return Lease(memoryview(mmap.mmap(descriptor, _BYTES)), shared=True)
    finally:
        os.close(descriptor)


def lease_of(home: Home) -> Lease:
    """Return the lease of a home; one without end where it has none."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(home.folder / NAME, os.O_RDWR | os.O_CLOEXEC)
        try:
            return Lease(memoryview(mmap.mmap(descriptor, _BYTES)), shared=True)
        finally:
            os.close(descriptor)
    never = bytearray(_NEVER.to_bytes(_BYTES, sys.byteorder))
    return Lease(memoryview(never), shared=False)


def is_buried(folder: Path) -> bool:
    """Tell whether the scheduler has given up the pilot of a folder."""
    try:
        return (folder / BURIED).exists()
    except OSError:
        return False
