"""Runs in the database: their accounts, and the first of their jobs that could start.

Jobs of one priority, one run and one lane form a class. The first of them starts first. Only a few
jobs of each class are therefore read, for any length of it, and neither a lane nor a run hides
another. Of very many classes, the first ones and some of the others in rotation are read.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from sqlite3 import Cursor
from typing import NamedTuple

from launcher.queue.jobs.accounts import FairShareAccount, gpu_equivalents, read_account
from launcher.queue.jobs.job import CPU
from launcher.queue.jobs.states import Outcome
from launcher.queue.store.connection import Connection
from launcher.queue.store.rows import Claim, JobRow
from launcher.queue.store.usage import LONGEST_S, MeasuredUsage

MOST_RUNS = 256  # runs of a priority that are read, those with the lowest virtual time
MOST_OTHERS = 64  # further runs that are read in rotation: the first ones may wait for a resource that no other run needs
LEAST_CLASSES = 32  # classes that are read first: the highest priorities
CLASSES_EACH = 2  # classes for each job that can run at once
OTHER_CLASSES = 16  # further classes that are read in rotation
MOST_JOBS = 4096  # jobs that are read in total, unless LEAST_EACH of every class are more
LEAST_EACH = 4

_READY = "FROM jobs WHERE state = 'queued' AND waits = 0"
_NEXT_PRIORITY = f"SELECT max(priority) {_READY} AND priority <= ?"
_HIGHEST_PRIORITY = (1 << 63) - 1
_STARTED = (
    "SELECT 1 FROM jobs WHERE id IN (SELECT value FROM json_each(?)) AND state <> 'queued' LIMIT 1"
)
_RUNS = (
    f"WITH RECURSIVE waiting(run) AS (SELECT min(run) {_READY} AND priority = ?1 UNION ALL"
    f" SELECT (SELECT min(run) {_READY} AND priority = ?1 AND run > waiting.run) FROM waiting"
    " WHERE run IS NOT NULL) SELECT id, name, share, vtime, used, used_at FROM waiting"
    " CROSS JOIN runs ON runs.id = waiting.run"
)
_NEXT_LANE = (
    f"SELECT lane, rank, id {_READY} AND priority = ? AND run = ? AND lane > ?"
    " ORDER BY lane, rank, id LIMIT ?"
)


class JobClass(NamedTuple):
    """The first jobs of one priority, run and lane, the most urgent first."""

    priority: int
    account: FairShareAccount  # account of the run
    lane: int
    jobs: tuple[tuple[float, int], ...]  # rank and number

    @property
    def key(self) -> tuple[int, int, int]:
        """Priority, run and lane."""
        return self.priority, int(self.account.run), self.lane


_Row = tuple[int, str, float, float, float, float]  # columns of a run, as `read_account` takes them


_Key = tuple[int, int, int]  # priority, run and lane of a class


class QueueHeads:
    """Reads the first jobs of all classes. With very many runs or classes it reads some in rotation."""

    def __init__(self, execute: Callable[..., Cursor]) -> None:
        """Read the jobs of a database."""
        self._execute = execute
        self._class_count = 0  # at the last read
        self._next_run = 0  # the run with which the turns of the others go on
        # last turn of the classes that are read in rotation: where it began and ended, and its jobs
        self._turn: tuple[_Key, _Key] | None = None
        self._turn_jobs: list[int] = []
        self.is_partial = False  # at the last read: there were too many classes for one

    def read_classes(self, per_class: int) -> Iterator[JobClass]:
        """Yield the first `per_class` jobs of every class, fewer if there are very many classes."""
        return self._count(self._classes(None, self._size(per_class)))

    def read_some_classes(self, per_class: int) -> Iterator[JobClass]:
        """Yield the same of the first classes and of some others in rotation, so that the cost is bounded.

        The rotation stays where jobs start.
        """
        most, size = max(LEAST_CLASSES, CLASSES_EACH * per_class), self._size(per_class)
        first = [*islice(self._classes(None, size), most)]
        self.is_partial = len(first) == most
        others = self._read_others(first[-1].key, size) if self.is_partial else []
        return self._count([*first, *others])

    def _size(self, per_class: int) -> int:
        """Return how many jobs of a class are read."""
        if not self._class_count:
            return per_class
        return min(per_class, max(LEAST_EACH, MOST_JOBS // self._class_count))

    def _count(self, classes: Iterable[JobClass]) -> Iterator[JobClass]:
        count = 0
        for flow in classes:
            count += 1
            yield flow
        self._class_count = count

    def _read_others(self, first: _Key, per_class: int) -> list[JobClass]:
        """Return some of the classes behind the first ones."""
        after = first
        if self._turn is not None:
            started = self._execute(_STARTED, (json.dumps(self._turn_jobs),)).fetchone()
            after = max(first, self._turn[0 if started else 1], key=_place_of)
        flows = [*islice(self._classes(after, per_class), OTHER_CLASSES)]
        # behind the last class, the next turn begins behind the first ones
        end = flows[-1].key if len(flows) == OTHER_CLASSES else first
        self._turn, self._turn_jobs = (after, end), [job for flow in flows for _, job in flow.jobs]
        return flows

    def _classes(self, last_key: _Key | None, per_class: int) -> Iterator[JobClass]:
        """Yield the classes behind one, or all; the highest priority first."""
        first, run, lane = last_key or (_HIGHEST_PRIORITY, -1, -1)
        priority = first
        while (found := self._execute(_NEXT_PRIORITY, (priority,)).fetchone()[0]) is not None:
            rows = self._select_runs(self._execute(_RUNS, (found,)).fetchall())
            numbers = [row[0] for row in rows]
            behind = found == first and run in numbers
            for row in rows[numbers.index(run) :] if behind else rows:
                begin = lane if behind and row[0] == run else -1
                yield from self._classes_of_run(found, read_account(*row), begin, per_class)
            priority = found - 1

    def _classes_of_run(
        self, priority: int, run: FairShareAccount, lane: int, per_class: int
    ) -> Iterator[JobClass]:
        place = priority, run.run
        while jobs := self._execute(_NEXT_LANE, (*place, lane, per_class)).fetchall():
            lane = jobs[0][0]
            # the jobs of another lane belong to those behind it
            own = tuple((rank, job) for there, rank, job in jobs if there == lane)
            yield JobClass(priority=priority, account=run, lane=lane, jobs=own)
            if len(own) == len(jobs) < per_class:
                return  # there is no other lane

    def _select_runs(self, rows: list[_Row]) -> list[_Row]:
        """Return the runs to read: those with the lowest virtual time, and some of the others in rotation."""
        if len(rows) <= MOST_RUNS:
            return rows
        first = sorted(rows, key=itemgetter(3))[:MOST_RUNS]
        taken = {row[0] for row in first}
        others = [row for row in rows if row[0] not in taken]
        after = [row for row in others if row[0] >= self._next_run]
        chosen = [*islice(chain(after, others), min(MOST_OTHERS, len(others)))]
        self._next_run = chosen[-1][0] + 1 if chosen else 0
        return [*first, *chosen]


def _place_of(key: _Key) -> _Key:
    """Return the place of a class in the order in which classes are read."""
    return -key[0], key[1], key[2]


_ACCOUNT = "SELECT id, name, share, vtime, used, used_at FROM runs"


def charge_run(
    db: Connection, claim: Claim, outcome: Outcome, measured_usage: MeasuredUsage
) -> None:
    """Add the usage of an ended attempt to its run. Inside `writing`.

    Args:
        db: Database of the store.
        claim: The attempt.
        outcome: Its end.
        measured_usage: Its run time by a clock that is never set, and its paused time, which does not
            count.
    """
    seconds, elapsed_s = outcome.at - claim.claimed, measured_usage.elapsed_s
    if elapsed_s is not None:
        seconds = min(seconds, elapsed_s) if seconds > 0 else elapsed_s
    seconds -= measured_usage.paused_s
    row = db.execute(f"{_ACCOUNT} WHERE id = ?", (claim.run,)).fetchone()
    if row is None or not 0 < seconds <= LONGEST_S:  # the wall clock was set
        return
    after = read_account(*row).charge_attempt(
        gpu_equivalents(claim.gpus, claim.cpus) * seconds, outcome.at
    )
    db.execute(
        "UPDATE runs SET vtime = ?, used = ?, used_at = ? WHERE id = ?",
        (after.vtime, after.used, after.updated_at, claim.run),
    )


def open_runs(execute: Callable[..., Cursor]) -> list[tuple[FairShareAccount, int, int]]:
    """Return the runs that have jobs which have not ended, with how many of these run and wait."""
    rows = execute(
        "SELECT runs.id, name, share, vtime, used, used_at, sum(CASE state WHEN 'running' THEN n ELSE 0 END),"
        " sum(CASE state WHEN 'running' THEN 0 ELSE n END) FROM counters"
        " JOIN runs ON runs.id = run WHERE state IN ('queued', 'held', 'running') AND n > 0"
        " GROUP BY run ORDER BY run"
    )
    return [(read_account(*row[:6]), int(row[6]), int(row[7])) for row in rows]


def read_fair_share_account(
    execute: Callable[..., Cursor], root: Path, name: str
) -> FairShareAccount:
    """Return the account of a run, one without use where there is no such run yet."""
    row = execute(f"{_ACCOUNT} WHERE root = ? AND name = ?", (str(root), name)).fetchone()
    return FairShareAccount(name=name) if row is None else read_account(*row)


class RunOrigin(NamedTuple):
    """Where the results of a run lie, and what queued its jobs: all of them alike."""

    root: Path
    kind: str  # kind of one of its jobs
    is_planned: bool  # by a task file


def find_run_origin(execute: Callable[..., Cursor], name: str) -> RunOrigin | None:
    """Return the folder and origin of a run by name, None if no such run has jobs. If several match, the run of added programs."""
    row = execute(
        "SELECT root, kind, hash <> '' AS is_planned FROM runs JOIN jobs"
        " ON jobs.id = (SELECT id FROM jobs WHERE run = runs.id LIMIT 1)"
        " WHERE runs.name = ? ORDER BY is_planned, runs.id DESC LIMIT 1",
        (name,),
    ).fetchone()
    return None if row is None else RunOrigin(Path(row[0]), row[1], bool(row[2]))


def running_placements(
    execute: Callable[..., Cursor],
) -> list[tuple[int, float, tuple[str, ...], int]]:
    """Return of each running job its run, when its attempt was claimed, its GPUs and its cores."""
    rows = execute(
        "SELECT jobs.run, claimed, device, cpus FROM jobs JOIN attempts ON attempts.job = jobs.id"
        " AND attempts.outcome IS NULL WHERE jobs.state = 'running'"
    )
    return [
        (run, claimed, () if device == CPU else tuple(device.split(",")), cpus)
        for run, claimed, device, cpus in rows
    ]


def count_jobs_before(
    execute: Callable[..., Cursor], row: JobRow, priorities: Collection[int]
) -> int:
    """Return how many jobs of its run start before a ready one.

    Args:
        execute: Method of a database.
        row: The job.
        priorities: Priorities of the ready jobs of its run.
    """
    (rank,) = execute("SELECT rank FROM jobs WHERE id = ?", (row.id,)).fetchone() or (0.0,)
    (number,) = execute(
        "SELECT count(*) FROM jobs WHERE state = 'queued' AND waits = 0 AND run = ?1"
        " AND priority IN (SELECT value FROM json_each(?4)) AND (rank, id) < (?2, ?3)",
        (row.run_id, rank, row.id, json.dumps([*priorities])),
    ).fetchone()
    return int(number)
