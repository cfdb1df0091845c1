"""The right of one process to serve a home: a locked file, which may be deleted while the lock is held."""

import os

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.system.files import read_json
from launcher.system.locks import lock_file
from launcher.system.process_trees import may_serve
from launcher.system.processes import identity_from_record, is_alive
from launcher.system.waiting import wait_until

LOCK_TIMEOUT_S = 1.0  # a predecessor may still be on its way out
LOCK_POLL_S = 0.02


class SchedulerLock:
    """The right of one process to serve a home; it ends with the process, or by `release`."""

    def __init__(self, home: Home) -> None:
        """Hold nothing yet."""
        self._home = home
        self._descriptors: list[int] = []

    def acquire(self) -> bool:
        """Take the right; False when another process has it.

        A scheduler whose lock file was deleted serves on without it: it is known by its record.
        """
        if wait_until(self._try_to_acquire, LOCK_TIMEOUT_S, LOCK_POLL_S):
            return True
        if self._descriptors:
            self.release()
            wake(self._home)  # the other scheduler locks the new file then
        return False

    def revalidate(self) -> bool:
        """Check that others see the file that is locked. Return False if another scheduler serves the queue."""
        try:
            there = self._home.scheduler_lock.stat()
        except FileNotFoundError:
            there = None
        if there is not None and os.path.samestat(there, os.fstat(self._descriptors[-1])):
            return True
        held = lock_file(self._home.scheduler_lock)
        # the holder of the lock searches for us, and exits if our record names this queue
        if held is None:
            return not self._is_served_by_other()
        # the old descriptor stays open, too, as closing takes time
        self._descriptors.append(held)
        return True

    def release(self) -> None:
        """Release the right."""
        for held in self._descriptors:
            os.close(held)
        self._descriptors.clear()

    def _try_to_acquire(self) -> bool:
        if not self._descriptors:
            held = lock_file(self._home.scheduler_lock)
            if held is None:
                return False
            self._descriptors.append(held)
        return not self._is_served_by_other()

    def _is_served_by_other(self) -> bool:
        record = read_json(self._home.scheduler_record)
        who = identity_from_record(record)
        if record is None or who is None or "left" in record:
            return False
        # the record in a copied home names the scheduler of the original
        return who.pid != os.getpid() and is_alive(who) and may_serve(who.pid, self._home.folder)
