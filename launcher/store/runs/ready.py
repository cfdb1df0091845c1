"""The first jobs of each run that could start, found without looking at the others.

Jobs of one priority, one run and one lane form a flow: the first of them starts first. So a few jobs of each flow
are looked at, however long it is, and neither a lane nor a run hides another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from sqlite3 import Cursor

from launcher.store.runs.accounts import RunAccount, account

MOST_RUNS = 256  # of a priority that are looked at, those whose turn comes soonest
MOST_OTHERS = 64  # of the other runs, by turns: the first may wait for what nobody else wants
MOST_JOBS = 4096  # that are looked at, where more than LEAST_EACH of a flow would be more
LEAST_EACH = 4

_READY = "FROM jobs WHERE state = 'queued' AND waits = 0"
_PRIORITIES = (
    f"WITH RECURSIVE level(priority) AS (SELECT max(priority) {_READY} UNION ALL"
    f" SELECT (SELECT max(priority) {_READY} AND priority < level.priority) FROM level"
    " WHERE priority IS NOT NULL) SELECT priority FROM level WHERE priority IS NOT NULL"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The first jobs of one priority, run and lane, the most urgent first."""

    priority: int
    account: RunAccount  # of the run
    lane: int
    jobs: tuple[tuple[float, int], ...]  # rank and number


_Row = tuple[int, str, float, float, float, float]  # of a run, as `account` takes it


class FirstJobs:
    """Looks at the heads of all flows; of very many runs at some by turns."""

    def __init__(self, execute: Callable[..., Cursor]) -> None:
        """Look at the jobs of a database."""
        self._execute = execute
        self._flows = 0  # at the last look
        self._next = 0  # the run with which the turns of the others go on

    def flows(self, each: int) -> Iterator[Flow]:
        """Give the first `each` jobs of every flow, fewer where there are very many flows."""
        if self._flows:
            each = min(each, max(LEAST_EACH, MOST_JOBS // self._flows))
        flows = 0
        for (priority,) in self._execute(_PRIORITIES).fetchall():
            rows = self._execute(_RUNS, (priority,)).fetchall()
            for run in [account(*row) for row in self._chosen(rows)]:
                lane, place = -1, (priority, run.run)
                while jobs := self._execute(_NEXT_LANE, (*place, lane, each)).fetchall():
                    lane = jobs[0][0]
                    flows += 1
                    # the jobs of another lane belong to those behind it
                    own = tuple((rank, job) for there, rank, job in jobs if there == lane)
                    yield Flow(priority=priority, account=run, lane=lane, jobs=own)
                    if len(own) == len(jobs) < each:
                        break  # there is no other lane
        self._flows = flows

    def _chosen(self, rows: list[_Row]) -> list[_Row]:
        """Return the runs to look at: those whose turn comes soonest, and some of the others by turns."""
        if len(rows) <= MOST_RUNS:
            return rows
        first = sorted(rows, key=itemgetter(3))[:MOST_RUNS]
        taken = {row[0] for row in first}
        others = [row for row in rows if row[0] not in taken]
        after = [row for row in others if row[0] >= self._next]
        chosen = [*islice(chain(after, others), min(MOST_OTHERS, len(others)))]
        self._next = chosen[-1][0] + 1 if chosen else 0
        return [*first, *chosen]
