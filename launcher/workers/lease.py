"""Until when the ends of attempts count: a time that a pilot shares with its supervisors, renewed by its scheduler.

Who was silent for longer than the lease is taken for dead, and others have its attempts. A process that was frozen
meanwhile wakes as if nothing had been; it must look here before it records an end. Where there is no such file, as
on the machine of the queue itself, every end counts. A pilot whom its scheduler gave up for another reason, as its
engine said that it was over, finds that in its folder, and so do its supervisors: they end what runs, within its
grace, and record that it is over. The scheduler waits for that record, or for as long as that may take at most.
"""

import contextlib
import mmap
import os
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from launcher.system.files import read_bytes
from launcher.system.paths import Home

LEASE_FILE = "lease"
ABANDONED_FILE = "buried"  # in a pilot's folder: empty until its scheduler has given it up
# between two looks at it by a supervisor: with its pilot, without
ABANDON_POLL_S, UNSUPERVISED_POLL_S = 5.0, 1.0
# for the kill after the grace, for what a program leaves behind (2 s, 5 s where that hangs in the kernel), and for a
# node that is busy
KILL_TIME_S = 10.0
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
    descriptor = os.open(home.folder / LEASE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, _BYTES)
        os.posix_fallocate(descriptor, 0, _BYTES)  # a page without room behind it would kill us
        return Lease(memoryview(mmap.mmap(descriptor, _BYTES)), shared=True)
    finally:
        os.close(descriptor)


def lease_of(home: Home) -> Lease:
    """Return the lease of a home; one without end where it has none."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(home.folder / LEASE_FILE, os.O_RDWR | os.O_CLOEXEC)
        try:
            return Lease(memoryview(mmap.mmap(descriptor, _BYTES)), shared=True)
        finally:
            os.close(descriptor)
    never = bytearray(_NEVER.to_bytes(_BYTES, sys.byteorder))
    return Lease(memoryview(never), shared=False)


def is_abandoned(folder: Path) -> bool:
    """Tell whether the scheduler has given up the pilot of a folder.

    The file is there from the start: on a network file system, a new name may be missed for half a minute, and what
    was written to a file is seen by whoever opens it afterwards.

    Raises:
        OSError: that cannot be read now.
    """
    return bool(read_bytes(folder / ABANDONED_FILE))


def longest_shutdown_s(grace_s: float) -> float:
    """Return how long after its pilot was given up nothing of an attempt lives, whatever its program does.

    Args:
        grace_s: of its job, from SIGTERM to SIGKILL.
    """
    return max(grace_s, ABANDON_POLL_S) + KILL_TIME_S


class AbandonWatch:
    """What a supervisor knows of whether the scheduler has given up the pilot of its attempt.

    A node may have been frozen, or cut off, between two looks. So the grace runs from the last look that found nothing:
    the scheduler's clock started later. Who wakes after that ends what runs at once.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = now) -> None:
        """Begin without having looked.

        Args:
            folder: the pilot's.
            clock: seconds; it goes on while the machine is suspended.
        """
        self._folder, self._clock = folder, clock
        self._last_clear_at = clock()
        self._polled_at = 0.0
        self.is_abandoned = False  # it was given up

    @property
    def since_clear_s(self) -> float:
        """So many seconds ago it was not given up yet."""
        return self._clock() - self._last_clear_at

    def next_poll_s(self, *, pilot_dead: bool) -> float:
        """Return how long until the next look.

        Args:
            pilot_dead: the pilot is dead.
        """
        due_at = self._polled_at + self._poll_interval_s(pilot_dead)
        return inf if self.is_abandoned else max(0.0, due_at - self._clock())

    def poll(self, *, pilot_dead: bool, at_once: bool = False) -> bool:
        """Look where that is due; return whether it was given up."""
        at = self._clock()
        if not self.is_abandoned and (
            at_once or at >= self._polled_at + self._poll_interval_s(pilot_dead)
        ):
            self._polled_at = at
            with contextlib.suppress(OSError):  # then it is not known whether it was
                self.is_abandoned = is_abandoned(self._folder)
                self._last_clear_at = self._last_clear_at if self.is_abandoned else at
        return self.is_abandoned

    @staticmethod
    def _poll_interval_s(pilot_dead: bool) -> float:
        return UNSUPERVISED_POLL_S if pilot_dead else ABANDON_POLL_S
