"""What the queue did, summed up by the database: a queue may have a million jobs behind it."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection
from datetime import date
from typing import NamedTuple

from launcher.states import Done, outcome_record
from launcher.store.connection import Connection, known_code, known_record, known_state
from launcher.store.history import Ends, FailedAttempts, PilotUse, Spent, Taken
from launcher.store.rows import PILOT, PILOT_OF

# how the records of those that were done begin: to read all of each takes four times as long, and
# what a program returned may hold NaN, which Python writes and SQLite takes for no JSON
_DONE = json.dumps(dict(list(outcome_record(Done(at=0)).items())[:2]))[:-1]
_WAS_DONE = f"substr(outcome, 1, {len(_DONE)}) = '{_DONE}'"
_FIRST_DAY = 1_721_425  # the Julian day's number of 31 December of the year 0
# as bytes: a program's last words may hold what is no text
_ERROR = "CAST(coalesce(json_extract(outcome, '$.error'), json_extract(outcome, '$.why')) AS BLOB)"
# an older scheduler that has not left yet writes no codes
_CODE = "iif(reason_code = '', json_extract(outcome, '$.ending'), reason_code)"
_GPUS = "iif(device = 'cpu', 0, length(device) - length(replace(device, ',', '')) + 1)"
_END = "max(coalesce(ended, :now), claimed, :since)"  # the clock may have been set back meanwhile
_BEGUN = "max(claimed, :since)"
_SECONDS = "max(0, ended - claimed - paused)"  # pauses are no work
_HELD = "max(0, ended - claimed)"  # and memory stays reserved in them
_PILOT_USE = ("pilot", "attempts", "done", "gpu_s", "cpu_s")
_MOST_ATTEMPTS = 100_000  # of one job: more than anybody can ask for
_LATELY = "(ended IS NULL OR max(ended, claimed) >= :since)"


class History:
    """Questions on what was; none of them changes anything, and each reads its table once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def ends(self, since: float, jobs: Collection[int] | None = None) -> list[Ends]:
        """Return how many jobs came to which end, by run and local day.

        Args:
            since: the time from which on an end counts.
            jobs: only these; None: all.
        """
        rows = self._db.execute(
            "SELECT runs.name, day, state, n FROM ("
            f" SELECT run, {_day('ended')} AS day, state, count(*) AS n"
            f" FROM jobs WHERE ended >= :since{_among('id', jobs)} GROUP BY run, day, state"
            ") JOIN runs ON runs.id = run",
            _values(since, jobs),
        )
        return [
            Ends(
                run=row["name"],
                day=_name_of(row["day"]),
                state=known_state(row["state"]),
                jobs=row["n"],
            )
            for row in rows
        ]

    def spent(self, since: float, now: float, jobs: Collection[int] | None = None) -> list[Spent]:
        """Return what attempts took since a time, those that still run until now.

        Those that lie within one local day are summed up by run and day.
        """
        rows = self._db.execute(
            "SELECT runs.name, those.* FROM ("
            " SELECT run, min(begun) AS begun, max(until) AS ended, count(*) AS n,"
            " sum((until - begun) * gpus) AS gpu_s, sum((until - begun) * cpus) AS cpu_s FROM ("
            f" SELECT job, number, cpus, {_GPUS} AS gpus, {_BEGUN} AS begun, {_END} AS until,"
            f" {_day(_BEGUN)} AS first, {_day(_END)} AS last"
            f" FROM attempts WHERE {_LATELY}{_among('job', jobs)}) AS one"
            " JOIN jobs ON jobs.id = job"
            f" GROUP BY run, iif(first = last, first, -(job * {_MOST_ATTEMPTS} + number))"
            ") AS those JOIN runs ON runs.id = run",
            {**_values(since, jobs), "now": now},
        )
        return [
            Spent(
                run=row["name"],
                begun=row["begun"],
                ended=row["ended"],
                attempts=row["n"],
                gpu_s=row["gpu_s"],
                cpu_s=row["cpu_s"],
            )
            for row in rows
        ]

    def medians(self, since: float, jobs: Collection[int] | None = None) -> list[tuple[str, float]]:
        """Return how long the attempts took that were done on each local day: the middle one."""
        from statistics import median  # which nobody else who opens a queue needs

        rows = self._db.execute(
            f"SELECT {_day('ended')} AS day, {_SECONDS} AS seconds FROM attempts"
            f" WHERE ended >= :since AND {_WAS_DONE}{_among('job', jobs)}",
            _values(since, jobs),
        )
        rows.row_factory = None
        by_day: dict[int, list[float]] = defaultdict(list)
        for day, seconds in rows:
            by_day[day].append(seconds)
        return [(_name_of(day), median(those)) for day, those in by_day.items()]

    def by_pilot(
        self, since: float, now: float, jobs: Collection[int] | None = None
    ) -> list[PilotUse]:
        """Return what attempts took since a time by the pilot that they were on, this machine among them."""
        rows = self._db.execute(
            "SELECT pilot, count(*) AS n, sum(done) AS done,"
            " sum((until - begun) * gpus) AS gpu_s, sum((until - begun) * cpus) AS cpu_s FROM ("
            f" SELECT coalesce({PILOT_OF}, '') AS pilot, cpus, {_GPUS} AS gpus, {_BEGUN} AS begun,"
            f" {_END} AS until, ended IS NOT NULL AND {_WAS_DONE} AS done"
            f" FROM attempts WHERE {_LATELY}{_among('job', jobs)}) GROUP BY pilot",
            {**_values(since, jobs), "now": now},
        )
        return [PilotUse(**dict(zip(_PILOT_USE, row, strict=True))) for row in rows]

    def failed(self, since: float, jobs: Collection[int] | None = None) -> list[FailedAttempts]:
        """Return the attempts that were not done, those together of which the same is on record."""
        rows = self._db.execute(
            "SELECT code, place, whose, fault, requeued, error, count(*) AS n,"
            " sum(seconds) AS seconds, max(until) AS until, of FROM ("
            f" SELECT job AS of, ended AS until, {_SECONDS} AS seconds, {_CODE} AS code,"
            " json_extract(reason_data, '$.where') AS place,"
            " json_extract(reason_data, '$.whose') AS whose,"
            " json_extract(reason_data, '$.fault') AS fault,"
            " json_extract(reason_data, '$.requeued') AS requeued,"
            f" {_ERROR} AS error"
            f" FROM attempts WHERE ended >= :since AND NOT {_WAS_DONE}{_among('job', jobs)}"
            ") GROUP BY code, place, whose, fault, requeued, error",
            _values(since, jobs),
        )
        return [
            FailedAttempts(
                code=known_code(row["code"] or ""),
                where=row["place"] or "",
                whose=row["whose"] or "",
                fault=row["fault"] or "",
                requeued=bool(row["requeued"]),
                error=(row["error"] or b"").decode(errors="replace"),
                attempts=row["n"],
                seconds=row["seconds"],
                job=row["of"],
                at=row["until"],
            )
            for row in rows
        ]

    def taken(self, since: float, jobs: Collection[int] | None = None) -> list[Taken]:
        """Return what attempts were promised of a GPU's memory and took, where both are known."""
        rows = self._db.execute(
            "SELECT kind, name, job, claim, n, peak, wasted, beyond, lanes.key,"
            " json_extract(spec, '$.model') AS model FROM ("
            " SELECT lane, claim, max(job) AS job, count(*) AS n, max(peak) AS peak,"
            f" sum(max(0, claim - peak) * {_HELD}) AS wasted, sum(peak > claim) AS beyond"
            " FROM (SELECT job, claim, peak, claimed, attempts.ended, lane FROM attempts"
            " JOIN jobs ON jobs.id = job WHERE claim IS NOT NULL AND peak IS NOT NULL"
            f" AND attempts.ended >= :since{_among('job', jobs)}) GROUP BY lane, claim"
            ") AS those JOIN jobs ON jobs.id = job LEFT JOIN lanes ON lanes.id = those.lane",
            _values(since, jobs),
        )
        taken = []
        for row in rows:
            lane = known_record(row["key"])
            taken.append(
                Taken(
                    alike=lane.get("signature") or f"{row['kind']} {row['model']}",
                    name=row["name"],
                    job=row["job"],
                    declared=lane.get("resources", {}).get("min_vram") is not None,
                    reservation=row["claim"],
                    attempts=row["n"],
                    peak=row["peak"],
                    wasted=row["wasted"],
                    beyond=row["beyond"],
                )
            )
        return taken


def _day(at: str) -> str:
    """Return the expression of a time's local day as a number: numbers are sorted sooner."""
    return f"CAST(julianday({at}, 'unixepoch', 'localtime') + 0.5 AS INTEGER)"


def _name_of(day: int) -> str:
    """Return the date of a day's number."""
    return date.fromordinal(day - _FIRST_DAY).isoformat()


def _among(column: str, jobs: Collection[int] | None) -> str:
    return "" if jobs is None else f" AND {column} IN (SELECT value FROM json_each(:jobs))"


def _values(since: float, jobs: Collection[int] | None) -> dict[str, object]:
    return {"since": since} if jobs is None else {"since": since, "jobs": json.dumps([*jobs])}


# --- what a scheduler begins to count with

# attempts that are alike and ended in the same hour are one row; one of more than an hour is a row of its own
_USED = (
    "SELECT attempts.device, attempts.cpus, attempts.claim, attempts.lone,"
    " iif(json_valid(lanes.key), json_extract(lanes.key, '$.resources.ram'), NULL),"
    " min(claimed), max(attempts.ended), sum(attempts.ended - claimed)"
    " FROM attempts JOIN jobs ON jobs.id = attempts.job LEFT JOIN lanes ON lanes.id = jobs.lane"
    " WHERE attempts.ended > ?1 AND attempts.ended <= ?2 AND attempts.ended > claimed"
    f" AND substr(attempts.boot, 1, {len(PILOT)}) <> '{PILOT}'"  # those on pilots took nothing here
    " GROUP BY device, cpus, claim, lone, jobs.lane, CAST(attempts.ended / 3600 AS INTEGER),"
    " CASE WHEN attempts.ended - claimed > 3600 THEN attempts.job || ' ' || attempts.number END"
)


class PastUse(NamedTuple):
    """Attempts that asked for the same, and ended at about the same time."""

    gpus: tuple[str, ...]
    cpus: int
    reservation: int | None  # bytes on each GPU; None: they were its own
    exclusive: bool
    ram: int
    began: float  # the first of them, seconds since 1970
    ended: float  # the last of them
    seconds: float  # all of them together


def past_use(connection: Connection, since: float, now: float) -> list[PastUse]:
    """Return what the attempts used that ended after a time; what cannot be is left out."""
    return [
        PastUse(
            gpus=() if device == "cpu" else tuple(str(device).split(",")),
            cpus=cpus,
            reservation=reservation,
            exclusive=bool(lone),
            ram=ram if isinstance(ram, int) and ram > 0 else 0,
            began=began,
            ended=ended,
            seconds=seconds,
        )
        for device, cpus, reservation, lone, ram, began, ended, seconds in connection.execute(
            _USED, (since, now)
        )
    ]
