"""The time until which the ends of attempts count; a pilot shares it with its supervisors, its scheduler renews it.

A pilot that was silent for longer than the lease counts as dead, and its attempts are given to others. A process that
was frozen meanwhile wakes without noticing it. So it must check the lease before it records an end. If there is no
lease file, as on the machine of the queue itself, every end counts.

A scheduler may abandon a pilot for another reason, for example because its engine reported its end. The pilot and its
supervisors find that in the pilot's folder. They end the running programs within their grace period and record it. The
scheduler waits for that record, or for the longest time that this may take.
"""

import contextlib
import mmap
import os
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from launcher.queue.home.paths import Home
from launcher.system.files import read_bytes

LEASE_FILE = "lease"
ABANDONED_FILE = "buried"  # in a pilot's folder; empty until its scheduler abandons it
# seconds between two checks by a supervisor: while its pilot lives, and without a pilot
ABANDON_POLL_S, UNSUPERVISED_POLL_S = 5.0, 1.0
# seconds for the kill after the grace period, for leftovers (2 s, or 5 s if they hang in the kernel), and
# for a node that is busy
KILL_TIME_S = 10.0
_BYTES = 8
_NS = 10**9
_NEVER = (1 << 63) - 1


def now() -> float:
    """Return seconds of a clock that cannot be set, and that continues while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The shared time; one writer, the pilot."""

    def __init__(self, bytes_of: memoryview, *, is_shared: bool) -> None:
        """Look at eight bytes that are mapped into memory: they are read and written in one instruction.

        Args:
            bytes_of: these bytes.
            is_shared: they are a file's.
        """
        self._ns, self._shared = bytes_of.cast("q"), is_shared

    @property
    def end_time(self) -> float:
        """When it is over, by `now`; infinite where it never is."""
        ns = self._ns[0]
        return inf if ns == _NEVER else ns / _NS

    def is_over(self) -> bool:
        """Return whether our results do not count any more."""
        return now() >= self.end_time

    @property
    def is_shared(self) -> bool:
        """Whether a pilot's lease decides, because this is not the machine of a queue."""
        return self._shared

    def end(self) -> None:
        """Let it be over now."""
        self._ns[0] = 0

    def run_until(self, end_time: float) -> None:
        """Let it run until a time; never shorter than it does already."""
        self._ns[0] = max(self._ns[0], _NEVER if end_time == inf else int(end_time * _NS))


def make_lease(home: Home) -> Lease:
    """Make a lease that is over, for the supervisors of a node's home.

    Raises:
        OSError: there is no room for it.
    """
    descriptor = os.open(home.folder / LEASE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, _BYTES)
        os.posix_fallocate(descriptor, 0, _BYTES)  # a page without room behind it would kill us
        return Lease(memoryview(mmap.mmap(descriptor, _BYTES)), is_shared=True)
    finally:
        os.close(descriptor)


def lease_of(home: Home) -> Lease:
    """Return the lease of a home; one without end where it has none."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(home.folder / LEASE_FILE, os.O_RDWR | os.O_CLOEXEC)
        try:
            return Lease(memoryview(mmap.mmap(descriptor, _BYTES)), is_shared=True)
        finally:
            os.close(descriptor)
    never = bytearray(_NEVER.to_bytes(_BYTES, sys.byteorder))
    return Lease(memoryview(never), is_shared=False)


def is_abandoned(folder: Path) -> bool:
    """Return whether the scheduler has abandoned the pilot of a folder.

    The file exists from the start. On a network file system, a new name may be missed for half a minute. New
    content of a file is visible to every process that opens it afterwards.

    Raises:
        OSError: that cannot be read now.
    """
    return bool(read_bytes(folder / ABANDONED_FILE))


def longest_shutdown_s(grace_s: float) -> float:
    """Return the time after the pilot was abandoned within which all processes of an attempt end.

    Args:
        grace_s: seconds from SIGTERM to SIGKILL for the job.
    """
    return max(grace_s, ABANDON_POLL_S) + KILL_TIME_S


class AbandonWatch:
    """A supervisor's checks of whether the scheduler has abandoned the pilot of its attempt.

    A node may have been frozen, or disconnected, between two checks. So the grace period begins at the last check that
    found nothing; the scheduler's period began later. A supervisor that wakes after it ends its program at once.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = now) -> None:
        """Begin without having looked.

        Args:
            folder: the pilot's.
            clock: returns seconds; it includes the time in which the machine is suspended.
        """
        self._folder, self._clock = folder, clock
        self._last_clear_at = clock()
        self._polled_at = 0.0
        self.is_abandoned = False  # the pilot was abandoned

    @property
    def since_clear_s(self) -> float:
        """Seconds since the last check that found the pilot not abandoned."""
        return self._clock() - self._last_clear_at

    def next_poll_s(self, *, pilot_dead: bool) -> float:
        """Return how long until the next check.

        Args:
            pilot_dead: the pilot is dead.
        """
        due_at = self._polled_at + self._poll_interval_s(pilot_dead)
        return inf if self.is_abandoned else max(0.0, due_at - self._clock())

    def poll(self, *, pilot_dead: bool, at_once: bool = False) -> bool:
        """Check if a check is due; return whether the pilot was abandoned."""
        at = self._clock()
        if not self.is_abandoned and (
            at_once or at >= self._polled_at + self._poll_interval_s(pilot_dead)
        ):
            self._polled_at = at
            with contextlib.suppress(
                OSError
            ):  # an unreadable folder does not show whether the pilot was abandoned
                self.is_abandoned = is_abandoned(self._folder)
                self._last_clear_at = self._last_clear_at if self.is_abandoned else at
        return self.is_abandoned

    @staticmethod
    def _poll_interval_s(pilot_dead: bool) -> float:
        return UNSUPERVISED_POLL_S if pilot_dead else ABANDON_POLL_S
