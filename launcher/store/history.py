"""What a queue did: jobs a day, what runs and nodes took, why attempts failed, memory that was asked in vain.

Attempts that were not done are shown in groups that failed alike.
"""

import json
import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from launcher.states import ReasonCode, State
from launcher.store.connection import known_code, known_record, known_state
from launcher.store.rows import DONE_RECORD, PILOT_OF
from launcher.store.usage import margin_of
from launcher.system.files import Json
from launcher.units import format_bytes

GIB = 1 << 30
HOUR_S = 3600.0
ERROR_LENGTH = 200  # characters of an error that tell it from others
_NUMBER = re.compile(r"(exit code \d+)|0[xX][0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_NAMES: Mapping[ReasonCode, str] = {
    ReasonCode.CANCELLED: "cancelled",
    ReasonCode.FAILED: "failed",
    ReasonCode.GPU_FAULT: "GPU fault",
    ReasonCode.LOST: "lost",
    ReasonCode.NOT_STARTED: "not started",
    ReasonCode.OUT_OF_MEMORY: "out of memory",
    ReasonCode.STOPPED: "stopped",
    ReasonCode.TIME_LIMIT: "time limit",
}
_WHOSE = {"ours": ", its own", "neighbour": ", a neighbour's", "machine": ", the machine's"}


class FailedAttempts(NamedTuple):
    """Attempts that were not done, and of which the same is on record."""

    code: ReasonCode
    job: int  # the newest of them
    at: float  # when that ended
    where: str = ""  # which memory was missing: "gpu" or "ram"
    whose: str = ""  # fault that was: "ours", "neighbour" or "machine"; empty: nobody could tell
    fault: str = ""  # of a GPU
    requeued: bool = False  # their jobs were queued again at no cost
    error: str = ""  # or why they were lost
    attempts: int = 1
    seconds: float = 0.0


class FailureGroup(NamedTuple):
    """Attempts that failed alike."""

    code: ReasonCode
    detail: str  # what tells the group from others of its code
    attempts: int
    seconds: float  # that they had run
    job: int  # the newest of them
    at: float

    @property
    def name(self) -> str:
        """What people call such a failure."""
        return _NAMES.get(self.code, self.code.replace("-", " "))

    @property
    def text(self) -> str:
        """What people call it, with what tells it from others."""
        return f"{self.name}: {self.detail}" if self.detail else self.name

    def values(self) -> dict[str, Json]:
        """Return the group for programs."""
        named = {"cause": self.name, "reason_code": self.code}
        return {**named, **_values(self, but=("code", "at"))}


def failure_groups(failed: Iterable[FailedAttempts]) -> tuple[FailureGroup, ...]:
    """Return the groups of attempts that failed alike, what cost the most time first."""
    alike: dict[tuple[ReasonCode, str], list[FailedAttempts]] = defaultdict(list)
    for attempts in failed:
        alike[attempts.code, _detail(attempts)].append(attempts)
    groups = []
    for (code, detail), those in alike.items():
        at, job = max((attempts.at, attempts.job) for attempts in those)
        number = sum(attempts.attempts for attempts in those)
        seconds = sum(attempts.seconds for attempts in those)
        groups.append(FailureGroup(code, detail, number, seconds, job, at))
    groups.sort(key=lambda group: (-group.seconds, -group.attempts, -group.at))
    return tuple(groups)


def _detail(failed: FailedAttempts) -> str:
    """Return what tells attempts from others of the same code; empty: nothing."""
    match failed.code:
        case ReasonCode.OUT_OF_MEMORY:
            memory = "main memory" if failed.where == "ram" else "a GPU's memory"
            return f"{memory}{_WHOSE.get(failed.whose, '')}"
        case ReasonCode.GPU_FAULT:
            return _without_numbers(failed.fault)
        case ReasonCode.FAILED | ReasonCode.LOST:
            return _without_numbers(failed.error)
        case ReasonCode.STOPPED if failed.requeued:
            return "with the queue"
    return ""


def _without_numbers(text: str) -> str:
    """Return an error without what sets it apart from others of its sort; an exit code stays."""
    line = text.partition("\n")[0][:ERROR_LENGTH]
    return _NUMBER.sub(lambda number: number[1] or "#", line).strip()


_SECONDS = {"gpu_hours": "gpu_seconds", "cpu_hours": "core_seconds", "median_s": "median_seconds"}


def _values(row: Any, but: Collection[str] = ()) -> dict[str, Json]:
    """Return a row of the report for programs: seconds instead of hours."""
    values: dict[str, Json] = {}
    for name, value in row._asdict().items():
        if name not in but:
            factor = HOUR_S if name in {"gpu_hours", "cpu_hours"} else 1
            shown = round(value * factor, 3) if isinstance(value, float) else value
            values[_SECONDS.get(name, name)] = shown
    return values


class PilotUse(NamedTuple):
    """Attempts of one pilot, or of this machine."""

    pilot: str  # its token; '': this machine
    attempts: int
    done: int
    gpu_s: float  # seconds of each of their GPUs
    cpu_s: float  # seconds of each of their cores


class NodeUse(NamedTuple):
    """What ran on a node."""

    node: str
    backend: str
    attempts: int = 0
    done: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0

    def values(self) -> dict[str, Json]:
        """Return the node for programs."""
        return _values(self)


def nodes_of(
    uses: Iterable[PilotUse], places: Mapping[str, tuple[str, str]]
) -> tuple[NodeUse, ...]:
    """Return what ran on each node, the one with most core-hours first.

    Args:
        uses: by pilot.
        places: backend and node of each pilot by its token, and of this machine by ''.
    """
    nodes: dict[tuple[str, str], NodeUse] = {}
    for use in uses:
        backend, node = place = places.get(use.pilot, ("", ""))
        so_far = nodes.get(place) or NodeUse(node=node, backend=backend)
        nodes[place] = so_far._replace(
            attempts=so_far.attempts + use.attempts,
            done=so_far.done + use.done,
            gpu_hours=so_far.gpu_hours + use.gpu_s / HOUR_S,
            cpu_hours=so_far.cpu_hours + use.cpu_s / HOUR_S,
        )
    return tuple(sorted(nodes.values(), key=lambda use: (-use.cpu_hours, use.backend, use.node)))


_DUST = 1e-6  # of a tenth of a GiB
_WORTH = 0.1  # of what was asked: who asks for so much less leaves room for another job


# --- what the queue has on record, as far as it is summed up already


class Ends(NamedTuple):
    """Jobs of a run that came to the same end on a day."""

    run: str
    day: str  # local, such as 2026-11-20
    state: State
    jobs: int


class Spent(NamedTuple):
    """Attempts of a run that began and ended on one day; else a single attempt."""

    run: str
    begun: float
    ended: float
    attempts: int
    gpu_s: float  # seconds of each of their GPUs
    cpu_s: float  # seconds of each of their cores


class Taken(NamedTuple):
    """Attempts of jobs alike that were promised the same memory of a GPU."""

    alike: str  # what tells these jobs from others
    name: str  # of the newest job
    job: int  # its number
    declared: bool  # its owner said how much; else that was learned from those before
    reservation: int  # bytes, on each GPU
    attempts: int
    peak: int  # bytes that one of them took at most
    wasted: float  # byte-seconds that were promised and not taken
    beyond: int  # attempts that took more


# --- what the report shows


class Day(NamedTuple):
    """What ended on a day, and what ran on it."""

    day: str
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    median_s: float | None = None  # of the attempts that were done; None: none was

    def values(self) -> dict[str, Json]:
        """Return the day for programs."""
        return _values(self)


class Run(NamedTuple):
    """What became of a run, and what it took."""

    run: str
    jobs: int = 0  # that ended
    done: int = 0
    failed: int = 0
    attempts: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    at: float = 0.0  # when it last had something that ran

    def values(self) -> dict[str, Json]:
        """Return the run for programs."""
        return _values(self, but=("at",))


class Memory(NamedTuple):
    """What jobs alike were promised of a GPU's memory, and what they took."""

    name: str
    job: int
    attempts: int
    declared: bool
    asked: int  # bytes, the middle one
    peak: int  # bytes, the largest
    beyond: int  # attempts that took more than they were promised
    wasted_gib_hours: float

    @property
    def better(self) -> int | None:
        """What their owner should ask for; None: it is well, or it was not for him to say."""
        if not self.declared:
            return None
        needed = self.peak + margin_of(self.peak)
        tenths = math.ceil(needed * 10 / GIB - _DUST)  # so people write it
        next_time = round(tenths * GIB / 10)
        if self.peak > self.asked or self.asked - next_time >= self.asked * _WORTH:
            return next_time
        return None

    @property
    def hint(self) -> str:
        """What to ask next time, in words; empty: nothing else."""
        if self.better is None:
            return ""
        return f"ask {format_bytes(self.better)} instead of {format_bytes(self.asked)}"

    def values(self) -> dict[str, Json]:
        """Return the memory for programs."""
        wasted = round(self.wasted_gib_hours, 4)
        return {**_values(self), "wasted_gib_hours": wasted, "ask": self.better}


class Past(NamedTuple):
    """The whole report; the newest, or the most costly, comes first."""

    days: tuple[Day, ...] = ()
    runs: tuple[Run, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    memory: tuple[Memory, ...] = ()
    nodes: tuple[NodeUse, ...] = ()


def days_of(
    ends: Iterable[Ends], spent: Iterable[Spent], medians: Iterable[tuple[str, float]]
) -> tuple[Day, ...]:
    """Return each day on which something ended or ran, the newest first."""
    days: dict[str, Day] = {}

    def add(day: str, **more: float) -> None:
        day_so_far = days.get(day) or Day(day=day)
        grown = {name: getattr(day_so_far, name) + amount for name, amount in more.items()}
        days[day] = day_so_far._replace(**grown)

    for ended in ends:
        add(ended.day, **{ended.state.value: ended.jobs})
    for used in spent:
        for day, share in _shares(used.begun, used.ended):
            add(
                day,
                gpu_hours=share * used.gpu_s / HOUR_S,
                cpu_hours=share * used.cpu_s / HOUR_S,
            )
    for day, seconds in medians:
        days[day] = (days.get(day) or Day(day=day))._replace(median_s=seconds)
    return tuple(days[day] for day in sorted(days, reverse=True))


def runs_of(ends: Iterable[Ends], spent: Iterable[Spent]) -> tuple[Run, ...]:
    """Return each run of which something ended or ran, the one that did so last first."""
    runs: dict[str, Run] = {}

    def run_named(name: str) -> Run:
        return runs.get(name) or Run(run=name)

    for used in spent:
        run = run_named(used.run)
        runs[used.run] = run._replace(
            attempts=run.attempts + used.attempts,
            gpu_hours=run.gpu_hours + used.gpu_s / HOUR_S,
            cpu_hours=run.cpu_hours + used.cpu_s / HOUR_S,
            at=max(run.at, used.ended),
        )
    for ended in ends:
        run = run_named(ended.run)
        runs[ended.run] = run._replace(
            jobs=run.jobs + ended.jobs,
            done=run.done + ended.jobs * (ended.state is State.DONE),
            failed=run.failed + ended.jobs * (ended.state is State.FAILED),
        )
    return tuple(sorted(runs.values(), key=lambda run: (-run.at, run.run)))


def memory_of(taken: Iterable[Taken]) -> tuple[Memory, ...]:
    """Return what jobs alike asked of GPUs and took, what went beyond first, then by what was wasted."""
    alike: dict[str, list[Taken]] = defaultdict(list)
    for attempts in taken:
        alike[attempts.alike].append(attempts)
    memories = []
    for those in alike.values():
        newest = max(those, key=lambda attempts: attempts.job)
        memories.append(
            Memory(
                name=newest.name,
                job=newest.job,
                attempts=sum(attempts.attempts for attempts in those),
                declared=newest.declared,
                asked=_middle(those),
                peak=max(attempts.peak for attempts in those),
                beyond=sum(attempts.beyond for attempts in those),
                wasted_gib_hours=sum(attempts.wasted for attempts in those) / GIB / HOUR_S,
            )
        )
    return tuple(
        sorted(
            memories,
            key=lambda attempts: (not attempts.beyond, -attempts.wasted_gib_hours, -attempts.job),
        )
    )


def _middle(those: Sequence[Taken]) -> int:
    """Return the claim of the attempt in the middle; of two, the smaller one."""
    left = (sum(attempts.attempts for attempts in those) + 1) // 2
    for attempts in sorted(those, key=lambda attempts: attempts.reservation):
        left -= attempts.attempts
        if left <= 0:
            return attempts.reservation
    raise ValueError("there is no attempt")


def _shares(begun: float, ended: float) -> Iterator[tuple[str, float]]:
    """Yield each local day of a stretch of time, and the day's share of it."""
    at = begun
    while True:
        local = datetime.fromtimestamp(at).astimezone()
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        # without a zone: the next day may have another one, and be an hour longer; and a midnight
        # that a change of the clocks leaves out, or repeats, is one of two moments
        midnights = [
            (midnight + timedelta(days=1)).replace(fold=fold).timestamp() for fold in (0, 1)
        ]
        next_day = min(
            moment
            for moment in midnights
            if datetime.fromtimestamp(moment).astimezone().date() > local.date()
        )
        upto = min(ended, next_day)
        yield f"{local:%Y-%m-%d}", (upto - at) / (ended - begun) if ended > begun else 1.0
        if ended <= next_day:
            return
        at = next_day


# --- what the queue has on record, summed up by the database: it may have a million jobs behind it

_WAS_DONE = f"substr(outcome, 1, {len(DONE_RECORD)}) = '{DONE_RECORD}'"
_FIRST_DAY = 1_721_425  # the Julian day's number of 31 December of the year 0
# as bytes: a program's last words may hold what is no text
_ERROR = "CAST(coalesce(json_extract(outcome, '$.error'), json_extract(outcome, '$.why')) AS BLOB)"
# an older scheduler that has not left yet writes no codes
_CODE = "iif(reason_code = '', json_extract(outcome, '$.ending'), reason_code)"
_GPUS = "iif(device = 'cpu', 0, length(device) - length(replace(device, ',', '')) + 1)"
_END = "max(coalesce(ended, :now), claimed, :since)"  # the clock may have been set back meanwhile
_BEGUN = "max(claimed, :since)"
_SPAN = "max(0, ended - claimed - paused)"  # pauses are no work
_HELD = "max(0, ended - claimed)"  # and memory stays reserved in them
_MOST_ATTEMPTS = 100_000  # of one job: more than anybody can ask for
_LATELY = "(ended IS NULL OR max(ended, claimed) >= :since)"
_USED_SECONDS = "sum((until - begun) * gpus) AS gpu_s, sum((until - begun) * cpus) AS cpu_s"


class History:
    """Questions on what was; none of them changes anything, and each reads its table once."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        since: float = 0.0,
        now: float = 0.0,
        jobs: Collection[int] | None = None,
    ) -> None:
        """Ask over a connection that a store has opened.

        Args:
            connection: to the queue.
            since: the time from which on an end counts.
            now: until when those count that still run.
            jobs: only these; None: all.
        """
        self._db, self._is_part = connection, jobs is not None
        self._named = {"since": since, "now": now, "jobs": json.dumps([*(jobs or ())])}

    def past(self, places: Mapping[str, tuple[str, str]]) -> Past:
        """Return the whole report.

        Args:
            places: backend and node of each pilot, and of this machine by ''.
        """
        ends, spent = self.ends(), self.spent()
        return Past(
            days=days_of(ends, spent, self.medians()),
            runs=runs_of(ends, spent),
            failures=failure_groups(self.failed()),
            memory=memory_of(self.taken()),
            nodes=nodes_of(self.by_pilot(), places),
        )

    def _rows(self, query: str) -> sqlite3.Cursor:
        rows = self._db.execute(query, self._named)
        rows.row_factory = None
        return rows

    def _among(self, column: str) -> str:
        return f" AND {column} IN (SELECT value FROM json_each(:jobs))" if self._is_part else ""

    def ends(self) -> list[Ends]:
        """Return how many jobs came to which end, by run and local day."""
        rows = self._rows(
            "SELECT runs.name, day, state, n FROM ("
            f" SELECT run, {_day('ended')} AS day, state, count(*) AS n"
            f" FROM jobs WHERE ended >= :since{self._among('id')} GROUP BY run, day, state"
            ") JOIN runs ON runs.id = run"
        )
        return [Ends(run, _name_of(day), known_state(state), n) for run, day, state, n in rows]

    def spent(self) -> list[Spent]:
        """Return what attempts took, those that still run until now.

        Those that lie within one local day are summed up by run and day.
        """
        rows = self._rows(
            "SELECT runs.name, begun, until, n, gpu_s, cpu_s FROM ("
            " SELECT run, min(begun) AS begun, max(until) AS until, count(*) AS n,"
            f" {_USED_SECONDS} FROM ("
            f" SELECT job, number, cpus, {_GPUS} AS gpus, {_BEGUN} AS begun, {_END} AS until,"
            f" {_day(_BEGUN)} AS first, {_day(_END)} AS last"
            f" FROM attempts WHERE {_LATELY}{self._among('job')}) AS one"
            " JOIN jobs ON jobs.id = job"
            f" GROUP BY run, iif(first = last, first, -(job * {_MOST_ATTEMPTS} + number))"
            ") AS those JOIN runs ON runs.id = run"
        )
        return [Spent(*row) for row in rows]

    def medians(self) -> list[tuple[str, float]]:
        """Return how long the attempts took that were done on each local day: the middle one."""
        from statistics import median  # which nobody else who opens a queue needs

        by_day: dict[int, list[float]] = defaultdict(list)
        for day, seconds in self._rows(
            f"SELECT {_day('ended')}, {_SPAN} FROM attempts"
            f" WHERE ended >= :since AND {_WAS_DONE}{self._among('job')}"
        ):
            by_day[day].append(seconds)
        return [(_name_of(day), median(those)) for day, those in by_day.items()]

    def by_pilot(self) -> list[PilotUse]:
        """Return what attempts took by the pilot that they were on, this machine among them."""
        rows = self._rows(
            f"SELECT pilot, count(*), sum(done), {_USED_SECONDS} FROM ("
            f" SELECT coalesce({PILOT_OF}, '') AS pilot, cpus, {_GPUS} AS gpus, {_BEGUN} AS begun,"
            f" {_END} AS until, ended IS NOT NULL AND {_WAS_DONE} AS done"
            f" FROM attempts WHERE {_LATELY}{self._among('job')}) GROUP BY pilot"
        )
        return [PilotUse(*row) for row in rows]

    def failed(self) -> list[FailedAttempts]:
        """Return the attempts that were not done, those together of which the same is on record."""
        rows = self._rows(
            "SELECT code, job, max(until), place, whose, fault, requeued, error, count(*), sum(seconds)"
            f" FROM (SELECT job, ended AS until, {_SPAN} AS seconds, {_CODE} AS code,"
            " json_extract(reason_data, '$.where') AS place,"
            " json_extract(reason_data, '$.whose') AS whose,"
            " json_extract(reason_data, '$.fault') AS fault,"
            " json_extract(reason_data, '$.requeued') AS requeued,"
            f" {_ERROR} AS error"
            f" FROM attempts WHERE ended >= :since AND NOT {_WAS_DONE}{self._among('job')}"
            ") GROUP BY code, place, whose, fault, requeued, error"
        )
        return [
            FailedAttempts(
                known_code(code or ""),
                job,
                at,
                place or "",
                whose or "",
                fault or "",
                bool(requeued),
                (error or b"").decode(errors="replace"),
                attempts,
                seconds,
            )
            for code, job, at, place, whose, fault, requeued, error, attempts, seconds in rows
        ]

    def taken(self) -> list[Taken]:
        """Return what attempts were promised of a GPU's memory and took, where both are known."""
        rows = self._rows(
            "SELECT lanes.key, kind || ' ' || coalesce(json_extract(spec, '$.model'), 'None'),"
            " name, job, claim, n, peak, wasted, beyond FROM ("
            " SELECT lane, claim, max(job) AS job, count(*) AS n, max(peak) AS peak,"
            f" sum(max(0, claim - peak) * {_HELD}) AS wasted, sum(peak > claim) AS beyond"
            " FROM (SELECT job, claim, peak, claimed, attempts.ended, lane FROM attempts"
            " JOIN jobs ON jobs.id = job WHERE claim IS NOT NULL AND peak IS NOT NULL"
            f" AND attempts.ended >= :since{self._among('job')}) GROUP BY lane, claim"
            ") AS those JOIN jobs ON jobs.id = job LEFT JOIN lanes ON lanes.id = those.lane"
        )
        taken = []
        for key, like, name, job, *amounts in rows:
            lane = known_record(key)
            declared = lane.get("resources", {}).get("min_vram") is not None
            taken.append(Taken(lane.get("signature") or like, name, job, declared, *amounts))
        return taken


def _day(at: str) -> str:
    """Return the expression of a time's local day as a number: numbers are sorted sooner."""
    return f"CAST(julianday({at}, 'unixepoch', 'localtime') + 0.5 AS INTEGER)"


def _name_of(day: int) -> str:
    """Return the date of a day's number."""
    return date.fromordinal(day - _FIRST_DAY).isoformat()
