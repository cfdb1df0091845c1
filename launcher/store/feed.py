"""What changes in the queue: one cursor over its events, for all who follow it.

A look costs a number of SQLite where no other process has written; else it grows with what has happened.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import NamedTuple

from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify, recorded_run_notify
from launcher.states import ENDED, OPEN, Reason, ReasonCode, State
from launcher.store.client import keep_going, stopped
from launcher.store.connection import known_record, known_state, reason_of
from launcher.store.job_queries import JobQueries
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home


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


CHECK_EVERY_S = 2.0  # a scheduler that was killed must not be waited for
BUSY_S, QUIET_S = 0.02, 0.05  # between two looks; the latter where nothing has happened for a while
QUIET_LOOKS = 100


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

MOST_FAILURES = 10  # of a run, in words: so many that had too little memory; the rest is counted
_NEWEST_EVENTS = 10_000  # among which the first one to report is searched
_ENDED = ", ".join(f"'{state}'" for state in ENDED)


class Failure(NamedTuple):
    """A job that has failed and is not tried again."""

    job: int
    name: str
    reason: Reason
    alike: int  # jobs of its run that failed so, it among them: for too little memory, or otherwise


class RunNews(NamedTuple):
    """What happened to a run, and who was told of it."""

    id: int
    name: str
    root: str
    notify: RunNotify
    since: float  # when the first of what happened did
    after: int  # the event before that
    last_at: float  # when the last of it did
    open: int  # jobs that have not ended
    totals: Mapping[State, int]  # of all its jobs
    happened: tuple[Event, ...] = ()  # but for its end; the most important first
    told: Mapping[str, tuple[Event, ...]] = {}  # by target


class RunNewsReader:
    """The questions of who tells a queue's owner what happens; none of them changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db, self._read = connection, JobQueries(connection)
        self.newest = self._read.last_event

    def beginning(self, since: float) -> int:
        """Return the number of the last event before a time."""
        newest = self._read.last_event()
        (before,) = self._db.execute(
            "SELECT max(id) FROM (SELECT id, at FROM events ORDER BY id DESC LIMIT ?) WHERE at < ?",
            (_NEWEST_EVENTS, since),
        ).fetchone()
        return max(0, newest - _NEWEST_EVENTS) if before is None else int(before)

    def whole(self, news: RunNews) -> RunNews:
        """Return the news of a run from the time at which it last had no open job."""
        rows = self._db.execute(
            "SELECT events.id AS id, at, job, events.state AS state FROM events"
            " JOIN jobs ON jobs.id = events.job WHERE run = ? AND events.id <= ? ORDER BY events.id",
            (news.id, news.after),
        )
        is_open: set[int] = set()
        since, after = news.since, news.after
        for row in rows:
            if not is_open:
                since, after = row["at"], row["id"] - 1
            if row["state"] in ENDED:
                is_open.discard(row["job"])
            else:
                is_open.add(row["job"])
        return news._replace(since=since, after=after) if is_open else news

    def since(self, event: int) -> tuple[int, list[RunNews]]:
        """Return the newest event, and what happened to runs from an event up to it, as of one moment."""
        self._db.execute("BEGIN")
        try:
            upto = self._read.last_event()
            return upto, self._runs(event, upto)
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def failures(self, run: int, event: int) -> tuple[Failure, ...]:
        """Return the first failure of a run after an event, and the first of those for too little memory."""
        rows = self._db.execute(
            "SELECT * FROM (SELECT events.id AS number, jobs.id AS job, name,"
            " events.reason_code AS code, events.reason AS reason, events.reason_data AS data,"
            " row_number() OVER (PARTITION BY events.reason_code = :short ORDER BY events.id) AS place,"
            " count(*) OVER (PARTITION BY events.reason_code = :short) AS alike"
            " FROM events CROSS JOIN jobs ON jobs.id = events.job"
            " WHERE events.id > :event AND run = :run AND events.state = 'failed')"
            " WHERE place <= iif(code = :short, :most, 1) ORDER BY number",
            {
                "short": ReasonCode.OUT_OF_MEMORY,
                "event": event,
                "run": run,
                "most": MOST_FAILURES,
            },
        )
        return tuple(
            Failure(
                row["job"],
                row["name"],
                reason_of(row["code"], row["reason"], row["data"]),
                row["alike"],
            )
            for row in rows
        )

    def _runs(self, event: int, upto: int) -> list[RunNews]:
        rows = self._db.execute(
            "SELECT runs.id AS id, runs.name AS name, root, notify, min(events.at) AS first_at,"
            " max(events.at) AS last_at,"
            " count(*) FILTER (WHERE events.state = 'failed') AS failed,"
            " count(*) FILTER (WHERE events.state = 'failed' AND events.reason_code = ?) AS short"
            " FROM events JOIN jobs ON jobs.id = events.job JOIN runs ON runs.id = jobs.run"
            " WHERE events.id > ? AND events.id <= ? GROUP BY runs.id",
            (ReasonCode.OUT_OF_MEMORY, event, upto),
        ).fetchall()
        return [self._run(row, event) for row in rows]

    def _run(self, row: sqlite3.Row, event: int) -> RunNews:
        totals = self._read.counts(row["id"])
        notify = row["notify"]
        happened = ((Event.OUT_OF_MEMORY, row["short"]), (Event.FIRST_FAILURE, row["failed"]))
        return RunNews(
            id=row["id"],
            name=row["name"],
            root=row["root"],
            notify=recorded_run_notify(known_record(notify)) if notify else AS_CONFIGURED,
            since=row["first_at"],
            after=event,
            last_at=row["last_at"],
            open=sum(totals.get(state, 0) for state in OPEN),
            totals={state: number for state, number in totals.items() if number},
            happened=tuple(what for what, number in happened if number),
        )

    def ended_since(self, run: int, since: float) -> dict[State, int]:
        """Return how many jobs of a run ended since a time, by their states."""
        rows = self._db.execute(
            f"SELECT state, count(*) AS n FROM jobs WHERE run = ? AND state IN ({_ENDED})"
            " AND ended >= ? GROUP BY state",
            (run, since),
        )
        return {known_state(row["state"]): row["n"] for row in rows}
