"""Jobs that wait only for resources: of each job class the first, with all that decides whether it starts."""

import json
from collections.abc import Mapping
from operator import itemgetter

from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.signatures import ignored_numbers, is_exact_signature
from launcher.queue.jobs.states import Reason
from launcher.queue.store.connection import Connection, reason_columns
from launcher.queue.store.job_repair import fail_unreadable_lanes
from launcher.queue.store.lanes import Lane, read_lane
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.runs import JobClass, QueueHeads
from launcher.queue.store.usage_records import UsageRecords
from launcher.system.executables import program_of
from launcher.system.stored_fields import Unreadable, parse_record, read_texts

MOST_PROGRAMS = 100_000  # programs whose command lines are kept in memory
_WAITING_BY_LANE = (
    "SELECT lane, count(*) FROM jobs WHERE state = 'queued' AND waits = 0 GROUP BY lane"
)
_NEXT_IN_CLASS = (
    "SELECT rank, id FROM jobs WHERE state = 'queued' AND waits = 0 AND priority = ? AND run = ?"
    " AND lane = ? AND NOT EXISTS (SELECT 1 FROM needs WHERE need = ?) ORDER BY rank, id LIMIT 1"
)


class ReadyJobs:
    """The jobs that wait for nothing."""

    def __init__(self, connection: Connection, usage_records: UsageRecords) -> None:
        """Work over a store's connection.

        Args:
            connection: connection to the queue.
            usage_records: what earlier jobs of a signature used.
        """
        self._db, self._usage_records = connection, usage_records
        self._lanes: dict[int, Lane] = connection.new_cache()  # a lane never changes
        # by job and rank: a job that is queued again has another rank
        self._programs: dict[tuple[int, float], tuple[str, tuple[str, ...]]] = (
            connection.new_cache()
        )
        self._unreadable_lanes: dict[int, str] = {}  # lane → why its jobs cannot be read
        self.queue_heads = QueueHeads(connection.execute)

    def read_ready(self, per_class: int) -> list[ReadyJob]:
        """Return the first `per_class` jobs of every run, lane and priority that are ready, by rank.

        Of very many, it returns some in rotation: see `QueueHeads.is_partial`. Nothing is written. Jobs that `repair_unready` must repair first are left out.
        """
        ready: list[tuple[float, int, JobClass]] = []
        self._unreadable_lanes.clear()
        with self._db.reading():  # one lock for all
            for flow in self.queue_heads.read_some_classes(per_class):
                try:
                    self._read_lane_number(flow.lane)
                except Unreadable as error:
                    self._unreadable_lanes[flow.lane] = str(error)
                    continue
                ready += [(rank, job, flow) for rank, job in flow.jobs]
        ready.sort(key=itemgetter(0, 1))
        return [self._build_ready_job(job, rank, flow) for rank, job, flow in ready]

    def waiting_by_lane(self) -> dict[int, int]:
        """Return how many jobs of each lane could start: it reads an index of all that waits."""
        return dict(self._db.execute(_WAITING_BY_LANE).fetchall())

    def _build_ready_job(self, job: int, rank: float, flow: JobClass) -> ReadyJob:
        lane, program, numbers = self._lanes[flow.lane], "", None
        if lane.signature and not is_exact_signature(lane.signature):
            program, numbers = self._command_line(job, rank)
            decides = (
                lane.resources.vram is None and self._usage_records.usage(lane.signature).peaks
            )
            numbers = numbers if decides else None
        return ReadyJob(
            id=job,
            rank=rank,
            lane_id=flow.lane,
            lane=lane,
            numbers=numbers,
            program=program,
            priority=flow.priority,
            account=flow.account,
        )

    def _command_line(self, job: int, rank: float) -> tuple[str, tuple[str, ...] | None]:
        """Return the program of a job and the numbers of its command line, None if the job is missing."""
        if (job, rank) not in self._programs:
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.clear()
            row = self._db.execute("SELECT spec FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None:  # another process deleted the job just now
                return "", None
            argv = _read_argv(row[0])
            self._programs[job, rank] = program_of(argv), ignored_numbers(argv)
        return self._programs[job, rank]

    def next_in_class(self, ended_job: ReadyJob) -> ReadyJob | None:
        """Return the most urgent ready job of an ended one's class.

        Returns None if there is none, or if other jobs need the ended one. Its end may release a more urgent job.
        """
        row = self._db.execute(_NEXT_IN_CLASS, (*ended_job.job_class, ended_job.id)).fetchone()
        return None if row is None else ended_job._replace(id=row[1], rank=row[0])

    def repair_unready(self, now: float) -> bool:
        """Let the jobs fail that `read_ready` left out. False if there are none."""
        if not self._unreadable_lanes:
            return False
        with self._db.writing():
            fail_unreadable_lanes(self._db, self._unreadable_lanes.items(), now)
        return True

    def lane_of_job(self, job: int) -> Lane:
        """Return what a job asks for now; nothing where that cannot be understood."""
        (number,) = self._db.execute("SELECT lane FROM jobs WHERE id = ?", (job,)).fetchone()
        try:
            return self._read_lane_number(number)
        except Unreadable:
            return Lane(group="", resources=Resources(), environment=WorkerEnvironment())

    def slots_by_group(self) -> dict[str, int]:
        """Return how many jobs of a group may run at once, where there is a limit; 0 if it is paused."""
        rows = self._db.execute("SELECT name, iif(paused IS NULL, slots, 0) FROM groups")
        return dict(rows.fetchall())

    def record_lane_reasons(self, reasons: Mapping[int, Reason | None]) -> None:
        """Record why the first job of each lane cannot start; None if it can."""
        rows = self._db.execute(
            "SELECT id, reason_code, reason, reason_data FROM lanes"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps([*reasons]),),
        )
        before = {int(lane): columns for lane, *columns in rows}
        after = {
            lane: ["", "", None] if reason is None else [*reason_columns(reason)]
            for lane, reason in reasons.items()
        }
        changed = [(*row, lane) for lane, row in after.items() if before.get(lane) != row]
        if changed:
            update = "UPDATE lanes SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"
            with self._db.writing():
                self._db.executemany(update, changed)

    def set_vtimes(self, vtimes: Mapping[str, float]) -> None:
        """Set the virtual times of runs that are new among others."""
        with self._db.writing():
            self._db.executemany(
                "UPDATE runs SET vtime = ? WHERE id = ?",
                [(vtime, int(run)) for run, vtime in vtimes.items()],
            )

    def release_due_timers(self, now: float) -> float | None:
        """Release jobs whose time has come. Return when the next one is due, None for never.

        A pause that began in the future shows that the clock was set back. It ends, too, because
        otherwise the job might wait for a day.
        """
        soonest, newest = self._db.execute(
            "SELECT (SELECT min(at) FROM timers), (SELECT max(since) FROM timers)"
        ).fetchone()
        if soonest is None:
            return None
        if soonest > now and (newest is None or newest <= now):
            return float(soonest)
        due = self._db.query_numbers("SELECT job FROM timers WHERE at <= ?1 OR since > ?1", now)
        with self._db.writing():
            self._db.executemany("DELETE FROM timers WHERE job = ?", [(job,) for job in due])
            self._db.recount_waits(due)
        (soonest,) = self._db.execute("SELECT min(at) FROM timers").fetchone()
        return None if soonest is None else float(soonest)

    def _read_lane_number(self, lane_number: int) -> Lane:
        if lane_number not in self._lanes:
            row = self._db.execute("SELECT key FROM lanes WHERE id = ?", (lane_number,)).fetchone()
            if row is None:
                raise Unreadable("it has no lane")
            self._lanes[lane_number] = read_lane(row[0])
        return self._lanes[lane_number]


def _read_argv(text: str) -> tuple[str, ...]:
    """Return the command line of a spec; none where it cannot be read, and the job does not start."""
    try:
        return read_texts(parse_record(text, "its spec").get("argv", []), "'argv' of its spec")
    except Unreadable:
        return ()
