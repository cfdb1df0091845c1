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
from operator import add, itemgetter
from typing import NamedTuple, TypeVar

from launcher.states import ReasonCode, State
from launcher.store.connection import known_code, known_record, known_state
from launcher.store.rows import DONE_RECORD, PILOT_OF
from launcher.store.usage import margin_of
from launcher.units import format_bytes, median

GIB = 1 << 30
HOUR_S = 3600.0
ERROR_LENGTH = 200  # characters of an error that tell it from others
# numbers that say what an error is stay: of an address, an exit code, errno, HTTP, an error's own
_NUMBER = re.compile(
    r"(\w+://\S+|\b(?:exit code|errno|error(?: code)?:?|http(?: error)?|status(?: code)?) \d+\b)"
    r"|0[xX][0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?",
    re.IGNORECASE,
)
_WHOSE = {
    "ours": ", own usage",
    "neighbour": ", usage of others",
    "machine": ", whole machine",
}


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

    cause: str  # what people call such a failure
    reason_code: ReasonCode
    detail: str  # what tells the group from others of its code
    attempts: int
    seconds: float  # that they had run
    job: int  # the newest of them

    @property
    def text(self) -> str:
        """What people call it, with what tells it from others."""
        return f"{self.cause}: {self.detail}" if self.detail else self.cause


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
        cause = "GPU fault" if code is ReasonCode.GPU_FAULT else code.replace("-", " ")
        group = FailureGroup(cause, code, detail, number, seconds, job)
        groups.append(((-seconds, -number, -at), group))
    return tuple(group for _, group in sorted(groups, key=itemgetter(0)))


def _detail(failed: FailedAttempts) -> str:
    """Return what tells attempts from others of the same code; empty: nothing."""
    match failed.code:
        case ReasonCode.OUT_OF_MEMORY:
            memory = "main memory" if failed.where == "ram" else "GPU memory"
            return f"{memory}{_WHOSE.get(failed.whose, '')}"
        case ReasonCode.GPU_FAULT:
            return _without_numbers(failed.fault)
        case ReasonCode.FAILED | ReasonCode.LOST:
            return _without_numbers(failed.error)
        case ReasonCode.STOPPED if failed.requeued:
            return "when the queue stopped"
    return ""


def _without_numbers(text: str) -> str:
    """Return an error without what sets it apart from others of its sort."""
    line = text.partition("\n")[0][:ERROR_LENGTH]
    return _NUMBER.sub(lambda number: number[1] or "#", line).strip()


class NodeUse(NamedTuple):
    """What ran on a node."""

    node: str
    backend: str
    attempts: int = 0
    done: int = 0
    gpu_seconds: float = 0.0  # of each of their GPUs
    core_seconds: float = 0.0


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
    """Attempts of a run on one pilot that began and ended on one day; else a single attempt."""

    run: str
    begun: float
    ended: float
    attempts: int
    gpu_s: float  # seconds of each of their GPUs
    core_s: float  # seconds of each of their cores
    pilot: str = ""  # its token; '': this machine
    done: int = 0


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
    gpu_seconds: float = 0.0
    core_seconds: float = 0.0
    median_seconds: float | None = None  # of the attempts that were done; None: none was


class Run(NamedTuple):
    """What became of a run, and what it took."""

    run: str
    jobs: int = 0  # that ended
    done: int = 0
    failed: int = 0
    attempts: int = 0
    gpu_seconds: float = 0.0
    core_seconds: float = 0.0


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
    ask: int | None = None  # what its owner should ask for; None: it is well, or not for him to say

    @property
    def hint(self) -> str:
        """What to ask next time, in words; empty: nothing else."""
        if self.ask is None:
            return ""
        return f"request {format_bytes(self.ask)} instead of {format_bytes(self.asked)}"


def better(asked: int, peak: int) -> int | None:
    """Return how many bytes to ask for next time, None where what was asked is well."""
    needed = peak + margin_of(peak)
    tenths = math.ceil(needed * 10 / GIB - _DUST)  # so people write it
    next_time = round(tenths * GIB / 10)
    return next_time if peak > asked or asked - next_time >= asked * _WORTH else None


class Past(NamedTuple):
    """The whole report; the newest, or the most costly, comes first."""

    days: tuple[Day, ...] = ()
    runs: tuple[Run, ...] = ()
    causes: tuple[FailureGroup, ...] = ()
    memory: tuple[Memory, ...] = ()
    nodes: tuple[NodeUse, ...] = ()


def days_of(
    ends: Iterable[Ends], spent: Iterable[Spent], medians: Iterable[tuple[str, float]]
) -> tuple[Day, ...]:
    """Return each day on which something ended or ran, the newest first."""
    days: dict[str, Day] = {}

    def count(day: str, **more: float) -> None:
        days[day] = _grown(days.get(day) or Day(day), more)

    for _, day, state, jobs in ends:
        count(day, **{state.value: jobs})
    for used in spent:
        for day, share in _shares(used.begun, used.ended):
            count(day, gpu_seconds=share * used.gpu_s, core_seconds=share * used.core_s)
    for day, seconds in medians:
        days[day] = (days.get(day) or Day(day))._replace(median_seconds=seconds)
    return tuple(days[day] for day in sorted(days, reverse=True))


def runs_of(ends: Iterable[Ends], spent: Iterable[Spent]) -> tuple[Run, ...]:
    """Return each run of which something ended or ran, the one that did so last first."""
    runs: dict[str, Run] = defaultdict(lambda: Run(""))
    newest: dict[str, float] = defaultdict(float)
    for used in spent:
        amounts = {
            "attempts": used.attempts,
            "gpu_seconds": used.gpu_s,
            "core_seconds": used.core_s,
        }
        runs[used.run] = _grown(runs[used.run], amounts)
        newest[used.run] = max(newest[used.run], used.ended)
    for run, _, state, jobs in ends:
        counted = {"jobs", state.value} & {*Run._fields}
        runs[run] = _grown(runs[run], dict.fromkeys(counted, jobs))
    ordered = sorted(runs, key=lambda run: (-newest[run], run))
    return tuple(runs[run]._replace(run=run) for run in ordered)


def nodes_of(spent: Iterable[Spent], places: Mapping[str, tuple[str, str]]) -> tuple[NodeUse, ...]:
    """Return what ran on each node, the one with most core-hours first.

    Args:
        spent: by all attempts.
        places: backend and node of each pilot by its token, and of this machine by ''.
    """
    nodes: dict[tuple[str, str], NodeUse] = {}
    for used in spent:
        backend, node = place = places.get(used.pilot, ("", ""))
        before = nodes.get(place) or NodeUse(node=node, backend=backend)
        amounts = (used.attempts, used.done, used.gpu_s, used.core_s)
        nodes[place] = NodeUse(node, backend, *map(add, before[2:], amounts))
    return tuple(sorted(nodes.values(), key=lambda use: (-use.core_seconds, use.backend, use.node)))


R = TypeVar("R", Day, Run)


def _grown(row: R, amounts: Mapping[str, float]) -> R:
    """Return a row with some of its columns larger by these amounts."""
    return row._replace(**{name: getattr(row, name) + more for name, more in amounts.items()})


def memory_of(taken: Iterable[Taken]) -> tuple[Memory, ...]:
    """Return what jobs alike asked of GPUs and took, what went beyond first, then by what was wasted."""
    alike: dict[str, list[Taken]] = defaultdict(list)
    for attempts in taken:
        alike[attempts.alike].append(attempts)
    memories = []
    for those in alike.values():
        newest = max(those, key=lambda attempts: attempts.job)
        asked, peak = _middle(those), max(attempts.peak for attempts in those)
        memories.append(
            Memory(
                name=newest.name,
                job=newest.job,
                attempts=sum(attempts.attempts for attempts in those),
                declared=newest.declared,
                asked=asked,
                peak=peak,
                beyond=sum(attempts.beyond for attempts in those),
                wasted_gib_hours=sum(attempts.wasted for attempts in those) / GIB / HOUR_S,
                ask=better(asked, peak) if newest.declared else None,
            )
        )
    return tuple(
        sorted(memories, key=lambda each: (not each.beyond, -each.wasted_gib_hours, -each.job))
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
_USED_SECONDS = "sum((until - begun) * gpus) AS gpu_s, sum((until - begun) * cpus) AS core_s"


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
            causes=failure_groups(self.failed()),
            memory=memory_of(self.taken()),
            nodes=nodes_of(spent, places),
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

        Those that lie within one local day are summed up by run, pilot and day.
        """
        rows = self._rows(
            "SELECT runs.name, begun, until, n, gpu_s, core_s, pilot, done FROM ("
            " SELECT run, min(begun) AS begun, max(until) AS until, count(*) AS n,"
            f" {_USED_SECONDS}, pilot, sum(done) AS done FROM ("
            f" SELECT job, number, cpus, {_GPUS} AS gpus, {_BEGUN} AS begun, {_END} AS until,"
            f" coalesce({PILOT_OF}, '') AS pilot, ended IS NOT NULL AND {_WAS_DONE} AS done,"
            f" {_day(_BEGUN)} AS first, {_day(_END)} AS last"
            f" FROM attempts WHERE {_LATELY}{self._among('job')}) AS one"
            " JOIN jobs ON jobs.id = job"
            f" GROUP BY run, pilot, iif(first = last, first, -(job * {_MOST_ATTEMPTS} + number))"
            ") AS those JOIN runs ON runs.id = run"
        )
        return [Spent(*row) for row in rows]

    def medians(self) -> list[tuple[str, float]]:
        """Return how long the attempts took that were done on each local day: the middle one."""
        by_day: dict[int, list[float]] = defaultdict(list)
        for day, seconds in self._rows(
            f"SELECT {_day('ended')}, {_SPAN} FROM attempts"
            f" WHERE ended >= :since AND {_WAS_DONE}{self._among('job')}"
        ):
            by_day[day].append(seconds)
        return [(_name_of(day), median(those)) for day, those in by_day.items()]

    def failed(self) -> list[FailedAttempts]:
        """Return the attempts that were not done, those together of which the same is on record."""
        rows = self._rows(
            "SELECT code, job, max(until), place, whose, fault, requeued, error, count(*), sum(seconds)"
            f" FROM (SELECT job, ended AS until, {_SPAN} AS seconds, {_CODE} AS code,"
            " coalesce(json_extract(reason_data, '$.where'), '') AS place,"
            " coalesce(json_extract(reason_data, '$.whose'), '') AS whose,"
            " coalesce(json_extract(reason_data, '$.fault'), '') AS fault,"
            " coalesce(json_extract(reason_data, '$.requeued'), 0) AS requeued,"
            f" {_ERROR} AS error"
            f" FROM attempts WHERE ended >= :since AND NOT {_WAS_DONE}{self._among('job')}"
            ") GROUP BY code, place, whose, fault, requeued, error"
        )
        return [
            FailedAttempts(
                known_code(code or ""),
                job,
                at,
                place,
                whose,
                fault,
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
