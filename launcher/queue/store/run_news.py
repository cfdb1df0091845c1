"""New events of runs for notifications: ends and failures, and which of them were sent."""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from launcher.queue.job_options.notifications import (
    AS_CONFIGURED,
    NotifyEvent,
    RunNotify,
    run_notify_from_record,
)
from launcher.queue.jobs.states import ENDED_STATES, OPEN_STATES, Reason, ReasonCode, State
from launcher.queue.store.connection import known_record, known_state, reason_of
from launcher.queue.store.job_queries import JobQueries
from launcher.queue.store.job_selection import words_for_jobs

MOST_FAILURES = 10  # described failures of a run for too little memory; the rest is counted
_NEWEST_EVENTS = 10_000  # among which the first one to report is searched
# a result of an earlier end was kept or taken over
_NOT_ENDS = (ReasonCode.ACCEPTED, ReasonCode.ADOPTED, ReasonCode.TOUCHED)
_ENDED = ", ".join(f"'{state}'" for state in ENDED_STATES)
_JOB_EVENTS = (
    "SELECT events.id AS event, jobs.id AS job, jobs.name AS name, runs.name AS run, root, notify,"
    " events.state AS state, events.at AS at,"
    " events.reason_code AS code, events.reason AS reason, events.reason_data AS data,"
    # SQLite reads JSON slowly; most specs do not contain the word
    """ CASE WHEN instr(jobs.spec, '"notify_on"') > 0 AND json_valid(jobs.spec)"""
    " THEN json_extract(jobs.spec, '$.terms.notify_on') END AS wanted"
    " FROM events JOIN jobs ON jobs.id = events.job JOIN runs ON runs.id = jobs.run"
    " WHERE events.id > ? AND events.id <= ?"
)


class RunFailure(NamedTuple):
    """A job that has failed and is not tried again."""

    job: int
    name: str
    reason: Reason
    similar_failures: (
        int  # jobs of its run that failed so, it among them: for too little memory, or otherwise
    )


class RunEvents(NamedTuple):
    """Events of a run, and which of them were sent."""

    id: int
    name: str
    root: str
    notify: RunNotify
    since: float  # when the first of what happened did
    after: int  # the event before that
    last_at: float  # when the last of these events happened
    open: int  # jobs that have not ended
    totals: Mapping[State, int]  # numbers of the run's jobs
    happened: tuple[NotifyEvent, ...] = ()  # without the run's end; the most important first
    told: Mapping[str, tuple[NotifyEvent, ...]] = {}  # by target


class JobEnd(NamedTuple):
    """The end of a job whose owner asked for a message, or a hold of jobs; and which targets have received it.

    A hold has the failed job that caused it, and the state `HELD`.
    """

    event: int
    job: int
    name: str
    run: str
    root: str
    notify: RunNotify  # settings of the job's run
    state: State
    reason: Reason
    at: float
    told: tuple[str, ...] = ()  # targets
    # `notify_on` requests the message, so `events` of config.toml does not filter it
    is_requested: bool = True
    held: int = 0  # number of jobs, if it is a hold
    selection: str = ""  # words that select the held jobs


class RunEventReader:
    """Read-only queries for notifications of a queue's owner."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db, self._read = connection, JobQueries(connection)
        self.newest = self._read.last_event

    def last_event_before(self, start_time: float) -> int:
        """Return the number of the last event before a time."""
        newest = self._read.last_event()
        (before,) = self._db.execute(
            "SELECT max(id) FROM (SELECT id, at FROM events ORDER BY id DESC LIMIT ?) WHERE at < ?",
            (_NEWEST_EVENTS, start_time),
        ).fetchone()
        return max(0, newest - _NEWEST_EVENTS) if before is None else int(before)

    def extend_to_idle_start(self, run_events: RunEvents) -> RunEvents:
        """Return the news of a run from the time at which it last had no open job."""
        rows = self._db.execute(
            "SELECT events.id AS id, at, job, events.state AS state FROM events"
            " JOIN jobs ON jobs.id = events.job WHERE run = ? AND events.id <= ? ORDER BY events.id",
            (run_events.id, run_events.after),
        )
        is_open: set[int] = set()
        since, after = run_events.since, run_events.after
        for row in rows:
            if not is_open:
                since, after = row["at"], row["id"] - 1
            if row["state"] in ENDED_STATES:
                is_open.discard(row["job"])
            else:
                is_open.add(row["job"])
        return run_events._replace(since=since, after=after) if is_open else run_events

    def read_since(self, event: int) -> tuple[int, list[RunEvents]]:
        """Return the newest event, and what happened to runs from an event up to it, as of one moment."""
        self._db.execute("BEGIN")
        try:
            upto = self._read.last_event()
            return upto, self._read_runs(event, upto)
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def job_ends(self, event: int, last_event: int) -> list[JobEnd]:
        """Return the ends to report of jobs with `notify_on`, and all holds, from an event up to another one."""
        ends = [*self._requested_ends(event, last_event), *self._holds(event, last_event)]
        return sorted(ends, key=attrgetter("event"))

    def _requested_ends(self, event: int, last_event: int) -> list[JobEnd]:
        rows = self._db.execute(
            f"SELECT * FROM ({_JOB_EVENTS} AND events.state IN ({_ENDED}))"
            " WHERE wanted = 'end' OR wanted = 'failure' AND state IN ('failed', 'skipped')"
            " ORDER BY event",
            (event, last_event),
        )
        return [
            JobEnd(
                event=row["event"],
                job=row["job"],
                name=row["name"],
                run=row["run"],
                root=row["root"],
                notify=_run_notify(row["notify"]),
                state=known_state(row["state"]),
                reason=reason_of(row["code"], row["reason"], row["data"]),
                at=row["at"],
            )
            for row in rows
            if row["code"] not in _NOT_ENDS
        ]

    def _holds(self, event: int, last_event: int) -> list[JobEnd]:
        rows = self._db.execute(
            f"{_JOB_EVENTS} AND events.reason_code = '{ReasonCode.FAILURE_LIMIT}' ORDER BY event",
            (event, last_event),
        )
        # one failure holds jobs of one run, at one time
        holds = groupby(rows, key=lambda row: (row["run"], row["root"], row["at"], row["reason"]))
        return [self._hold([*jobs]) for _, jobs in holds]

    def _hold(self, rows: Sequence[sqlite3.Row]) -> JobEnd:
        first = rows[0]
        reason = reason_of(first["code"], first["reason"], first["data"])
        failed = reason.data.get("job")
        job = failed if isinstance(failed, int) else first["job"]
        found = self._db.execute("SELECT name FROM jobs WHERE id = ?", (job,)).fetchone()
        return JobEnd(
            event=first["event"],
            job=job,
            name=found["name"] if found else f"job {job}",
            run=first["run"],
            root=first["root"],
            notify=_run_notify(first["notify"]),
            state=State.HELD,
            reason=reason,
            at=first["at"],
            is_requested=any(row["wanted"] for row in rows),
            held=len(rows),
            selection=words_for_jobs(first["run"], {row["job"]: row["name"] for row in rows}),
        )

    def duration(self, job: int) -> float | None:
        """Return the seconds of the newest attempt of a job, None if it has not run."""
        attempt = self._read.newest_attempts([job]).get(job)
        return None if attempt is None else attempt.seconds

    def failures(self, run: int, event: int) -> tuple[RunFailure, ...]:
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
            RunFailure(
                row["job"],
                row["name"],
                reason_of(row["code"], row["reason"], row["data"]),
                row["alike"],
            )
            for row in rows
        )

    def _read_runs(self, event: int, last_event: int) -> list[RunEvents]:
        rows = self._db.execute(
            "SELECT runs.id AS id, runs.name AS name, root, notify, min(events.at) AS first_at,"
            " max(events.at) AS last_at,"
            " count(*) FILTER (WHERE events.state = 'failed') AS failed,"
            " count(*) FILTER (WHERE events.state = 'failed' AND events.reason_code = ?) AS short"
            " FROM events JOIN jobs ON jobs.id = events.job JOIN runs ON runs.id = jobs.run"
            " WHERE events.id > ? AND events.id <= ? GROUP BY runs.id",
            (ReasonCode.OUT_OF_MEMORY, event, last_event),
        ).fetchall()
        return [self._build_run_events(row, event) for row in rows]

    def _build_run_events(self, row: sqlite3.Row, event: int) -> RunEvents:
        totals = self._read.counts(row["id"])
        happened = (
            (NotifyEvent.OUT_OF_MEMORY, row["short"]),
            (NotifyEvent.FIRST_FAILURE, row["failed"]),
        )
        return RunEvents(
            id=row["id"],
            name=row["name"],
            root=row["root"],
            notify=_run_notify(row["notify"]),
            since=row["first_at"],
            after=event,
            last_at=row["last_at"],
            open=sum(totals.get(state, 0) for state in OPEN_STATES),
            totals={state: number for state, number in totals.items() if number},
            happened=tuple(what for what, number in happened if number),
        )

    def count_ended_since(self, run: int, start_time: float) -> dict[State, int]:
        """Return how many jobs of a run ended since a time, by their states."""
        rows = self._db.execute(
            f"SELECT state, count(*) AS n FROM jobs WHERE run = ? AND state IN ({_ENDED})"
            " AND ended >= ? GROUP BY state",
            (run, start_time),
        )
        return {known_state(row["state"]): row["n"] for row in rows}


def _run_notify(text: str | None) -> RunNotify:
    return run_notify_from_record(known_record(text)) if text else AS_CONFIGURED
