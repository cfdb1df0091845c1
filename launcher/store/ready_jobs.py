"""Jobs that wait only for resources: of each job class the first, with all that decides whether it starts."""

from operator import itemgetter

from launcher.context import WorkerEnvironment
from launcher.job import Resources
from launcher.signatures import is_exact, numbers_of
from launcher.store.connection import Connection
from launcher.store.job_repair import fill_lanes, set_lanes_aside
from launcher.store.lanes import Lane, read_lane
from launcher.store.rows import ReadyJob
from launcher.store.runs import FirstJobs, Flow
from launcher.store.usage import UsageOf
from launcher.system.executables import program_of
from launcher.system.stored_fields import Unreadable, parsed, texts

MOST_PROGRAMS = 100_000  # whose command lines are kept in memory
_WAITING_BY_LANE = (
    "SELECT lane, count(*) FROM jobs WHERE state = 'queued' AND waits = 0 GROUP BY lane"
)
_SUCCESSOR = (
    "SELECT rank, id FROM jobs WHERE state = 'queued' AND waits = 0 AND priority = ? AND run = ?"
    " AND lane = ? AND NOT EXISTS (SELECT 1 FROM needs WHERE need = ?) ORDER BY rank, id LIMIT 1"
)


class ReadyJobs:
    """The jobs that wait for nothing."""

    def __init__(self, connection: Connection, usage: UsageOf) -> None:
        """Work over a store's connection.

        Args:
            connection: to the queue.
            usage: returns what earlier jobs of a signature used.
        """
        self._db, self._usage = connection, usage
        self._lanes: dict[int, Lane] = {}  # none of them ever changes
        # by job and rank: who is queued anew has another rank
        self._programs: dict[tuple[int, float], tuple[str, tuple[str, ...]]] = {}
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
        return [self._ready(job, rank, flow) for rank, job, flow in ready]

    def waiting_by_lane(self) -> dict[int, int]:
        """Return how many jobs of each lane could start: it reads an index of all that waits."""
        return dict(self._db.execute(_WAITING_BY_LANE).fetchall())

    def _ready(self, job: int, rank: float, flow: Flow) -> ReadyJob:
        lane, program, numbers = self._lanes[flow.lane], "", None
        if lane.signature and not is_exact(lane.signature):
            program, numbers = self._command_line(job, rank)
            decides = lane.resources.min_vram is None and self._usage(lane.signature).peaks
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
        """Return the program that a job runs, and the numbers of its command line; None: it is gone."""
        if (job, rank) not in self._programs:
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.clear()
            row = self._db.execute("SELECT spec FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None:  # it was forgotten just now
                return "", None
            argv = _argv(row[0])
            self._programs[job, rank] = program_of(argv), numbers_of(argv)
        return self._programs[job, rank]

    def successor(self, ended: ReadyJob) -> ReadyJob | None:
        """Return the most urgent job of an ended one's flow that waits for nothing.

        Returns None where there is none, and where others need the ended one: its end may let go who comes first.
        """
        row = self._db.execute(_SUCCESSOR, (*ended.flow, ended.id)).fetchone()
        return None if row is None else ended._replace(id=row[1], rank=row[0])

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
        self._programs.clear()

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
