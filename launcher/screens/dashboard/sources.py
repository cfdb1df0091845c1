"""Where screens come from: a queue as it is now."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

from launcher.gpu.monitor import Lookout
from launcher.screens.format import JobLine, harmless
from launcher.screens.screen import Screen
from launcher.screens.snapshots import Snapshots, scheduler_of
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.system.paths import Home, check_home

SEARCH_SHARE = 0.02  # of its time that a search may take: among very many jobs it is not quick


class Queue:
    """A queue as it is now; it may be made while the screen is shown."""

    note = ""  # what to tell beside the screen

    def __init__(
        self,
        home: Home,
        *,
        lookout: Lookout | None = None,
        clock: Callable[[], float] = time.time,
        measures: bool = True,
    ) -> None:
        """Look at the queue in a home.

        Args:
            home: need not exist.
            lookout: looks at the GPUs where the scheduler does not.
            clock: tells the seconds since 1970.
            measures: jobs' processes and the disks of runs are looked at, too, in a thread.
        """
        self.home: Home = home
        self.store: Store | None = None
        self._lookout, self._clock = lookout, clock
        self._measures = measures
        self._snapshots: Snapshots | None = None
        self._found: tuple[str, tuple[JobLine, ...] | None] = ("", None)
        self._search_at = 0.0  # when to search for the same again

    def look(self, *, waiting: int, sought: str) -> Screen:
        """Return the screen as of now.

        Args:
            waiting: how many waiting jobs are listed.
            sought: list the jobs in whose name or run's name this is, too.

        Raises:
            Error: the queue cannot be read.
        """
        if self.current() is None or self._snapshots is None:
            self.note = "no queue yet; `launcher run TASKFILE` begins one"
            folder = harmless(str(self.home.folder))
            return Screen(at=self._clock(), home=folder, scheduler=scheduler_of(self.home))
        self.note = ""
        try:
            return self._taken(self._snapshots, waiting, sought)
        except sqlite3.Error as error:
            raise trouble(self.home.database, error) from error

    def current(self) -> Store | None:
        """Return the queue's database, opened anew where another lies in its place; None: there is none."""
        if self.store is not None and not self.store.is_current():
            self.close()
            self.store = self._snapshots = None  # it was deleted, or restored from a backup
        if self.store is None:
            self._open()
        return self.store

    def changed(self) -> None:
        """Search anew at the next look: a job was changed from this screen."""
        self._search_at = 0.0

    def close(self) -> None:
        """Give the database back."""
        if self.store is not None:
            self.store.close()

    def _taken(self, snapshots: Snapshots, waiting: int, sought: str) -> Screen:
        """Return a screen; what was looked for is looked for again when that costs little."""
        began = time.monotonic()
        if not sought:
            return snapshots.take(waiting=waiting)
        if self._found[0] == sought and began < self._search_at:
            screen = snapshots.take(waiting=waiting)
            return replace(screen, found=self._found[1], sought=sought)
        screen = snapshots.take(waiting=waiting, sought=sought)
        self._found = sought, screen.found
        now = time.monotonic()
        self._search_at = now + (now - began) / SEARCH_SHARE
        return screen

    def _open(self) -> None:
        if self.home.exists():
            check_home(self.home)
            self.store = Store(self.home)
            self._snapshots = Snapshots(
                self.home,
                self.store,
                lookout=self._lookout,
                clock=self._clock,
                measures=self._measures,
            )
