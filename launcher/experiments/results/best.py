"""The best rows of results. `--best`, the page of a run and the database leave out the same rows.

A row may not be best if its number is not finite, if a job of its mean failed, or if it is a pruned trial.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import takewhile
from operator import itemgetter
from typing import Any, NamedTuple

from launcher.experiments.results.averages import lacks_ended_jobs
from launcher.experiments.results.metric import Metric, read_metric
from launcher.experiments.results.returned_rows import FAILED, INCOMPLETE, PRUNED, TRIAL
from launcher.experiments.results.table import DATA, POOLED, Row, RunResults, sort_key
from launcher.system.errors import pluralize


class Flaw(Enum):
    """Why a row may not be best, as the singular and the plural of a verb and its object."""

    PRUNED = ("is a pruned trial", "are pruned trials")
    NOT_FINITE = ("has no finite {metric}", "have no finite {metric}")
    LACKS_VALUES = ("has a failed or missing value", "have failed or missing values")
    INCOMPLETE = ("is an incomplete trial", "are incomplete trials")

    def text(self, count: int, metric: str) -> str:
        """Return "2 have no finite acc"."""
        singular, plural = self.value
        return f"{count:,} {(singular if count == 1 else plural).format(metric=metric)}"


# places behind the rows that may be best
_RANKS = {Flaw.LACKS_VALUES: 1, Flaw.INCOMPLETE: 1, Flaw.PRUNED: 2, Flaw.NOT_FINITE: 3}
_LAST = 4


class BestRows(NamedTuple):
    """The best rows, and how many rows could not be among them."""

    results: RunResults
    left_out: Mapping[Flaw, int] = {}
    behind: Mapping[Flaw, int] = {}  # the last rows, which are not among the best

    def notes(self, metric: str) -> list[str]:
        """Return how many rows are not among the best, and why."""
        number, behind = sum(self.left_out.values()), sum(self.behind.values())
        be, follow = ("was" if number == 1 else "were"), ("follows" if behind == 1 else "follow")
        texts = (
            (self.left_out, f"{pluralize(number, 'row')} {be} left out of the best"),
            (self.behind, f"{pluralize(behind, 'row')} {follow} the best ones"),
        )
        return [
            f"{text}: {', '.join(flaw.text(flaws[flaw], metric) for flaw in flaws)}"
            for flaws, text in texts
            if flaws
        ]

    @property
    def best(self) -> Row | None:
        """The first of the best rows, None if no row may be best."""
        return self.results.rows[0] if len(self.results.rows) > sum(self.behind.values()) else None


def best_rows(
    results: RunResults,
    metric: str,
    *,
    low: bool,
    most: int = 1,
    are_trials: bool = False,
) -> BestRows:
    """Return the rows with the best values per data set, the best first; more than `most` if the last are equal.

    Rows that pool data sets are separate sets. Rows without the metric are omitted. If fewer than `most` trials of a
    search may be best, the others follow.

    Args:
        results: Results of a run.
        metric: Name of a column of numbers.
        low: Whether lower values are better.
        most: Number of rows per data set.
        are_trials: Whether the rows are trials.

    Raises:
        UsageError: the column does not exist.
    """
    name = results.metric(metric)
    rows: list[Row] = []
    for group in by_data(results.rows, name):
        ordered = sorted(group, key=itemgetter(0), reverse=not low)
        last = ordered[:most][-1][0]
        rows += [row for value, row in ordered if (value <= last if low else value >= last)]
    sign = 1 if low else -1
    flawed = [
        (_RANKS[flaw], sign * number.value, row, flaw)
        for row in results.rows
        if (number := _read_number(row.get(name))) is not None
        and (flaw := _flaw(row, number)) is not None
    ]
    room = max(0, most - len(rows)) if most > 1 and are_trials else 0
    flawed.sort(key=lambda each: (each[0], math.isnan(each[1]), each[1]))
    rows += [row for _, _, row, _ in flawed[:room]]
    behind, left_out = (
        Counter(flaw for *_, flaw in part) for part in (flawed[:room], flawed[room:])
    )
    return BestRows(results._replace(rows=rows), _sort_flaws(left_out), _sort_flaws(behind))


def _read_number(cell: Any) -> Metric | None:
    """Return the number of a cell, NaN for a text that a function returned in its place, None if it is empty."""
    return Metric(math.nan) if isinstance(cell, str) and cell else read_metric(cell)


def _sort_flaws(flaws: Mapping[Flaw, int]) -> Mapping[Flaw, int]:
    return {flaw: flaws[flaw] for flaw in Flaw if flaws.get(flaw)}


def rank_trials(results: RunResults, metric: str) -> RunResults:
    """Return results in which the trials that may not be best follow the other rows, those with a number first.

    Args:
        results: Results of a run.
        metric: Metric of its search.
    """
    if not metric and TRIAL not in results.columns:  # no search
        return results
    return results._replace(rows=sorted(results.rows, key=lambda row: _rank(row, metric)))


def _rank(row: Row, metric: str) -> int:
    number = read_metric(row.get(metric))
    if number is None:
        return _LAST if row.get(TRIAL) else 0
    flaw = _flaw(row, number)
    return 0 if flaw is None else _RANKS[flaw]


def count_equal(results: RunResults, most: int, columns: Sequence[str], metric: str) -> int:
    """Return how many rows after the first `most` have the same place in their order as the last of these.

    Args:
        results: Sorted results, in which `rank_trials` has put trials that may not be best last.
        most: Number of first rows.
        columns: Names of the columns by which they are sorted.
        metric: Metric by which their trials are ranked.
    """

    def place(row: Row) -> tuple[object, ...]:
        return _rank(row, metric), *(sort_key(row.get(results.column(name))) for name in columns)

    shown, others = results.rows[:most], results.rows[most:]
    if not others or sort_key(shown[-1].get(results.column(columns[0]))) is None:
        return 0  # each row with a value is shown
    last = place(shown[-1])
    return sum(1 for _ in takewhile(lambda row: place(row) == last, others))


def by_data(rows: Iterable[Row], metric: str) -> Iterable[Sequence[tuple[float, Row]]]:
    """Return the values that may be best with their rows, grouped by data."""
    groups: dict[Any, list[tuple[float, Row]]] = {}
    for row in rows:
        number = read_metric(row.get(metric))
        if number is not None and _flaw(row, number) is None:
            place = (row.get(DATA), bool(row.get(POOLED)), str(row.get("data_root")))
            groups.setdefault(place, []).append((number.value, row))
    return groups.values()


def _flaw(row: Row, number: Metric) -> Flaw | None:
    """Return why a row may not be best by a number, None if it may."""
    if row.get(TRIAL) == PRUNED:
        return Flaw.PRUNED
    if not math.isfinite(number.value):
        return Flaw.NOT_FINITE
    if lacks_ended_jobs(number):
        return Flaw.LACKS_VALUES
    return Flaw.INCOMPLETE if row.get(TRIAL) in {INCOMPLETE, FAILED} else None
