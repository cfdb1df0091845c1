"""The queue on disk: how jobs come into it, as rows with what they need, or in the place of a waiting one.

The scheduler's side is `scheduler_actions`, the owners' `steering`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.context import Context
from launcher.errors import StoreError
from launcher.job import Spec
from launcher.job_options.notifications import AS_CONFIGURED, RunNotify
from launcher.states import ENDED, Reason, ReasonCode, State
from launcher.store.connection import Connection, reason_columns
from launcher.store.job_queries import JobQueries
from launcher.store.lanes import lane_of, rank_of
from launcher.store.opening import open_database, open_to_read
from launcher.store.scheduler_actions import Scheduling
from launcher.store.steering import Steering
from launcher.stored_specs import SpecWriter
from launcher.system.files import file_number
from launcher.system.paths import Home

NEW_NEED = "INSERT INTO needs (job, need, any_end) VALUES (?, ?, ?)"
COLUMNS = (
    "run, name, kind, state, priority, hash, spec, context, reason_code, reason, reason_data,"
    " submitted, lane, rank, sources"
)
MARKS = ", ".join("?" * 15)
_FIRST_EVENTS = (  # of the jobs from a number on
    "INSERT INTO events (at, job, state, reason_code, reason, reason_data)"
    " SELECT ?, id, state, reason_code, reason, reason_data FROM jobs WHERE id >= ? ORDER BY id"
)
_REPLACED_COLUMNS = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[2:])


def need_rows(
    job: int, needs: Sequence[int], after_any: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Return what a job waits for as rows; the end of a job that must be done is not one besides."""
    rows = [(job, need, 0) for need in needs]
    return rows + [(job, need, 1) for need in after_any if need not in needs]


class RowWriter:
    """What new jobs of a run have in common, looked up once for all of them. Inside `writing`.

    It is forgotten afterwards: a transaction that is rolled back takes what was stored with it.
    """

    def __init__(self, connection: Connection, run: int, context: Context, number: int) -> None:
        """Begin with nothing looked up.

        Args:
            connection: to the queue.
            run: the number of their run.
            context: in which they run.
            number: of the context.
        """
        self._db, self._run = connection, run
        self._context, self._context_number = context, number
        self._writer = SpecWriter()
        self._lanes: dict[tuple[object, ...], int] = {}
        # by id(): jobs share the very same objects, which are held meanwhile
        self._sources: dict[int, tuple[Mapping[str, str], int | None]] = {}

    def columns(
        self, spec: Spec, state: State, reason: tuple[str, str, str | None], now: float
    ) -> tuple[object, ...]:
        """Return a job's row."""
        return (
            self._run,
            spec.name,
            spec.kind,
            state,
            spec.priority,
            spec.hash,
            self._writer.text(spec),
            self._context_number,
            *reason,
            now,
            self._lane(spec),
            rank_of(now, spec.priority),
            self._sources_of(spec),
        )

    def _sources_of(self, spec: Spec) -> int | None:
        shared = self._sources.get(id(spec.sources))
        if shared is None:
            number = self._db.sources_number(spec.sources)
            shared = self._sources[id(spec.sources)] = spec.sources, number
        return shared[1]

    def _lane(self, spec: Spec) -> int:
        """Return the number of a job's lane, made if it is new."""
        memory = spec.signature if spec.resources.may_need_gpu else ""
        terms = spec.terms.group, spec.terms.time_limit_s, spec.terms.on
        alike = (spec.resources, memory, *terms, spec.entry != "", spec.preload)
        if alike not in self._lanes:
            self._lanes[alike] = self._db.lane_number(lane_of(spec, self._context).key)
        return self._lanes[alike]


NEW = Reason(code=ReasonCode.NEW, text="new")


class NewJob(NamedTuple):
    """A job on its way into the queue; it starts after other jobs, by their numbers."""

    spec: Spec
    needs: Sequence[int] = ()  # that must be done
    after_any: Sequence[int] = ()  # that must have ended, done or not
    state: State = State.QUEUED  # or held
    reason: Reason = NEW


class Store:
    """One connection to the queue's database; use it from one thread.

    `read` answers questions, those inside `reading` as of one moment; `scheduling` is for the scheduler,
    `steering` for those who own jobs.
    """

    def __init__(
        self, home: Home, *, durable: bool = True, check: bool = False, reading: bool = False
    ) -> None:
        """Open the database, and make it or bring it up to date where needed.

        Args:
            home: must exist on disk.
            durable: each commit is synced, so that a job that is queued, claimed or ended is that
                after a power cut, too.
            check: read the database through first, and see that it holds together.
            reading: for questions only: not one byte of it is changed, and an old one stays as it is.

        Raises:
            StoreError: it cannot be opened, or is damaged, or newer than this program.
        """
        self.home, self._path = home, home.database
        before = file_number(home.database)
        if reading:
            database = open_to_read(home.database)
        else:
            database = open_database(home.database, durable=durable, check=check)
        self._file = before or file_number(home.database)
        self._db = Connection(database, home.database)
        self.writing, self.unsynced = self._db.writing, self._db.unsynced
        self.reading, self.event = self._db.reading, self._db.event
        self.read = JobQueries(database)
        self.database = database  # for questions of this package that few commands ask
        self.scheduling = Scheduling(self._db)
        self.steering = Steering(self._db, self.read)

    def close(self) -> None:
        """Give the connection back."""
        self._db.close()

    def is_current(self) -> bool:
        """Tell whether the file that was opened still lies at its path: not moved, not replaced."""
        return file_number(self._path) == self._file

    # --- inside `writing`

    def run(self, root: Path, name: str, *, share: float | None = None) -> int:
        """Return the id of the run `name` under `root`, made if it is new. Inside `writing`.

        Args:
            root: where its results lie, in `runs`.
            name: its name.
            share: of the machine; None: the one that it has.
        """
        row = self._db.execute(
            "INSERT INTO runs (name, root) VALUES (?, ?) "
            "ON CONFLICT (root, name) DO UPDATE SET name = excluded.name RETURNING id",
            (name, str(root)),
        ).fetchone()
        run = int(row["id"])
        if share is not None:
            self._db.execute("UPDATE runs SET share = ? WHERE id = ?", (share, run))
        return run

    def set_notify(self, run: int, notify: RunNotify) -> None:
        """Set what a run's owner is told of it. Inside `writing`."""
        text = None if notify == AS_CONFIGURED else json.dumps(notify.record())
        self._db.execute("UPDATE runs SET notify = ? WHERE id = ?", (text, run))

    def context(self, context: Context) -> int:
        """Return the id of a context, stored if it is new. Inside `writing`."""
        body = json.dumps(context._asdict())
        row = self._db.execute(
            "INSERT INTO contexts (digest, body) VALUES (?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET body = excluded.body RETURNING id",
            (context.digest, body),
        ).fetchone()
        return int(row["id"])

    def next_number(self) -> int:
        """Return the number that the next new job gets. Inside `writing`."""
        row = self._db.execute(
            "SELECT seq + 1 AS n FROM sqlite_sequence WHERE name = 'jobs'"
        ).fetchone()
        return int(row["n"]) if row else 1

    def put(self, run: int, context: Context, new: NewJob, now: float) -> int:
        """Insert a job, or replace one that is not running, and return its id. Inside `writing`.

        A job that needs one that failed, or was cancelled or skipped, is skipped at once.

        Raises:
            StoreError: a job of this name runs.
        """
        spec = new.spec
        replaced = self._db.execute(
            "SELECT 1 FROM jobs WHERE run = ? AND name = ?", (run, spec.name)
        ).fetchone()
        row = self._db.execute(
            f"INSERT INTO jobs ({COLUMNS}) VALUES ({MARKS}) "
            f"ON CONFLICT (run, name) DO UPDATE SET {_REPLACED_COLUMNS},"
            " wish = '', ended = NULL, outputs = '{}', failures = 0, lost = 0, excused = 0"
            " WHERE state <> 'running' RETURNING id",
            RowWriter(self._db, run, context, self.context(context)).columns(
                new.spec, new.state, reason_columns(new.reason), now
            ),
        ).fetchone()
        if row is None:
            raise StoreError(f"{spec.name} has just started, nothing was changed")
        job = int(row["id"])
        if not replaced:
            self._count_new(run, [new])
        self._db.event(job, new.state, new.reason, now)
        self._db.execute("DELETE FROM timers WHERE job = ?", (job,))
        self._set_timer(job, new)
        self.set_needs(job, new.needs, now, after_any=new.after_any)
        self._db.count_waits(self._db.numbers("SELECT job FROM needs WHERE need = ?", job))
        return job

    def accept(self, job: int, spec: Spec, reason: Reason, now: float) -> None:
        """Record a job that is done as done by another spec, with its result as it is. Inside `writing`."""
        changed = self._db.execute(
            "UPDATE jobs SET hash = ?, spec = ?, sources = ?, reason_code = ?, reason = ?,"
            " reason_data = ? WHERE id = ? AND state = 'done'",
            (
                spec.hash,
                SpecWriter().text(spec),
                self._db.sources_number(spec.sources),
                *reason_columns(reason),
                job,
            ),
        )
        if changed.rowcount:
            self._db.event(job, State.DONE, reason, now)

    def set_needs(
        self, job: int, needs: Sequence[int], now: float, *, after_any: Sequence[int] = ()
    ) -> None:
        """Set the jobs that must be done before a waiting one. Inside `writing`.

        If one of them failed, or was cancelled or skipped, the job is skipped at once.

        Args:
            job: which waits.
            needs: which must be done.
            now: seconds since 1970.
            after_any: which must have ended, done or not.
        """
        self._db.execute("DELETE FROM needs WHERE job = ?", (job,))
        self._db.executemany(NEW_NEED, need_rows(job, needs, after_any))
        self._db.count_waits([job])
        self._skip_if_hopeless(job, needs, now)

    def put_new(self, run: int, context: Context, jobs: Iterable[NewJob], now: float) -> list[int]:
        """Insert jobs whose names are new in the run, and return their ids. Inside `writing`.

        As `put`, but quick for very many; a need may be the id that an earlier one of them gets.
        """
        first, fresh = self.next_number(), list(jobs)
        self._insert(run, context, first, fresh, now)
        self._count_new(run, fresh)
        self._db.executemany(
            NEW_NEED,
            (
                row
                for index, new in enumerate(fresh)
                for row in need_rows(first + index, new.needs, new.after_any)
            ),
        )
        needy = [first + index for index, new in enumerate(fresh) if new.needs]
        for index, new in enumerate(fresh):
            self._set_timer(first + index, new)
        skipped: set[int] = set()
        for job in needy:
            needs = fresh[job - first].needs
            suspects = [need for need in needs if need < first or need in skipped]
            if suspects and self._skip_if_hopeless(job, suspects, now):
                skipped.add(job)
        return list(range(first, first + len(fresh)))

    def _insert(
        self, run: int, context: Context, first: int, fresh: Sequence[NewJob], now: float
    ) -> None:
        """Insert new jobs from number `first` on, and the events of their beginning."""
        common = RowWriter(self._db, run, context, self.context(context))
        before = {need for new in fresh for need in (*new.needs, *new.after_any) if need < first}
        states = {need: self._db.state_of(need) for need in before}
        fresh_done = {first + n for n, new in enumerate(fresh) if new.state is State.DONE}
        done = fresh_done | {need for need in before if states[need] is State.DONE}
        ended = fresh_done | {need for need in before if states[need] in ENDED}

        def waits(new: NewJob) -> int:
            if not new.needs and not new.after_any:
                return new.spec.terms.not_before is not None
            timed = new.spec.terms.not_before is not None
            undone = len(new.needs) - sum(need in done for need in new.needs)
            awaited = sum(need not in ended | set(new.needs) for need in new.after_any)
            return timed + undone + awaited

        written = {
            key: reason_columns(each)
            for key, each in {id(new.reason): new.reason for new in fresh}.items()
        }
        reasons = [written[id(new.reason)] for new in fresh]  # they share a few
        rows = (
            (job, waits(new), *common.columns(new.spec, new.state, reason, now))
            for job, (new, reason) in enumerate(zip(fresh, reasons, strict=True), first)
        )
        self._db.executemany(
            f"INSERT INTO jobs (id, waits, {COLUMNS}) VALUES (?, ?, {MARKS})", rows
        )
        self._db.execute(_FIRST_EVENTS, (now, first))

    def _count_new(self, run: int, jobs: Iterable[NewJob]) -> None:
        """Count the new jobs of a run."""
        self._db.executemany(
            "INSERT INTO counters VALUES (?, ?, ?)"
            " ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n",
            [(run, state, n) for state, n in Counter(new.state for new in jobs).items()],
        )

    def _set_timer(self, job: int, new: NewJob) -> None:
        if new.spec.terms.not_before is not None:
            self._db.execute(
                "INSERT INTO timers (job, at) VALUES (?, ?)", (job, new.spec.terms.not_before)
            )

    def _skip_if_hopeless(self, job: int, needs: Iterable[int], now: float) -> bool:
        for need in needs:
            state = self._db.state_of(need)
            if state in ENDED and state is not State.DONE:
                reason = self._db.need_failed(need, state)
                skipped = self._db.move(job, State.SKIPPED, reason, now)
                if skipped:
                    self._db.propagate_end(job, State.SKIPPED, now)
                return skipped
        return False
