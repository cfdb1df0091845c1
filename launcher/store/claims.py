"""Claims: which jobs could start now, and which are promised to attempts, each with a place and a supervisor.

Of each flow the first job is looked at, with all by which it is decided whether it starts. Jobs that cannot
start as they stand are mended or set aside: an older version queued them without a lane, or one cannot be read.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter
from typing import NamedTuple

from launcher.context import WorkerEnvironment, read_context
from launcher.job import Resources
from launcher.signatures import is_exact, numbers_of
from launcher.states import FAILED, Reason, ReasonCode, State
from launcher.store.connection import NEW_EVENT, Connection, reason_columns, sources_of
from launcher.store.output_conflicts import find_writer, wait_for_writer
from launcher.store.rows import Claim, Lane, ReadyJob, claim_row, lane_of, rank_of, read_lane
from launcher.store.runs import FirstJobs, Flow
from launcher.store.usage import UsageOf
from launcher.stored_specs import read_spec, with_sources
from launcher.system.executables import program_of
from launcher.system.stored_fields import Unreadable, parsed, texts

ADVICE = (
    "A newer launcher may have queued it. Update this launcher and run `launcher retry`, "
    "or queue the job again"
)


def set_aside(db: Connection, job: int, why: str, now: float) -> None:
    """Fail a job that cannot be understood, so that the others go on. Inside `writing`."""
    text = f"{FAILED}cannot read the job: {why}. {ADVICE}"
    reason = Reason(code=ReasonCode.UNREADABLE, text=text)
    if db.move(job, State.FAILED, reason, now, only_from=(State.QUEUED, State.HELD)):
        db.propagate_end(job, State.FAILED, now)


def set_lanes_aside(db: Connection, lanes: Iterable[tuple[int, str]], now: float) -> None:
    """Fail the queued jobs of lanes that cannot be understood, each with the reason. Inside `writing`."""
    for lane, why in lanes:
        jobs = db.numbers("SELECT id FROM jobs WHERE lane = ? AND state = 'queued'", lane)
        for job in jobs:
            set_aside(db, job, why, now)


def fill_lanes(db: Connection, now: float) -> None:
    """Give each job that has no lane its lane and its rank. Inside `writing`.

    An older command line puts such jobs in, where it opened the queue before that was brought up
    to date.
    """
    jobs = db.execute(
        "SELECT jobs.id, jobs.spec, jobs.submitted, jobs.priority, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context WHERE jobs.lane = 0"
        " AND jobs.state IN ('queued', 'held', 'running')"
    ).fetchall()
    for number, spec, submitted, priority, context in jobs:
        try:
            stored_context = read_context(parsed(context, "the record of its surroundings"))
            lane = lane_of(read_spec(parsed(spec, "its spec")), stored_context)
        except Unreadable as error:
            set_aside(db, number, str(error), now)
            continue
        db.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (lane.key,))
        db.execute(
            "UPDATE jobs SET rank = ?, lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?",
            (rank_of(submitted, priority), lane.key, number),
        )


MOST_CONTEXTS = 64  # kept in memory; each is as large as an environment
_NEXT_OF_FLOW = (
    "SELECT id, attempts + 1, run, spec, sources, context FROM jobs WHERE state = 'queued'"
    " AND waits = 0 AND priority = ? AND run = ? AND lane = ? ORDER BY rank, id LIMIT 1"
)
_CLAIMS = (  # only a running job has an attempt that has not ended
    "SELECT attempts.*, jobs.run, jobs.spec, sources.body AS sources_text, contexts.body AS context FROM jobs"
    " JOIN attempts ON attempts.job = jobs.id AND attempts.outcome IS NULL"
    " LEFT JOIN sources ON sources.id = jobs.sources"
    " JOIN contexts ON contexts.id = jobs.context WHERE jobs.state = 'running' ORDER BY jobs.id"
)

# columns of a new attempt and the fields of its claim that fill them
_CLAIM_COLUMNS = {
    **{name: name for name in ("job", "number", "boot", "device", "cpus")},
    **{name: name for name in ("pid", "start_ticks", "claimed")},
    "claim": "reservation",
    "lone": "exclusive",
}
_NEW_ATTEMPT = (
    f"INSERT INTO attempts ({', '.join(_CLAIM_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(_CLAIM_COLUMNS))})"
)
_attempt_columns = attrgetter(*_CLAIM_COLUMNS.values())


class Seat(NamedTuple):
    """Where an attempt runs, and who supervises it."""

    device: str  # "cpu", or the UUIDs of GPUs with commas between
    cpus: int
    boot: str
    pid: int
    start_ticks: int
    reservation: int | None = None  # bytes promised on each GPU
    exclusive: bool = False  # the GPUs are shared with none of ours


class Claims:
    """The attempts whose end is not known yet, and how a job comes to one."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        # none of them ever changes
        self._contexts: dict[int, tuple[str, str]] = {}  # and what of it cannot be understood
        self._shared: dict[int | None, str | None] = {}  # digests of modules

    def next_claim(self, like: ReadyJob, seat: Seat, now: float) -> Claim | None:
        """Return the claim that the first job of a flow would get now; nothing is promised by that.

        Args:
            like: a job of that flow.
            seat: the place.
            now: seconds since 1970.

        Returns None where there is no such job, or it cannot be understood.
        """
        row = self._db.execute(_NEXT_OF_FLOW, like.flow).fetchone()
        if row is None:
            return None
        job, number, run, own, sources, context = row
        context_text, why = self._context(context)
        spec = with_sources(own, self._sources(sources))
        claim = _claim(job, number, run, seat, spec, context_text, now)
        return None if claim.unreadable or why else claim

    def claim(
        self,
        job: int,
        seat: Seat,
        *,
        reason: str,
        now: float,
        number: int = 0,
        prepare: Callable[[Claim], None] = lambda _: None,
    ) -> Claim | None:
        """Promise a queued job to a new attempt; None when it is not queued any more.

        A job that cannot be understood is set aside: it fails. A job waits while another one writes the same path.

        Args:
            job: its number.
            seat: the place.
            reason: why it starts there.
            now: seconds since 1970.
            number: of the attempt at least; more than the next one where folders are in the way.
            prepare: makes the attempt's folder. When it raises, nothing was claimed; and nothing is
                claimed whose folder was not there.
        """
        with self._db.writing():
            claim = self._next_claim(job, seat, number, now)
            if claim is not None and (writer := find_writer(self._db, job, claim.spec)):
                wait_for_writer(self._db, job, writer, now)
                return None
            if claim is not None:
                prepare(
                    claim
                )  # first: inside another transaction nothing would take the claim back
                self._record_start(claim, Reason(code=ReasonCode.STARTED, text=reason))
        return claim

    def _next_claim(self, job: int, seat: Seat, number: int, now: float) -> Claim | None:
        """Return the claim of a queued job's next attempt; set a job aside that cannot be understood."""
        row = self._db.execute(
            "SELECT max(attempts + 1, ?), run, spec, sources, context FROM jobs"
            " WHERE id = ? AND state = 'queued' AND waits = 0",
            (number, job),
        ).fetchone()
        if row is None:
            return None
        number, run, own, sources, context = row
        context_text, why = self._context(context)
        spec = with_sources(own, self._sources(sources))
        claim = _claim(job, number, run, seat, spec, context_text, now)
        if why := claim.unreadable or why:
            set_aside(self._db, job, why, now)
            return None
        return claim

    def _record_start(self, claim: Claim, reason: Reason) -> None:
        columns = reason_columns(reason)
        self._db.execute(
            "UPDATE jobs SET state = 'running', attempts = ?, reason_code = ?, reason = ?,"
            " reason_data = ?, wish = '' WHERE id = ? AND state = 'queued' AND waits = 0",
            (claim.number, *columns, claim.job),
        )
        self._db.execute(_NEW_ATTEMPT, _attempt_columns(claim))
        self._db.execute(NEW_EVENT, (claim.claimed, claim.job, State.RUNNING, *columns))

    def claims(self) -> list[Claim]:
        """Return every attempt whose end is not known yet."""
        return [claim_row(row) for row in self._db.execute(_CLAIMS)]

    def forget(self) -> None:
        """Read everything anew: a transaction was rolled back."""
        self._contexts.clear()
        self._shared.clear()

    def _context(self, number: int) -> tuple[str, str]:
        """Return a context's text, and what of it cannot be understood."""
        if number not in self._contexts:
            if len(self._contexts) >= MOST_CONTEXTS:
                self._contexts.clear()
            row = self._db.execute("SELECT body FROM contexts WHERE id = ?", (number,)).fetchone()
            text, why = (row[0] if row else ""), ""
            try:
                read_context(parsed(text, "the record of its surroundings"))
            except Unreadable as error:
                why = str(error)
            self._contexts[number] = text, why
        return self._contexts[number]

    def _sources(self, number: int | None) -> str | None:
        """Return the digests of modules that jobs share, as they are stored; None: there are none."""
        if number not in self._shared:
            if len(self._shared) >= MOST_CONTEXTS:
                self._shared.clear()
            self._shared[number] = sources_of(self._db.execute, number)
        return self._shared[number]


def _claim(
    job: int, number: int, run: int, seat: Seat, spec_text: str, context_text: str, now: float
) -> Claim:
    return Claim(
        job=job,
        number=number,
        run=run,
        boot=seat.boot,
        device=seat.device,
        cpus=seat.cpus,
        pid=seat.pid,
        start_ticks=seat.start_ticks,
        spec_text=spec_text,
        context_text=context_text,
        reservation=seat.reservation,
        exclusive=seat.exclusive,
        claimed=now,
    )


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
