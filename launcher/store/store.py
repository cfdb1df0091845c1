"""The queue on disk: what is written when a job is queued, claimed, ended, cancelled."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from launcher.errors import StoreError
from launcher.paths import Home
from launcher.specs import Context, Spec
from launcher.states import (
    NEXT,
    OPEN,
    Done,
    Failed,
    Lost,
    Outcome,
    State,
    Stopped,
    Void,
    outcome_record,
)
from launcher.store.migrations import check_sqlite, migrate
from launcher.store.reading import Reading
from launcher.store.rows import Claim, QueuedJob, claim_row

BUSY_MS = 10_000  # how long a writer waits for another; transactions take milliseconds
LOST_LIMIT = 5  # a job whose end was lost this often probably kills its machine
_COUNT_WAITS = (
    "UPDATE jobs SET waits = (SELECT count(*) FROM needs JOIN jobs AS needed"
    " ON needed.id = needs.need WHERE needs.job = jobs.id AND needed.state <> 'done')"
    " WHERE jobs.id"
)
_FROM = {
    state: tuple(source for source in State if state in NEXT[source]) for state in State
}  # who may become `state`


class Store:
    """One connection to the queue's database; use it from one thread."""

    def __init__(self, home: Home, *, durable: bool = True) -> None:
        """Open the database, and make it or bring it up to date where needed.

        Args:
            home: must exist on disk.
            durable: each commit is synced, so that a queued job survives a power cut. The
                scheduler can do without: what it writes can be told again from the attempts.

        Raises:
            StoreError: it cannot be opened, or is damaged, or newer than this program.
        """
        check_sqlite()
        with contextlib.suppress(FileExistsError):  # private before SQLite writes beside it
            os.close(os.open(home.database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            self._db = sqlite3.connect(home.database, timeout=BUSY_MS / 1000, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("PRAGMA foreign_keys = ON")
            migrate(self._db, str(home.database))
        except sqlite3.Error as error:
            raise StoreError(f"cannot open the queue {home.database}: {error}") from error
        self.read = Reading(self._db)

    def close(self) -> None:
        """Give the connection back."""
        self._db.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Make everything inside one transaction; all of it happens or nothing.

        Raises:
            StoreError: another process holds the database for too long, or the disk is full.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreError(f"cannot write to the queue: {error}") from error
        try:
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise StoreError(f"cannot write to the queue: {error}") from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    # --- queueing

    def run(self, root: Path, name: str) -> int:
        """Return the id of the run `name` under `root`, made if it is new. Inside `writing`."""
        row = self._db.execute(
            "INSERT INTO runs (name, root) VALUES (?, ?) "
            "ON CONFLICT (root, name) DO UPDATE SET name = excluded.name RETURNING id",
            (name, str(root)),
        ).fetchone()
        return int(row["id"])

    def context(self, context: Context) -> int:
        """Return the id of a context, stored if it is new. Inside `writing`."""
        body = json.dumps(context.record())
        row = self._db.execute(
            "INSERT INTO contexts (digest, body) VALUES (?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET body = excluded.body RETURNING id",
            (context.digest, body),
        ).fetchone()
        return int(row["id"])

    def put(
        self, run: int, context: int, spec: Spec, *, state: State, reason: str, now: float
    ) -> int:
        """Insert a job, or replace one that is not running, and return its id. Inside `writing`.

        `state` is where the job begins: queued or held, or done when its result is there already.
        Its needs are set by `set_needs`.
        """
        row = self._db.execute(
            "INSERT INTO jobs (run, name, kind, state, priority, hash, spec, context, reason,"
            " submitted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (run, name) DO UPDATE SET kind = excluded.kind, state = excluded.state,"
            " priority = excluded.priority, hash = excluded.hash, spec = excluded.spec,"
            " context = excluded.context, reason = excluded.reason, wish = '', ended = NULL,"
            " outputs = '{}', submitted = excluded.submitted WHERE state <> 'running' RETURNING id",
            (
                run,
                spec.name,
                spec.kind,
                state,
                spec.priority,
                spec.hash,
                json.dumps(spec.record()),
                context,
                reason,
                now,
            ),
        ).fetchone()
        if row is None:
            raise StoreError(f"{spec.name} started to run meanwhile; nothing was changed")
        job = int(row["id"])
        self._event(job, state, reason, now)
        self._db.execute(f"{_COUNT_WAITS} IN (SELECT job FROM needs WHERE need = ?)", (job,))
        return job

    def next_number(self) -> int:
        """Return the number that the next new job gets."""
        row = self._db.execute(
            "SELECT seq + 1 AS n FROM sqlite_sequence WHERE name = 'jobs'"
        ).fetchone()
        return int(row["n"]) if row else 1

    def set_needs(self, job: int, needs: Iterable[int]) -> None:
        """Say which jobs must be done before `job`, and count those that are not. Inside `writing`."""
        self._db.execute("DELETE FROM needs WHERE job = ?", (job,))
        self._db.executemany("INSERT INTO needs VALUES (?, ?)", [(job, need) for need in needs])
        self._db.execute(f"{_COUNT_WAITS} = ?", (job,))

    # --- the scheduler's side

    def ready(self, limit: int) -> list[QueuedJob]:
        """Return the queued jobs that wait for nothing, the most urgent first."""
        rows = self._db.execute(
            "SELECT id, spec, priority FROM jobs WHERE state = 'queued' AND waits = 0 "
            "ORDER BY priority DESC, id LIMIT ?",
            (limit,),
        )
        return [QueuedJob(row["id"], json.loads(row["spec"]), row["priority"]) for row in rows]

    def claim(
        self, job: int, *, boot: str, device: str, cpus: int, reason: str, now: float
    ) -> Claim | None:
        """Promise a queued job to a new attempt; None when it is not queued any more."""
        with self.writing():
            row = self._db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, reason = ?, wish = ''"
                " WHERE id = ? AND state = 'queued' AND waits = 0 RETURNING attempts",
                (reason, job),
            ).fetchone()
            if row is None:
                return None
            self._db.execute(
                "INSERT INTO attempts (job, number, boot, device, cpus, claimed)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (job, row["attempts"], boot, device, cpus, now),
            )
            self._event(job, State.RUNNING, reason, now)
        return next(claim for claim in self.claims() if claim.job == job)

    def claims(self) -> list[Claim]:
        """Return every attempt whose end is not known yet."""
        rows = self._db.execute(
            "SELECT attempts.*, jobs.spec, jobs.wish, contexts.body AS context FROM attempts"
            " JOIN jobs ON jobs.id = attempts.job JOIN contexts ON contexts.id = jobs.context"
            " WHERE attempts.outcome IS NULL ORDER BY attempts.job"
        )
        return [claim_row(row) for row in rows]

    def finish(
        self, claim: Claim, outcome: Outcome, *, outputs: Mapping[str, Sequence[int]], now: float
    ) -> State | None:
        """Take in how an attempt ended, and what follows for the job and those that need it.

        Returns the job's new state, or None when this end was taken in before.
        """
        with self.writing():
            taken = self._db.execute(
                "UPDATE attempts SET outcome = ?, ended = ? WHERE job = ? AND number = ?"
                " AND outcome IS NULL RETURNING number",
                (json.dumps(outcome_record(outcome)), outcome.at, claim.job, claim.number),
            ).fetchone()
            if taken is None:
                return None
            state, told = self._follows(claim, outcome)
            # a program's last words may hold what SQLite takes for no text
            reason = told.encode(errors="backslashreplace").decode()
            if self._move(claim.job, state, reason, now, only_from=State.RUNNING):
                self._after(claim.job, state, outcome, outputs, now)
            return state

    def _follows(self, claim: Claim, outcome: Outcome) -> tuple[State, str]:
        (wish,) = self._db.execute("SELECT wish FROM jobs WHERE id = ?", (claim.job,)).fetchone()
        match outcome:
            case Done():
                return State.DONE, "done"
            case Failed(error=error):
                return State.FAILED, error
            case Stopped() | Lost() | Void() if wish == "cancel":
                return State.CANCELLED, "cancelled by its owner"
            case Stopped():
                return State.QUEUED, "stopped, goes on later"
            case Void():
                return State.QUEUED, "was not started"
            case Lost(why=why):
                (lost,) = self._db.execute(
                    "SELECT count(*) FROM attempts"
                    " WHERE job = ? AND json_extract(outcome, '$.ending') = 'lost'",
                    (claim.job,),
                ).fetchone()
                if lost >= LOST_LIMIT:
                    return State.FAILED, f"lost {lost} times, the last time: {why}"
                return State.QUEUED, f"lost ({why}), runs again"

    def _after(
        self,
        job: int,
        state: State,
        outcome: Outcome,
        outputs: Mapping[str, Sequence[int]],
        now: float,
    ) -> None:
        self._db.execute("UPDATE jobs SET wish = '' WHERE id = ?", (job,))
        if state is State.DONE and isinstance(outcome, Done):
            self._db.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?)",
                (job, outcome.at, json.dumps(dict(outcome.result))),
            )
            self._db.execute(
                "UPDATE jobs SET outputs = ? WHERE id = ?", (json.dumps(dict(outputs)), job)
            )
            self._db.execute(
                "UPDATE jobs SET waits = waits - 1"
                " WHERE id IN (SELECT job FROM needs WHERE need = ?) AND waits > 0",
                (job,),
            )
        elif state in {State.FAILED, State.CANCELLED}:
            self._skip_dependants(job, state, now)

    def _skip_dependants(self, job: int, state: State, now: float) -> None:
        rows = self._db.execute(
            "WITH RECURSIVE below(id) AS (SELECT job FROM needs WHERE need = ?1"
            " UNION SELECT needs.job FROM needs JOIN below ON needs.need = below.id)"
            " SELECT id FROM below",
            (job,),
        ).fetchall()
        (name,) = self._db.execute("SELECT name FROM jobs WHERE id = ?", (job,)).fetchone()
        for row in rows:
            self._move(row["id"], State.SKIPPED, f"needs {name}, which {_was(state)}", now)

    def _move(
        self, job: int, state: State, reason: str, now: float, *, only_from: State | None = None
    ) -> bool:
        sources = _FROM[state] if only_from is None else (only_from,)
        marks = ",".join("?" * len(sources))
        moved = self._db.execute(
            f"UPDATE jobs SET state = ?, reason = ?, ended = ? WHERE id = ? AND state IN ({marks})",
            (state, reason, None if state in OPEN else now, job, *sources),
        )
        if moved.rowcount != 1:
            return False
        self._event(job, state, reason, now)
        return True

    def _event(self, job: int, state: State, reason: str, now: float) -> None:
        self._db.execute(
            "INSERT INTO events (at, job, state, reason) VALUES (?, ?, ?, ?)",
            (now, job, state, reason),
        )

    def note(self, reasons: Mapping[int, str]) -> None:
        """Write why jobs still wait, where that changed."""
        if reasons:
            with self.writing():
                self._db.executemany(
                    "UPDATE jobs SET reason = ?2 WHERE id = ?1 AND state = 'queued'"
                    " AND reason <> ?2",
                    list(reasons.items()),
                )

    # --- what a person asks for

    def cancel(self, jobs: Sequence[int], now: float) -> list[int]:
        """Cancel what waits, ask for the end of what runs; return the jobs that this concerns."""
        with self.writing():
            # the newest first: what needs another of them is cancelled itself, not skipped
            touched = [
                job
                for job in sorted(jobs, reverse=True)
                if self._move_waiting(job, now) or self._wish(job, "cancel")
            ]
        return touched[::-1]

    def _move_waiting(self, job: int, now: float) -> bool:
        for source in (State.QUEUED, State.HELD):
            if self._move(job, State.CANCELLED, "cancelled by its owner", now, only_from=source):
                self._skip_dependants(job, State.CANCELLED, now)
                return True
        return False

    def _wish(self, job: int, wish: str) -> bool:
        changed = self._db.execute(
            "UPDATE jobs SET wish = ? WHERE id = ? AND state = 'running'", (wish, job)
        )
        return changed.rowcount == 1


def _was(state: State) -> str:
    return "was cancelled" if state is State.CANCELLED else "failed"
