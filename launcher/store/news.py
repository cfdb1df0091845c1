"""What happened in runs since an event, for those who tell their owners of it."""

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from launcher.job_options.notifications import AS_CONFIGURED, RunNotify, recorded_run_notify
from launcher.states import ENDED, OPEN, Reason, ReasonCode, State
from launcher.store.connection import known_record, known_state, reason_of

MOST_FAILURES = 10  # of a run, in words: so many that had too little memory; the rest is counted
_OLDEST_S = 600.0  # who begins to listen hears of what happened so long before
_NEWEST_EVENTS = 10_000  # among which that is looked for
_ENDED = ", ".join(f"'{state}'" for state in ENDED)


class Failure(NamedTuple):
    """A job that has failed and is not tried again."""

    job: int
    name: str
    reason: Reason
    alike: int  # jobs of its run that failed so, it among them: for too little memory, or otherwise


class RunNews(NamedTuple):
    """A run of which something was heard."""

    id: int
    name: str
    root: str
    notify: RunNotify
    first_at: float  # when the first of what happened did
    last_at: float  # and the last
    open: int  # jobs that have not ended, now
    totals: Mapping[State, int]  # of all its jobs, now
    failed: int = 0  # jobs that failed meanwhile
    out_of_memory: int = 0  # those of them that had too little memory


class News(NamedTuple):
    """What happened after an event, up to another one."""

    upto: int  # the number of the last event
    runs: tuple[RunNews, ...] = ()


class RunNewsReader:
    """The questions of who tells a queue's owner what happens; none of them changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def newest(self) -> int:
        """Return the number of the last event, 0 where there is none."""
        (newest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(newest)

    def beginning(self, now: float) -> int:
        """Return the number after which who has never listened before begins."""
        newest = self.newest()
        (before,) = self._db.execute(
            "SELECT max(id) FROM (SELECT id, at FROM events ORDER BY id DESC LIMIT ?) WHERE at < ?",
            (_NEWEST_EVENTS, now - _OLDEST_S),
        ).fetchone()
        return max(0, newest - _NEWEST_EVENTS) if before is None else int(before)

    def since(self, event: int) -> News:
        """Return what happened after an event, as of one moment."""
        self._db.execute("BEGIN")
        try:
            upto = self.newest()
            return News(upto=upto, runs=self._runs(event, upto))
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
            " FROM events JOIN jobs ON jobs.id = events.job"
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
                job=row["job"],
                name=row["name"],
                reason=reason_of(row["code"], row["reason"], row["data"]),
                alike=row["alike"],
            )
            for row in rows
        )

    def _runs(self, event: int, upto: int) -> tuple[RunNews, ...]:
        rows = self._db.execute(
            "SELECT runs.id AS id, runs.name AS name, root, notify, min(events.at) AS first_at,"
            " max(events.at) AS last_at,"
            " count(*) FILTER (WHERE events.state = 'failed') AS failed,"
            " count(*) FILTER (WHERE events.state = 'failed' AND events.reason_code = ?) AS short"
            " FROM events JOIN jobs ON jobs.id = events.job JOIN runs ON runs.id = jobs.run"
            " WHERE events.id > ? AND events.id <= ? GROUP BY runs.id",
            (ReasonCode.OUT_OF_MEMORY, event, upto),
        ).fetchall()
        news = []
        for row in rows:
            totals = self._totals(row["id"])
            news.append(
                RunNews(
                    id=row["id"],
                    name=row["name"],
                    root=row["root"],
                    notify=recorded_run_notify(known_record(row["notify"]))
                    if row["notify"]
                    else AS_CONFIGURED,
                    first_at=row["first_at"],
                    last_at=row["last_at"],
                    open=sum(totals.get(state, 0) for state in OPEN),
                    totals=totals,
                    failed=row["failed"],
                    out_of_memory=row["short"],
                )
            )
        return tuple(news)

    def _totals(self, run: int) -> dict[State, int]:
        rows = self._db.execute("SELECT state, n FROM counters WHERE run = ? AND n > 0", (run,))
        return {known_state(row["state"]): row["n"] for row in rows}

    def ended_since(self, run: int, since: float) -> dict[State, int]:
        """Return how many jobs of a run ended since a time, by their states."""
        rows = self._db.execute(
            f"SELECT state, count(*) AS n FROM jobs WHERE run = ? AND state IN ({_ENDED})"
            " AND ended >= ? GROUP BY state",
            (run, since),
        )
        return {known_state(row["state"]): row["n"] for row in rows}
