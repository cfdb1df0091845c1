"""Which jobs could start now: the first of each flow, with all by which it is decided whether they do."""

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

from launcher.context import WorkerEnvironment
from launcher.job import Resources, is_exact, numbers_of
from launcher.store.connection import Connection
from launcher.store.lanes import Lane, read_lane
from launcher.store.rows import ReadyJob
from launcher.store.runs.ready import FirstJobs, Flow
from launcher.store.scheduling.unreadable_jobs import fill_lanes, set_lanes_aside
from launcher.store.usage import Usage
from launcher.system.stored_fields import Unreadable, parsed, texts

MOST_PROGRAMS = 100_000  # whose numbers are kept in memory
_WAITING_BY_LANE = (
    "SELECT lane, count(*) FROM jobs WHERE state = 'queued' AND waits = 0 GROUP BY lane"
)
_FIRST_OF_FLOW = (
    "SELECT rank, id FROM jobs WHERE state = 'queued' AND waits = 0 AND priority = ? AND run = ?"
    " AND lane = ? ORDER BY rank, id LIMIT 1"
)


class ReadyJobs:
    """The jobs that wait for nothing."""

    def __init__(self, connection: Connection, usage: Callable[[str], Usage]) -> None:
        """Work over a store's connection.

        Args:
            connection: to the queue.
            usage: returns what earlier jobs of a signature used.
        """
        self._db, self._usage = connection, usage
        self._lanes: dict[int, Lane] = {}  # none of them ever changes
        self._program_numbers: dict[tuple[int, float], tuple[str, ...]] = {}  # by job and rank
        self._unfit: dict[int, str] = {}  # lane → why none of its jobs can be looked at
        self._first_jobs = FirstJobs(connection.execute)

    def ready(self, each: int) -> list[ReadyJob]:
        """Return the first `each` jobs of every run, lane and priority that wait for nothing, by rank.

        Nothing is written; jobs that `mend` has to look at first are left out.
        """
        ready: list[tuple[float, int, Flow]] = []
        self._unfit.clear()
        with self._db.reading():  # one lock for all
            for flow in self._first_jobs.flows(each):
                try:
                    self._lane(flow.lane)
                except Unreadable as error:
                    self._unfit[flow.lane] = str(error)
                    continue
                ready += [(rank, job, flow) for rank, job in flow.jobs]
        ready.sort(key=itemgetter(0, 1))
        return [
            ReadyJob(
                id=job,
                rank=rank,
                lane_id=flow.lane,
                lane=self._lanes[flow.lane],
                numbers=self._numbers(job, rank, self._lanes[flow.lane]),
                priority=flow.priority,
                account=flow.account,
            )
            for rank, job, flow in ready
        ]

    def waiting_by_lane(self) -> dict[int, int]:
        """Return how many jobs of each lane could start: it reads an index of all that waits."""
        return dict(self._db.execute(_WAITING_BY_LANE).fetchall())

    def _numbers(self, job: int, rank: float, lane: Lane) -> tuple[str, ...] | None:
        """Return the numbers of a program's command line, None where they decide nothing."""
        by_signature = lane.signature and not is_exact(lane.signature)
        if not by_signature or lane.resources.min_vram is not None:
            return None
        if not self._usage(lane.signature).peaks:
            return None
        if (job, rank) not in self._program_numbers:  # who is queued anew has another rank
            if len(self._program_numbers) >= MOST_PROGRAMS:
                self._program_numbers.clear()
            row = self._db.execute("SELECT spec FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None:  # it was forgotten just now
                return None
            self._program_numbers[job, rank] = numbers_of(_argv(row[0]))
        return self._program_numbers[job, rank]

    def next_in(self, like: ReadyJob) -> ReadyJob | None:
        """Return the most urgent job of a job's flow that waits for nothing, None where there is none."""
        row = self._db.execute(_FIRST_OF_FLOW, like.flow).fetchone()
        return None if row is None else replace(like, id=row[1], rank=row[0])

    def mend(self, now: float) -> bool:
        """Mend what `ready` has just left out: give it a lane, or set it aside; False: there is none."""
        if not self._unfit:
            return False
        with self._db.writing():
            if self._unfit.pop(0, ""):
                fill_lanes(self._db, now)
            set_lanes_aside(self._db, self._unfit.items(), now)
        return True

    def lane_of(self, job: int) -> Lane:
        """Return what a job asks for now; nothing where that cannot be understood."""
        (number,) = self._db.execute("SELECT lane FROM jobs WHERE id = ?", (job,)).fetchone()
        try:
            return self._lane(number)
        except Unreadable:
            return Lane(group="", resources=Resources(), environment=WorkerEnvironment())

    def forget(self) -> None:
        """Read everything anew: a transaction was rolled back."""
        self._lanes.clear()
        self._program_numbers.clear()

    def _lane(self, number: int) -> Lane:
        if number not in self._lanes:
            row = self._db.execute("SELECT key FROM lanes WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise Unreadable("it has no lane")
            self._lanes[number] = read_lane(row[0])
        return self._lanes[number]


def _argv(text: str) -> tuple[str, ...]:
    """Return the command line of a spec; none where it cannot be read, and the job does not start."""
    try:
        return texts(parsed(text, "its spec").get("argv", []), "'argv' of its spec")
    except Unreadable:
        return ()
