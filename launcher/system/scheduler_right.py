"""The right of one process to serve a home: a locked file, which anybody may delete while it is held."""

import os
import time

from launcher.system.daemon_control import wake
from launcher.system.files import read_json
from launcher.system.locks import lock
from launcher.system.paths import Home
from launcher.system.process_trees import serves
from launcher.system.processes import alive, recorded

PATIENCE_S = 1.0  # a predecessor may still be on its way out
LOOK_S = 0.02


class Right:
    """The right of one process to serve a home; given up with the process, or by `leave`."""

    def __init__(self, home: Home) -> None:
        """Hold nothing yet."""
        self._home = home
        self._held: list[int] = []

    def take(self) -> bool:
        """Take the right; False when another process has it.

        A scheduler whose lock file was deleted serves on without it: it is known by its record.
        """
        deadline = time.monotonic() + PATIENCE_S
        while (held := lock(self._home.scheduler_lock)) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        self._held.append(held)
        while self._other_serves():
            if time.monotonic() > deadline:
                self.leave()
                wake(self._home)  # it locks the new file then
                return False
            time.sleep(LOOK_S)
        return True

    def keep(self) -> bool:
        """See that the file which is locked is the one that others see; False when another serves."""
        try:
            there = self._home.scheduler_lock.stat()
        except FileNotFoundError:
            there = None
        if there is not None and os.path.samestat(there, os.fstat(self._held[-1])):
            return True
        held = lock(self._home.scheduler_lock)
        if held is None:  # who has it looks for us, and leaves where our record tells of us
            return not self._other_serves()
        self._held.append(held)  # the old one is kept, too: closing it would take time
        return True

    def leave(self) -> None:
        """Give the right up."""
        for held in self._held:
            os.close(held)
        self._held.clear()

    def _other_serves(self) -> bool:
        record = read_json(self._home.scheduler_record)
        who = recorded(record)
        if record is None or who is None or "left" in record:
            return False
        # the record in a copied home names the scheduler of the original
        return who.pid != os.getpid() and alive(who) and serves(who.pid, self._home.folder)
