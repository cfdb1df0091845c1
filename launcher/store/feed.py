"""What changes in the queue: one cursor over its events, for all who follow it.

A look costs a number of SQLite where no other process has written; else it grows with what has happened.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf
from typing import NamedTuple

from launcher.states import ENDED, State
from launcher.store.client import keep_going, stopped
from launcher.store.connection import known_state
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

CHECK_EVERY_S = 2.0  # a scheduler that was killed must not be waited for
BUSY_S, QUIET_S = 0.02, 0.05  # between two looks; the latter where nothing has happened for a while
QUIET_LOOKS = 100


class Change(NamedTuple):
    """Something that happened to a job."""

    at: float
    job: int
    state: State
    reason: str
    code: str = ""  # of the reason


class Feed:
    """Tells what happened since it was asked last; what its own store writes is not looked for."""

    def __init__(self, store: Store, since: int | None = None) -> None:
        """Begin after an event; None: after the newest one."""
        self._store = store
        self._last = store.read.last_event() if since is None else since
        self._version = -1

    def has_changed(self) -> bool:
        """Tell whether another process has written since this was asked last."""
        before, self._version = self._version, self._store.read.data_version()
        return self._version != before

    def since(self) -> list[Change]:
        """Return what happened since the last call."""
        if not self.has_changed():
            return []
        rows = self._store.database.execute(
            "SELECT id, at, job, state, reason, reason_code FROM events WHERE id > ? ORDER BY id",
            (self._last,),
        ).fetchall()
        if rows:
            self._last = rows[-1]["id"]
        return [
            Change(
                row["at"], row["job"], known_state(row["state"]), row["reason"], row["reason_code"]
            )
            for row in rows
        ]


class FollowedJobs:
    """Jobs, each as it was when something happened to it last; use it from one thread."""

    def __init__(
        self,
        home: Home,
        store: Store,
        jobs: Iterable[JobRow] | None = (),
        *,
        since: int | None = None,
        served: bool = True,
    ) -> None:
        """Follow jobs.

        Args:
            home: whose queue.
            store: its database.
            jobs: as they were after an event; None: whatever something happens to.
            since: that event; None: the newest one.
            served: a scheduler was seen to live just now.
        """
        self._home, self._store, self._feed = home, store, Feed(store, since)
        self._every = jobs is None
        self.rows: dict[int, JobRow] = {}
        self.open: set[int] = set()  # those that have not ended
        self.stopped = False  # the queue starts nothing, and no scheduler lives
        self._checked = time.monotonic() if served else -inf
        self._quiet = 0
        self._take(jobs or ())

    @property
    def pause_s(self) -> float:
        """How long to wait before the next look."""
        return BUSY_S if self._quiet < QUIET_LOOKS else QUIET_S

    def add(self, jobs: Iterable[int]) -> list[JobRow]:
        """Follow further jobs; return them as they are."""
        return self._take(self._store.read.jobs_by_id(jobs))

    def drop(self, job: int) -> None:
        """Follow a job no more."""
        self.rows.pop(job, None)
        self.open.discard(job)

    def changes(self) -> list[Change]:
        """Return what happened to them since the last call; `rows` has them as they are now.

        A job that was cleaned meanwhile is as its last event says.
        """
        changes = self._feed.since()
        if not self._every:
            changes = [change for change in changes if change.job in self.rows]
        self._quiet = 0 if changes else self._quiet + 1
        if not changes:
            return []
        if self._every:
            self.rows.clear()
        there = {row.id for row in self.add({change.job for change in changes})}
        last = {change.job: change.state for change in changes if change.job not in there}
        self._take(replace(self.rows[job], state=last[job]) for job in last.keys() & self.rows)
        return [change for change in changes if change.job in self.rows]

    def until_ended(self) -> Iterator[list[Change]]:
        """Give what happened at each look, the first one at once, until all of them have ended.

        Raises:
            MachineError: the queue was stopped, is gone, or no scheduler can be started.
        """
        while True:
            yield self.changes()
            if not self.open:
                return
            if self.stopped:  # and since then, the last of them has not ended
                raise stopped()
            self.keep_going()
            if not self.stopped:
                time.sleep(self.pause_s)

    def keep_going(self) -> None:
        """Replace a scheduler that was killed, and see whether the queue was stopped; not at each call.

        Raises:
            MachineError: the queue is gone, or no scheduler can be started.
        """
        now = time.monotonic()
        if now - self._checked > CHECK_EVERY_S:
            self._checked = now
            self.stopped = not keep_going(self._home, self._store)

    def _take(self, rows: Iterable[JobRow]) -> list[JobRow]:
        taken = [*rows]
        for row in taken:
            self.rows[row.id] = row
            (self.open.discard if row.state in ENDED else self.open.add)(row.id)
        return taken


# --- what is told to the owners of runs
