"""The processes that an attempt has started and not ended: how its supervisor finds and ends them."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from launcher.queue.workers.attempt_process import WAITID_FLAGS
from launcher.system import cgroups
from launcher.system.process_trees import descendants, is_foreign_descendant, send_signal

UNKILLABLE_AFTER_S = (
    5.0  # a process that survives SIGKILL for this time is another user's, or hangs in the kernel
)


class AttemptProcesses:
    """The processes that the attempt of this supervisor started and that have not ended."""

    def __init__(self, group: Path | None, standby_pid: Callable[[], int]) -> None:
        """Begin.

        Args:
            group: the supervisor's control group; None if it has none.
            standby_pid: returns the pid of the worker that waits for the next attempt, 0: there is none.
        """
        self._group, self._standby_pid = group, standby_pid
        self.attempt = ""  # the folder of the current attempt

    def pids(self) -> list[int]:
        """Return all processes of the attempt.

        A scheduler that the attempt's command started is not a leftover, nor are its fork servers, their
        supervisors and the programs of these. This also holds when the scheduler has died and they are
        our children.
        """
        below = descendants(os.getpid(), skip=self._is_foreign) if _has_children() else []
        if self._group is not None:
            there = {os.getpid(), *below}
            inside = [pid for pid in cgroups.group_members(self._group) if pid not in there]
            below += [pid for pid in inside if not self._is_foreign(pid)]
        return [pid for pid in below if pid != self._standby_pid()]

    def kill(self) -> None:
        """Kill all of them; processes forked meanwhile need another call."""
        for pid in self.pids():
            send_signal(pid, signal.SIGKILL)

    def end(self, grace_s: float) -> None:
        """End them: politely, then by force."""
        below = self.pids()
        for pid in below:
            send_signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while below and time.monotonic() < deadline + UNKILLABLE_AFTER_S:
            self.reap()
            if time.monotonic() >= deadline:
                for pid in below:
                    send_signal(pid, signal.SIGKILL)
            time.sleep(0.01)
            below = self.pids()

    def reap(self, spare: int = 0) -> None:
        """Collect ended orphans that we adopted, but never the program `spare`."""
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitid(os.P_ALL, 0, WAITID_FLAGS)) and child.si_pid != spare:
                os.waitpid(child.si_pid, 0)

    def _is_foreign(self, pid: int) -> bool:
        return is_foreign_descendant(pid, self.attempt)


def _has_children() -> bool:
    """Return whether we have children; the kernel makes us the parent of descendants whose parent died."""
    try:
        os.waitid(os.P_ALL, 0, WAITID_FLAGS)
    except ChildProcessError:
        return False
    return True
