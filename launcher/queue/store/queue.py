"""The queue on disk: insertion of jobs as rows with their dependencies, or in place of a waiting job.

The other objects of a store each own the operations on one subject.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Home
from launcher.queue.job_options.notifications import AS_CONFIGURED, RunNotify
from launcher.queue.jobs.context import OUTPUTS, Context, file_paths
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.job_folders import with_folder_suffix
from launcher.queue.jobs.states import ENDED_STATES, Reason, ReasonCode, State
from launcher.queue.jobs.stored_specs import SpecWriter
from launcher.queue.store.claims import Claims
from launcher.queue.store.connection import PORTION, Connection, reason_columns
from launcher.queue.store.gpu_numbers import lane_with_gpu
from launcher.queue.store.job_queries import JobQueries
from launcher.queue.store.lanes import lane_of, rank_of
from launcher.queue.store.opening import open_database, open_database_readonly
from launcher.queue.store.queued_code import QueuedCode, ensure_code, renewed_code
from launcher.queue.store.ready_jobs import ReadyJobs
from launcher.queue.store.rows import GroupLimit, JobRow
from launcher.queue.store.running_jobs import RunningJobs
from launcher.queue.store.searches import Searches
from launcher.queue.store.steering import JobControl
from launcher.queue.store.transitions import Transitions
from launcher.queue.store.usage_records import UsageRecords
from launcher.system.errors import StoreError
from launcher.system.files import device_and_inode

NEW_DEPENDENCY = "INSERT INTO needs (job, need, any_end) VALUES (?, ?, ?)"
JOB_COLUMNS = (
    "run, name, kind, state, priority, hash, spec, context, reason_code, reason, reason_data,"
    " submitted, lane, rank, sources, code, note"
)
JOB_PLACEHOLDERS = ", ".join("?" * 17)
_FIRST_EVENTS = (  # first events of the jobs between two numbers
    "INSERT INTO events (at, job, state, reason_code, reason, reason_data)"
    " SELECT ?, id, state, reason_code, reason, reason_data FROM jobs WHERE id BETWEEN ? AND ?"
    " ORDER BY id"
)
_HELD = "id BETWEEN ? AND ? AND +state = 'held'"
_EVENTS_OF_HELD = (
    "INSERT INTO events (at, job, state, reason_code, reason, reason_data)"
    f" SELECT ?, id, ?, ?, ?, ? FROM jobs WHERE {_HELD} ORDER BY id"
)
_START_HELD = (
    f"UPDATE jobs SET state = ?, reason_code = ?, reason = ?, reason_data = ? WHERE {_HELD}"
)
# the note that its owner wrote stays where a new job of the name brings none
_REPLACED_COLUMNS = ", ".join(
    [
        *(f"{name} = excluded.{name}" for name in JOB_COLUMNS.split(", ")[2:-1]),
        "note = coalesce(nullif(excluded.note, ''), note)",
    ]
)


def dependency_rows(
    job: int, needs: Sequence[int], after_any: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Return what a job waits for as rows; the end of a job that must be done is not one besides."""
    rows, needed = [(job, need, 0) for need in needs], {*needs}
    return rows + [(job, need, 1) for need in after_any if need not in needed]


class JobRowWriter:
    """Common data of new jobs of a run, read once for all of them. Inside `writing`.

    It must be discarded afterwards, because a rollback removes the rows that were stored with it.
    """

    def __init__(
        self,
        connection: Connection,
        run: int,
        context: Context,
        context_number: int,
        code: QueuedCode | None,
    ) -> None:
        """Start without cached rows.

        Args:
            connection: Connection to the queue.
            run: Number of their run.
            context: Context in which they run.
            context_number: Number of the context.
            code: What is noted of their code.
        """
        self._db, self._run = connection, run
        self._context, self._context_number = context, context_number
        self._code_number = ensure_code(connection, code)
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
            self._lane_number(spec),
            rank_of(now, spec.priority),
            self._sources_number(spec),
            self._code_number,
            spec.terms.note,
        )

    def _sources_number(self, spec: Spec) -> int | None:
        shared = self._sources.get(id(spec.sources))
        if shared is None:
            number = self._db.ensure_sources(spec.sources)
            shared = self._sources[id(spec.sources)] = spec.sources, number
        return shared[1]

    def _lane_number(self, spec: Spec) -> int:
        """Return the number of a job's lane, made if it is new."""
        memory = spec.signature if spec.resources.may_need_gpu else ""
        terms = spec.terms.group, spec.terms.time_limit_s, spec.terms.on
        alike = (spec.resources, memory, *terms, spec.entry != "", spec.preload)
        if alike not in self._lanes:
            lane = lane_with_gpu(lane_of(spec, self._context), self._db.path.parent)
            self._lanes[alike] = self._db.ensure_lane(lane.key)
        return self._lanes[alike]


NEW = Reason(code=ReasonCode.NEW, text="new")
INCOMPLETE = Reason(code=ReasonCode.HELD, text="held until all jobs of its command are queued")
NEEDS_PER_JOB = 20  # dependencies take as long to write as one job


class NewJob(NamedTuple):
    """A job on its way into the queue; it starts after other jobs, by their numbers."""

    spec: Spec
    dependencies: Sequence[int] = ()  # jobs that must be done
    after_any: Sequence[int] = ()  # jobs that must have ended, done or not
    state: State = State.QUEUED  # State.QUEUED or State.HELD
    reason: Reason = NEW


def _portion_size(jobs: Sequence[NewJob]) -> int:
    """Return how many of these jobs are inserted in one transaction."""
    most = max((len(new.dependencies) + len(new.after_any) for new in jobs), default=0)
    return max(1, PORTION // (1 + most // NEEDS_PER_JOB))


class Store:
    """The queue: inserts jobs, and opens the objects that own the other operations. Use it from one thread.

    Attributes:
        home: Queue folder.
        database: The connection of all of them, with its transactions.
        read: Queries; those inside `database.reading` see one state.
        job_control: Changes that the owners of jobs request.
        ready_jobs: Jobs that wait only for resources.
        claims: Attempts from their claim on.
        running_jobs: Requests for running jobs, and why one is held up.
        transitions: Ends of attempts, with their consequences for jobs.
        usage_records: Usage of earlier attempts.
        searches: Searches that choose the values of their next jobs.
    """

    def __init__(
        self, home: Home, *, durable: bool = True, check: bool = False, reading: bool = False
    ) -> None:
        """Open the database, and create or migrate it if necessary.

        Args:
            home: Must exist on disk.
            durable: Each commit is synced, so that a job stays queued, claimed or ended after a
                power cut.
            check: Check the integrity of the database first.
            reading: Open for reading only. No byte of it is changed.

        Raises:
            StoreError: It cannot be opened, is damaged, or was written by a development version or by
                a newer launcher.
        """
        self.home = home
        before = device_and_inode(home.database)
        if reading:
            self.database = open_database_readonly(home.database)
        else:
            self.database = open_database(home.database, durable=durable, check=check)
        self._file = before or device_and_inode(home.database)
        self.read = JobQueries(self.database)
        self.usage_records = UsageRecords(self.database)
        self.ready_jobs = ReadyJobs(self.database, self.usage_records)
        self.claims, self.running_jobs = Claims(self.database), RunningJobs(self.database)
        self.transitions = Transitions(self.database, self.usage_records)
        self.job_control = JobControl(self.database, self.read)
        self.searches = Searches(self.database)

    def close(self) -> None:
        """Close the connection."""
        self.database.close()

    def is_current(self) -> bool:
        """Whether the opened file is still at its path: not renamed and not replaced."""
        return device_and_inode(self.home.database) == self._file

    # --- inside `writing`

    def ensure_run(self, root: Path, name: str, *, share: float | None = None) -> int:
        """Return the id of the run `name` under `root`, made if it is new. Inside `writing`.

        Args:
            root: where its results lie, in `runs`.
            name: its name.
            share: share of the machine; None: the present share.
        """
        row = self.database.execute(
            "INSERT INTO runs (name, root) VALUES (?, ?) "
            "ON CONFLICT (root, name) DO UPDATE SET name = excluded.name RETURNING id",
            (name, str(root)),
        ).fetchone()
        run = int(row["id"])
        if share is not None:
            self.database.execute("UPDATE runs SET share = ? WHERE id = ?", (share, run))
        return run

    def ensure_group(self, limit: GroupLimit) -> None:
        """Add a group with its limit if it is new. Inside `writing`."""
        self.database.execute(
            "INSERT OR IGNORE INTO groups (name, slots) VALUES (?, ?)", (limit.name, limit.slots)
        )

    def set_notify(self, run: int, notify: RunNotify) -> None:
        """Set the notifications for the owner of a run. Inside `writing`."""
        text = None if notify == AS_CONFIGURED else json.dumps(notify.to_json())
        self.database.execute("UPDATE runs SET notify = ? WHERE id = ?", (text, run))

    def ensure_context(self, context: Context) -> int:
        """Return the id of a context, stored if it is new. Inside `writing`."""
        body = json.dumps(context._asdict())
        row = self.database.execute(
            "INSERT INTO contexts (digest, body) VALUES (?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET body = excluded.body RETURNING id",
            (context.digest, body),
        ).fetchone()
        return int(row["id"])

    def next_job_number(self) -> int:
        """Return the number that the next new job gets. Inside `writing`."""
        row = self.database.execute(
            "SELECT seq + 1 AS n FROM sqlite_sequence WHERE name = 'jobs'"
        ).fetchone()
        return int(row["n"]) if row else 1

    def insert_or_replace(
        self,
        run: int,
        context: Context,
        new_job: NewJob,
        now: float,
        code: QueuedCode | None = None,
    ) -> int:
        """Insert a job, or replace one that is not running, and return its id. Inside `writing`.

        A job that needs one that failed, or was cancelled or skipped, is skipped at once.

        Raises:
            StoreError: a job of this name runs.
        """
        spec = new_job.spec
        replaced = self.database.execute(
            "SELECT 1 FROM jobs WHERE run = ? AND name = ?", (run, spec.name)
        ).fetchone()
        row = self.database.execute(
            f"INSERT INTO jobs ({JOB_COLUMNS}) VALUES ({JOB_PLACEHOLDERS}) "
            f"ON CONFLICT (run, name) DO UPDATE SET {_REPLACED_COLUMNS},"
            " wish = '', ended = NULL, outputs = '{}', failures = 0, lost = 0, excused = 0"
            " WHERE state <> 'running' RETURNING id",
            JobRowWriter(self.database, run, context, self.ensure_context(context), code).columns(
                new_job.spec, new_job.state, reason_columns(new_job.reason), now
            ),
        ).fetchone()
        if row is None:
            raise StoreError(f"{spec.name} has just started, nothing was changed")
        job = int(row["id"])
        if not replaced:
            self._count_new_jobs(run, [new_job])
        self.database.add_event(job, new_job.state, new_job.reason, now)
        self.database.execute("DELETE FROM timers WHERE job = ?", (job,))
        self._set_timer(job, new_job)
        self.set_dependencies(job, new_job.dependencies, now, after_any=new_job.after_any)
        self.database.recount_waits(
            self.database.query_numbers("SELECT job FROM needs WHERE need = ?", job)
        )
        return job

    def insert_copy(self, row: JobRow, spec: Spec, reason: Reason, now: float) -> int:
        """Insert a job with another spec next to one that is done, and return its number. Inside `writing`.

        It has the environment of that job, and waits for the same jobs. If the name is the same, it is named by its
        number.

        Raises:
            Unreadable: the environment cannot be read.
        """
        context = self.read.context_of(row.id)
        needs = self.database.execute("SELECT need, any_end FROM needs WHERE job = ?", (row.id,))
        # lists of jobs to wait for: until done, until ended
        waits: tuple[list[int], list[int]] = ([], [])
        for need, any_end in needs:
            waits[any_end].append(need)
        number = self.next_job_number()
        if spec.name == row.spec.name:
            spec = spec._replace(name=f"{PROGRAM}/{number}")
            while self.read.existing_names(row.run_id, [spec.name]):
                spec = spec._replace(name=f"{spec.name}'")
        spec = with_folder_suffix(spec, number, None, self.home)
        if spec.outputs:
            outputs = file_paths(OUTPUTS, spec, context.folder, number)
            spec = spec._replace(outputs=outputs)
        job = NewJob(spec=spec, dependencies=waits[0], after_any=waits[1], reason=reason)
        code = renewed_code(self.database, row.code, now)
        self.insert_new(row.run_id, context, [job], now, code=code)
        return number

    def renew_context(
        self, job: int, context: Context, code: QueuedCode | None, now: float
    ) -> None:
        """Give a job that is queued again another context and other code. Inside `writing`."""
        self.database.execute(
            "UPDATE jobs SET context = ?, code = ? WHERE id = ?",
            (
                self.ensure_context(context),
                ensure_code(self.database, None if code is None else code.renew(now)),
                job,
            ),
        )

    def accept_result(self, job: int, spec: Spec, reason: Reason, now: float) -> None:
        """Record a job that is done as done by another spec, with its result as it is. Inside `writing`."""
        changed = self.database.execute(
            "UPDATE jobs SET hash = ?, spec = ?, sources = ?, reason_code = ?, reason = ?,"
            " reason_data = ? WHERE id = ? AND state = 'done'",
            (
                spec.hash,
                SpecWriter().text(spec),
                self.database.ensure_sources(spec.sources),
                *reason_columns(reason),
                job,
            ),
        )
        if changed.rowcount:
            self.database.add_event(job, State.DONE, reason, now)

    def set_dependencies(
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
        self.database.execute("DELETE FROM needs WHERE job = ?", (job,))
        self.database.executemany(NEW_DEPENDENCY, dependency_rows(job, needs, after_any))
        self.database.recount_waits([job])
        self._skip_if_dependency_failed(job, needs, now)

    def insert_new(
        self,
        run: int,
        context: Context,
        jobs: Iterable[NewJob],
        now: float,
        *,
        first: int | None = None,
        code: QueuedCode | None = None,
    ) -> list[int]:
        """Insert jobs whose names are new in the run, and return their ids. Inside `writing`.

        As `insert_or_replace`, but quick for very many; a need may be the id that an earlier one of them gets.

        Args:
            run: its number.
            context: context in which the jobs run.
            jobs: jobs in the order of their numbers.
            now: seconds since 1970.
            first: the first of the numbers that `reserve_numbers` reserved for them, None for the next ones.
            code: what is noted of their code.
        """
        first, fresh = self.next_job_number() if first is None else first, list(jobs)
        self._insert_rows(run, context, first, fresh, now, code=code)
        self._count_new_jobs(run, fresh)
        self.database.executemany(
            NEW_DEPENDENCY,
            (
                row
                for index, new in enumerate(fresh)
                for row in dependency_rows(first + index, new.dependencies, new.after_any)
            ),
        )
        needy = [first + index for index, new in enumerate(fresh) if new.dependencies]
        for index, new in enumerate(fresh):
            self._set_timer(first + index, new)
        skipped: set[int] = set()
        for job in needy:
            needs = fresh[job - first].dependencies
            suspects = [need for need in needs if need < first or need in skipped]
            if suspects and self._skip_if_dependency_failed(job, suspects, now):
                skipped.add(job)
        return list(range(first, first + len(fresh)))

    def reserve_numbers(self, jobs: Sequence[NewJob]) -> bool:
        """Reserve the next numbers if these jobs are too many for one transaction. Inside `writing`.

        Return whether they are. `insert_in_portions` inserts them then.
        """
        if _portion_size(jobs) >= len(jobs):
            return False
        last = self.next_job_number() + len(jobs) - 1
        self.database.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (last,))
        return True

    def insert_in_portions(
        self,
        run: int,
        context: Context,
        jobs: Sequence[NewJob],
        now: float,
        first: int,
        *,
        code: QueuedCode | None = None,
    ) -> list[int]:
        """Insert jobs as `insert_new` does, in several transactions. Outside `writing`.

        They are held until all of them are in the queue. If that is interrupted, they are deleted again.
        """
        numbers = range(first, first + len(jobs))
        held = [new._replace(state=State.HELD, reason=INCOMPLETE) for new in jobs]

        def insert(portion: Sequence[int]) -> None:
            some = held[portion[0] - first : portion[-1] + 1 - first]
            self.insert_new(run, context, some, now, first=portion[0], code=code)

        def start(portion: Sequence[int]) -> None:
            by_state = groupby(
                portion, lambda job: (jobs[job - first].state, jobs[job - first].reason)
            )
            for (state, reason), alike in by_state:
                group, columns = [*alike], reason_columns(reason)
                between = group[0], group[-1]
                self.database.execute(_EVENTS_OF_HELD, (now, state, *columns, *between))
                self.database.execute(_START_HELD, (state, *columns, *between))

        try:
            self.database.write_in_portions(numbers, insert, _portion_size(jobs))
        except BaseException:
            self.database.write_in_portions(numbers, self._delete_unstarted)
            raise
        self.database.write_in_portions(numbers, start)
        return [*numbers]

    def _delete_unstarted(self, jobs: Sequence[int]) -> None:
        """Delete held jobs that have never started, and what waits for them."""
        chosen = f"SELECT id FROM jobs WHERE {_HELD} AND attempts = 0"
        between = jobs[0], jobs[-1]
        self.database.execute(f"DELETE FROM needs WHERE need IN ({chosen})", between)
        self.database.execute(f"DELETE FROM jobs WHERE id IN ({chosen})", between)

    def _insert_rows(
        self,
        run: int,
        context: Context,
        first: int,
        new_jobs: Sequence[NewJob],
        now: float,
        *,
        code: QueuedCode | None,
    ) -> None:
        """Insert new jobs from number `first` on, and the events of their beginning."""
        common = JobRowWriter(self.database, run, context, self.ensure_context(context), code)
        before = {
            need for new in new_jobs for need in (*new.dependencies, *new.after_any) if need < first
        }
        states = {need: self.database.state_of(need) for need in before}
        fresh_done = {first + n for n, new in enumerate(new_jobs) if new.state is State.DONE}
        done = fresh_done | {need for need in before if states[need] is State.DONE}
        ended = fresh_done | {need for need in before if states[need] in ENDED_STATES}

        def waits(new: NewJob) -> int:
            if not new.dependencies and not new.after_any:
                return new.spec.terms.not_before is not None
            timed = new.spec.terms.not_before is not None
            undone = len(new.dependencies) - sum(need in done for need in new.dependencies)
            met = ended.union(new.dependencies) if new.dependencies else ended
            return timed + undone + sum(need not in met for need in new.after_any)

        written = {
            key: reason_columns(each)
            for key, each in {id(new.reason): new.reason for new in new_jobs}.items()
        }
        reasons = [written[id(new.reason)] for new in new_jobs]  # jobs share a few reasons
        rows = (
            (job, waits(new), *common.columns(new.spec, new.state, reason, now))
            for job, (new, reason) in enumerate(zip(new_jobs, reasons, strict=True), first)
        )
        self.database.executemany(
            f"INSERT INTO jobs (id, waits, {JOB_COLUMNS}) VALUES (?, ?, {JOB_PLACEHOLDERS})", rows
        )
        self.database.execute(_FIRST_EVENTS, (now, first, first + len(new_jobs) - 1))

    def _count_new_jobs(self, run: int, jobs: Iterable[NewJob]) -> None:
        """Count the new jobs of a run."""
        self.database.executemany(
            "INSERT INTO counters VALUES (?, ?, ?)"
            " ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n",
            [(run, state, n) for state, n in Counter(new.state for new in jobs).items()],
        )

    def _set_timer(self, job: int, new_job: NewJob) -> None:
        if new_job.spec.terms.not_before is not None:
            self.database.execute(
                "INSERT INTO timers (job, at) VALUES (?, ?)", (job, new_job.spec.terms.not_before)
            )

    def _skip_if_dependency_failed(self, job: int, needs: Iterable[int], now: float) -> bool:
        for need in needs:
            state = self.database.state_of(need)
            if state in ENDED_STATES and state is not State.DONE:
                reason = self.database.failed_dependency_reason(need, state)
                skipped = self.database.move_to_state(job, State.SKIPPED, reason, now)
                if skipped:
                    self.database.propagate_end(job, State.SKIPPED, now)
                return skipped
        return False
