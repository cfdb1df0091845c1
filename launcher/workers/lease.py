"""Until when the ends of attempts count: a time that a pilot shares with its supervisors, renewed by its scheduler.

Who was silent for longer than the lease is taken for dead, and others have its attempts. A process that was frozen
meanwhile wakes as if nothing had been; it must look here before it records an end. Where there is no such file, as
on the machine of the queue itself, every end counts.
"""

import contextlib
import mmap
import os
import time
from math import inf

from launcher.system.paths import Home

NAME = "lease"
_BYTES = 8
_NS = 10**9
_NEVER = (1 << 63) - 1


def now() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The shared time; one writer, the pilot."""

    def __init__(self, shared: memoryview) -> None:
        """Look at eight bytes that are mapped into memory: they are read and written in one instruction."""
        self._ns = shared.cast("q")

    @property
    def until(self) -> float:
        """When it is over, by `now`; infinite where it never is."""
        ns = self._ns[0]
        return inf if ns == _NEVER else ns / _NS

    def is_over(self) -> bool:
        """Tell whether nothing of ours counts any more."""
        return now() >= self.until

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
        return Lease(memoryview(mmap.mmap(descriptor, _BYTES)))
    finally:
        os.close(descriptor)


def lease_of(home: Home) -> Lease:
    """Return the lease of a home; one without end where it has none."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(home.folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Lease(memoryview(mmap.mmap(descriptor, _BYTES, prot=mmap.PROT_READ)))
        finally:
            os.close(descriptor)
    return Lease(memoryview(_NEVER.to_bytes(_BYTES, "little")))
