"""Where screens come from: a queue as it is now, or a recording of one."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Protocol

from launcher.gpu.monitor import Lookout
from launcher.screens.dashboard.screen_recording import Recorder, at_time
from launcher.screens.format import JobLine, harmless
from launcher.screens.screen import Screen
from launcher.screens.snapshots import Snapshots, scheduler_of
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.system.paths import Home, check_home

SEARCH_SHARE = 0.02  # of its time that a search may take: among very many jobs it is not quick


class Source(Protocol):
    """Shows screens."""

    @property
    def store(self) -> Store | None:
        """The queue's database, None where there is none."""

    @property
    def home(self) -> Home | None:
        """The queue's home, None where there is none."""

    @property
    def note(self) -> str:
        """What to tell beside the screen."""

    @property
    def complaint(self) -> str:
        """What goes wrong although screens can be shown; empty: nothing."""

    def look(self, *, waiting: int, sought: str) -> Screen:
        """Return the screen as of now.

        Args:
            waiting: how many waiting jobs are listed.
            sought: list the jobs in whose name or run's name this is, too.

        Raises:
            Error: the queue cannot be read.
        """

    def changed(self) -> None:
        """Note that a job was changed from this screen."""


class Queue:
    """A queue as it is now; it may be made while the screen is shown."""

    note = ""
    complaint = ""

    def __init__(
        self,
        home: Home,
        *,
        lookout: Lookout | None = None,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.time,
        measures: bool = True,
    ) -> None:
        """Look at the queue in a home.

        Args:
            home: need not exist.
            lookout: looks at the GPUs where the scheduler does not.
            recorder: writes every screen down.
            clock: tells the seconds since 1970.
            measures: jobs' processes and the disks of runs are looked at, too, in a thread.
        """
        self.home: Home = home
        self.store: Store | None = None
        self._lookout, self._recorder, self._clock = lookout, recorder, clock
        self._measures = measures
        self._snapshots: Snapshots | None = None
        self._found: tuple[str, tuple[JobLine, ...] | None] = ("", None)
        self._search_at = 0.0  # when to search for the same again

    def look(self, *, waiting: int, sought: str) -> Screen:
        """Return the screen as of now."""
        if self.current() is None or self._snapshots is None:
            self.note = "no queue yet; `launcher run TASKFILE` begins one"
            folder = harmless(str(self.home.folder))
            return Screen(at=self._clock(), home=folder, scheduler=scheduler_of(self.home))
        self.note = ""
        try:
            screen = self._taken(self._snapshots, waiting, sought)
        except sqlite3.Error as error:
            raise trouble(self.home.database, error) from error
        if self._recorder is not None:
            try:
                self._recorder.add(screen)
            except OSError as error:  # who watches goes on watching
                self._recorder = None  # half a line is there: what follows would damage more
                self.complaint = f"nothing is recorded any more: {error.strerror}"
        return screen

    def current(self) -> Store | None:
        """Return the queue's database, opened anew where another lies in its place; None: there is none."""
        if self.store is not None and not self.store.is_current():
            self.close()
            self.store = self._snapshots = None  # it was deleted, or restored from a backup
        if self.store is None:
            self._open()
        return self.store

    def changed(self) -> None:
        """Search anew at the next look."""
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


class Replay:
    """A recording, shown in the time in which it was made, or quicker."""

    store = None
    home = None
    complaint = ""

    def __init__(
        self,
        screens: Sequence[Screen],
        *,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the first screen.

        Args:
            screens: the oldest first; at least one.
            speed: seconds of the recording in a second.
            clock: tells the time in seconds.
        """
        self._screens, self._speed, self._clock = screens, speed, clock
        self._began: float | None = None

    @property
    def note(self) -> str:
        """Where in the recording we are."""
        return "the recording ends here" if self._at() >= self._screens[-1].at else "a recording"

    def look(self, *, waiting: int, sought: str) -> Screen:
        """Return the screen of this moment of the recording."""
        at = min(self._at(), self._screens[-1].at)
        screen = at_time(self._screens, at)
        changes: dict[str, object] = {"at": at}
        if len(screen.waiting) > waiting:
            more = screen.more + len(screen.waiting) - waiting
            changes |= {"waiting": screen.waiting[:waiting], "more": more}
        if sought:
            changes |= {"found": _matching(screen, sought), "sought": sought}
        return replace(screen, **changes)  # type: ignore[arg-type]  # as they are named

    def changed(self) -> None:
        """Nothing changes in a recording."""

    def _at(self) -> float:
        now = self._clock()
        if self._began is None:
            self._began = now
        return self._screens[0].at + (now - self._began) * self._speed


def _matching(screen: Screen, text: str) -> tuple[JobLine, ...]:
    """Return the jobs of a screen as the queue finds them in its database."""
    glob = text if set(text) & set("*?[") else f"*{text}*"
    shown = [
        *(work.line for work in screen.running),
        *screen.waiting,
        *(ending.line for ending in screen.recent),
    ]
    return tuple(
        {
            job.id: job
            for job in reversed(shown)
            if fnmatchcase(job.name, glob) or fnmatchcase(job.run, glob) or str(job.id) == text
        }.values()
    )[::-1]
