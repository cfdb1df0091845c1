"""The states of some jobs, kept up to date; what is read grows with what happens only."""

import time
from collections.abc import Iterable

from launcher.states import OPEN, State
from launcher.store.client import keep_going
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

CHECK_EVERY_S = 5.0  # a scheduler that died for good must not be waited for


class JobStates:
    """Follows jobs of a queue; use it from one thread."""

    def __init__(self, home: Home, store: Store) -> None:
        """Begin without any."""
        self._home, self._store = home, store
        self._last, self._version = store.read.last_event(), -1
        self._checked = time.monotonic()
        self.known: dict[int, State] = {}
        self.stopped = False  # the queue starts nothing, and no scheduler lives

    @property
    def all_ended(self) -> bool:
        """Whether none of them is open."""
        return not any(state in OPEN for state in self.known.values())

    def add(self, jobs: Iterable[int]) -> list[JobRow]:
        """Follow further jobs; return them as they are."""
        return self._read(jobs)

    def drop(self, job: int) -> None:
        """Follow a job no more."""
        self.known.pop(job, None)

    def changes(self) -> list[JobRow]:
        """Return the jobs of which something happened, as they are now.

        Raises:
            MachineError: the queue is gone, or no scheduler can be started.
        """
        self._keep_going()
        version = self._store.read.data_version()
        if version == self._version:
            return []
        self._version, changed = version, set[int]()
        for number, _, job, _, _ in self._store.read.events_after(self._last):
            self._last = number
            if job in self.known:
                changed.add(job)
        return self._read(changed) if changed else []

    def _read(self, jobs: Iterable[int]) -> list[JobRow]:
        wanted = [*jobs]
        rows = self._store.read.jobs_by_id(wanted)
        self.known.update((row.id, row.state) for row in rows)
        return rows

    def _keep_going(self) -> None:
        now = time.monotonic()
        if now - self._checked > CHECK_EVERY_S:
            self._checked = now
            self.stopped = not keep_going(self._home, self._store)
