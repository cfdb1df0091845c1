"""Changes of the queue: one cursor over its events for all followers.

A poll costs one SQLite query if no other process has written. Otherwise the cost grows with the
events.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf
from typing import NamedTuple

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.store.client import ensure_scheduler_alive, queue_stopped_error
from launcher.queue.store.connection import known_state, reason_of
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow

CHECK_EVERY_S = 2.0  # a scheduler that was killed must not be waited for
# seconds between two polls; the latter if nothing has happened for a while
BUSY_POLL_S, IDLE_POLL_S = 0.02, 0.05
IDLE_POLLS = 100
DELETED = "cancelled: deleted from the queue before its end was read here"


QueueVersion = tuple[Store, int]  # contains the store: a database that was replaced has another


def queue_version(store: Store) -> QueueVersion:
    """Return a value that changes when another process has written to the queue."""
    return store, store.read.data_version()


class JobEvent(NamedTuple):
    """Something that happened to a job."""

    at: float
    job: int
    state: State
    reason: str
    code: str = ""  # code of the reason


class EventCursor:
    """Returns the events since the last call. Events of its own store are returned only after another process writes."""

    def __init__(self, store: Store, first_event: int | None = None) -> None:
        """Begin after an event; None: after the newest one."""
        self._store = store
        self._last_event = store.read.last_event() if first_event is None else first_event
        self._version: QueueVersion | None = None

    def has_changed(self) -> bool:
        """Whether another process has written since the last call."""
        before, self._version = self._version, queue_version(self._store)
        return self._version != before

    def read_new(self) -> list[JobEvent]:
        """Return what happened since the last call."""
        if not self.has_changed():
            return []
        rows = self._store.database.execute(
            "SELECT id, at, job, state, reason, reason_code FROM events WHERE id > ? ORDER BY id",
            (self._last_event,),
        ).fetchall()
        if rows:
            self._last_event = rows[-1]["id"]
        return [
            JobEvent(
                row["at"], row["job"], known_state(row["state"]), row["reason"], row["reason_code"]
            )
            for row in rows
        ]


class JobTracker:
    """Jobs, each as it was when something happened to it last; use it from one thread."""

    def __init__(
        self,
        home: Home,
        store: Store,
        jobs: Iterable[JobRow] | None = (),
        *,
        first_event: int | None = None,
        is_scheduler_alive: bool = True,
        searches: Iterable[int] = (),
    ) -> None:
        """Follow jobs.

        Args:
            home: The queue folder.
            store: Its database.
            jobs: Their rows after an event, None to follow all changed jobs.
            first_event: That event, None for the newest one.
            is_scheduler_alive: A scheduler was seen alive just now.
            searches: Open searches whose later jobs are followed, too.
        """
        self.home, self.store, self._cursor = home, store, EventCursor(store, first_event)
        self._tracks_all = jobs is None
        self.rows: dict[int, JobRow] = {}
        # those that have not ended, without those that are held because others failed
        self.open_jobs: set[int] = set()
        self.open_searches = {*searches}
        self.is_queue_stopped = False  # the queue starts nothing, and no scheduler lives
        self._checked_at = time.monotonic() if is_scheduler_alive else -inf
        self._idle_polls = 0
        self._looked_at = time.monotonic()  # time of the last search for deleted jobs
        self._update_rows(jobs or ())

    @property
    def poll_interval_s(self) -> float:
        """Seconds until the next poll."""
        return BUSY_POLL_S if self._idle_polls < IDLE_POLLS else IDLE_POLL_S

    def add(self, jobs: Iterable[int]) -> list[JobRow]:
        """Follow further jobs; return them as they are."""
        return self._update_rows(self.store.read.jobs_by_id(jobs))

    def drop(self, job: int) -> None:
        """Follow a job no more."""
        self.rows.pop(job, None)
        self.open_jobs.discard(job)

    def read_events(self) -> list[JobEvent]:
        """Return the events of the jobs since the last call; `rows` has the present rows.

        A job that was cleaned meanwhile is as its last event says, and cancelled if that is deleted, too.
        """
        changes = self._cursor.read_new()
        if not self._tracks_all:
            changes = [change for change in changes if change.job in self.rows]
            changes += [*self._new_trials(), *self._deleted_jobs()]
        self._idle_polls = 0 if changes else self._idle_polls + 1
        if not changes:
            return []
        if self._tracks_all:
            self.rows.clear()
        there = {row.id for row in self.add({change.job for change in changes})}
        last = {change.job: change for change in changes if change.job not in there}
        self._update_rows(
            replace(
                self.rows[job],
                state=last[job].state,
                state_reason=reason_of(last[job].code, last[job].reason, None),
            )
            for job in last.keys() & self.rows
        )
        return [change for change in changes if change.job in self.rows]

    def _new_trials(self) -> list[JobEvent]:
        """Follow the new jobs of open searches; return an event for each."""
        if not self.open_searches:
            return []
        newest = max(self.rows, default=0)
        self.open_searches, jobs = self.store.searches.follow(self.open_searches, newest)
        rows = self.add(job for job in jobs if job not in self.rows)
        return [JobEvent(row.submitted, row.id, row.state, row.reason) for row in rows]

    def _deleted_jobs(self) -> list[JobEvent]:
        """Return an event for each open job that is not in the queue any more; not at each call."""
        now = time.monotonic()
        if now - self._looked_at < CHECK_EVERY_S:
            return []
        self._looked_at = now
        gone = self.open_jobs - self.store.read.existing_jobs(self.open_jobs)
        return [JobEvent(time.time(), job, State.CANCELLED, DELETED) for job in sorted(gone)]

    def events_until_ended(self) -> Iterator[list[JobEvent]]:
        """Yield the events of each poll, the first one at once, until all jobs have ended.

        Jobs that are held because others failed are not waited for.

        Raises:
            MachineError: The queue was stopped, is missing, or no scheduler can be started.
        """
        while True:
            yield self.read_events()
            if not (self.open_jobs or self.open_searches):
                return
            # the queue is stopped, and its last running job has not ended since
            if self.is_queue_stopped:
                raise queue_stopped_error()
            self.check_scheduler()
            if not self.is_queue_stopped:
                time.sleep(self.poll_interval_s)

    def check_scheduler(self) -> None:
        """Replace a scheduler that was killed, and see whether the queue was stopped; not at each call.

        Raises:
            MachineError: the queue is gone, or no scheduler can be started.
        """
        now = time.monotonic()
        if now - self._checked_at > CHECK_EVERY_S:
            self._checked_at = now
            self.is_queue_stopped = not ensure_scheduler_alive(self.home, self.store)

    def _update_rows(self, rows: Iterable[JobRow]) -> list[JobRow]:
        taken = [*rows]
        for row in taken:
            self.rows[row.id] = row
            is_over = row.state in ENDED_STATES or row.is_held_by_failures
            (self.open_jobs.discard if is_over else self.open_jobs.add)(row.id)
        return taken
