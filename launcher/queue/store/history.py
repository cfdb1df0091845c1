"""Past activity of a queue: jobs per day, usage of runs and nodes, and unused requested memory."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date

from launcher.queue.store.connection import known_code, known_record, known_state
from launcher.queue.store.failure_groups import AttemptFailures, group_failures
from launcher.queue.store.history_report import (
    EndCount,
    HistoryReport,
    ReservationUsage,
    UsageTotal,
    summarize_days,
    summarize_memory,
    summarize_nodes,
    summarize_runs,
)
from launcher.queue.store.rows import PILOT_TOKEN_SQL, WAS_DONE_SQL
from launcher.system.units import median

# --- records of the queue, summed up by the database because there may be a million jobs

_FIRST_DAY = 1_721_425  # the Julian day's number of 31 December of the year 0
# as bytes: a program's output may not be valid text
_ERROR = "CAST(coalesce(json_extract(outcome, '$.error'), json_extract(outcome, '$.why')) AS BLOB)"
_GPUS = "iif(device = 'cpu', 0, length(device) - length(replace(device, ',', '')) + 1)"
_UNTIL = "max(coalesce(ended, :now), claimed, :since)"  # the clock may have been set back meanwhile
_BEGUN = "max(claimed, :since)"
_SPAN = "max(0, ended - claimed - paused)"  # pauses are not work
_RESERVED_SPAN = "max(0, ended - claimed)"  # memory stays reserved during pauses, so they count
_MOST_ATTEMPTS = 100_000  # attempts of one job: more than anybody can ask for
_ENDED_SINCE = "(ended IS NULL OR max(ended, claimed) >= :since)"
_USED_SECONDS = "sum((until - begun) * gpus) AS gpu_s, sum((until - begun) * cpus) AS core_s"


class HistoryQueries:
    """Read-only queries on past activity. Each one reads its table once."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        start_time: float = 0.0,
        now: float = 0.0,
        jobs: Collection[int] | None = None,
    ) -> None:
        """Ask over a connection that a store has opened.

        Args:
            connection: connection to the queue.
            start_time: the time from which on an end counts.
            now: time up to which running attempts count.
            jobs: only these; None: all.
        """
        self._db, self._is_filtered = connection, jobs is not None
        self._parameters = {"since": start_time, "now": now, "jobs": json.dumps([*(jobs or ())])}

    def build_report(self, node_by_pilot: Mapping[str, tuple[str, str]]) -> HistoryReport:
        """Return the whole report.

        Args:
            node_by_pilot: backend and node of each pilot, and of this machine by ''.
        """
        ends, spent = self.count_ends(), self.usage_totals()
        return HistoryReport(
            days=summarize_days(ends, spent, self.median_durations()),
            runs=summarize_runs(ends, spent),
            causes=group_failures(self.attempt_failures()),
            memory=summarize_memory(self.reservation_usages()),
            nodes=summarize_nodes(spent, node_by_pilot),
        )

    def _rows(self, query: str) -> sqlite3.Cursor:
        rows = self._db.execute(query, self._parameters)
        rows.row_factory = None
        return rows

    def _job_filter(self, column: str) -> str:
        return f" AND {column} IN (SELECT value FROM json_each(:jobs))" if self._is_filtered else ""

    def count_ends(self) -> list[EndCount]:
        """Return how many jobs came to which end, by run and local day."""
        rows = self._rows(
            "SELECT runs.name, day, state, n FROM ("
            f" SELECT run, {_day_sql('ended')} AS day, state, count(*) AS n"
            f" FROM jobs WHERE ended >= :since{self._job_filter('id')} GROUP BY run, day, state"
            ") JOIN runs ON runs.id = run"
        )
        return [
            EndCount(run, _date_text(day), known_state(state), n) for run, day, state, n in rows
        ]

    def usage_totals(self) -> list[UsageTotal]:
        """Return what attempts took, those that still run until now.

        Those that lie within one local day are summed up by run, pilot and day.
        """
        rows = self._rows(
            "SELECT runs.name, begun, until, n, gpu_s, core_s, pilot, done FROM ("
            " SELECT run, min(begun) AS begun, max(until) AS until, count(*) AS n,"
            f" {_USED_SECONDS}, pilot, sum(done) AS done FROM ("
            f" SELECT job, number, cpus, {_GPUS} AS gpus, {_BEGUN} AS begun, {_UNTIL} AS until,"
            f" coalesce({PILOT_TOKEN_SQL}, '') AS pilot, ended IS NOT NULL AND {WAS_DONE_SQL} AS done,"
            f" {_day_sql(_BEGUN)} AS first, {_day_sql(_UNTIL)} AS last"
            f" FROM attempts WHERE {_ENDED_SINCE}{self._job_filter('job')}) AS one"
            " JOIN jobs ON jobs.id = job"
            f" GROUP BY run, pilot, iif(first = last, first, -(job * {_MOST_ATTEMPTS} + number))"
            ") AS those JOIN runs ON runs.id = run"
        )
        return [UsageTotal(*row) for row in rows]

    def median_durations(self) -> list[tuple[str, float]]:
        """Return how long the attempts took that were done on each local day: the middle one."""
        by_day: dict[int, list[float]] = defaultdict(list)
        for day, seconds in self._rows(
            f"SELECT {_day_sql('ended')}, {_SPAN} FROM attempts"
            f" WHERE ended >= :since AND {WAS_DONE_SQL}{self._job_filter('job')}"
        ):
            by_day[day].append(seconds)
        return [(_date_text(day), median(those)) for day, those in by_day.items()]

    def attempt_failures(self) -> list[AttemptFailures]:
        """Return the attempts that were not done, those together of which the same is on record."""
        rows = self._rows(
            "SELECT code, job, max(until), place, whose, fault, requeued, error, count(*), sum(seconds)"
            f" FROM (SELECT job, ended AS until, {_SPAN} AS seconds, reason_code AS code,"
            " coalesce(json_extract(reason_data, '$.where'), '') AS place,"
            " coalesce(json_extract(reason_data, '$.whose'), '') AS whose,"
            " coalesce(json_extract(reason_data, '$.fault'), '') AS fault,"
            " coalesce(json_extract(reason_data, '$.requeued'), 0) AS requeued,"
            f" {_ERROR} AS error"
            f" FROM attempts WHERE ended >= :since AND NOT {WAS_DONE_SQL}{self._job_filter('job')}"
            ") GROUP BY code, place, whose, fault, requeued, error"
        )
        return [
            AttemptFailures(
                known_code(code),
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

    def reservation_usages(self) -> list[ReservationUsage]:
        """Return the reserved and the used GPU memory of attempts, if both are known."""
        rows = self._rows(
            "SELECT lanes.key, kind || ' ' || coalesce(json_extract(spec, '$.model'), 'None'),"
            " name, job, vram, n, peak, wasted, beyond FROM ("
            " SELECT lane, vram, max(job) AS job, count(*) AS n, max(peak) AS peak,"
            f" sum(max(0, vram - peak) * {_RESERVED_SPAN}) AS wasted, sum(peak > vram) AS beyond"
            " FROM (SELECT job, vram, peak, claimed, attempts.ended, lane FROM attempts"
            " JOIN jobs ON jobs.id = job WHERE vram IS NOT NULL AND peak IS NOT NULL"
            f" AND attempts.ended >= :since{self._job_filter('job')}) GROUP BY lane, vram"
            ") AS those JOIN jobs ON jobs.id = job LEFT JOIN lanes ON lanes.id = those.lane"
        )
        taken = []
        for key, like, name, job, *amounts in rows:
            lane = known_record(key)
            declared = lane.get("resources", {}).get("vram") is not None
            taken.append(
                ReservationUsage(lane.get("signature") or like, name, job, declared, *amounts)
            )
        return taken


def _day_sql(time_column: str) -> str:
    """Return the expression of a time's local day as a number: numbers are sorted sooner."""
    return f"CAST(julianday({time_column}, 'unixepoch', 'localtime') + 0.5 AS INTEGER)"


def _date_text(day: int) -> str:
    """Return the date of a day's number."""
    return date.fromordinal(day - _FIRST_DAY).isoformat()
