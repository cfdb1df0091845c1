"""The best rows of results. `--best`, the page of a run and the database leave out the same rows.

A row may not be best if its number is not finite, if a job of its mean failed, or if it is a pruned trial.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, NamedTuple

from launcher.errors import pluralize
from launcher.results.metric import Metric, read_metric
from launcher.results.over import lacks_ended_jobs
from launcher.results.returned_rows import PRUNED, TRIAL
from launcher.results.table import DATA, POOLED, Row, RunResults


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


class BestRows(NamedTuple):
    """The best rows, and how many rows could not be among them."""

    results: RunResults
    left_out: Mapping[Flaw, int] = {}

    def note(self, metric: str) -> str:
        """Return how many rows were left out and why, empty if none was."""
        if not self.left_out:
            return ""
        number = sum(self.left_out.values())
        verb = "was" if number == 1 else "were"
        reasons = ", ".join(flaw.text(self.left_out[flaw], metric) for flaw in self.left_out)
        return f"{pluralize(number, 'row')} {verb} left out of the best: {reasons}"


def best_rows(
    results: RunResults,
    metric: str,
    *,
    low: bool,
    most: int = 1,
    is_incomplete: Callable[[Row], bool] = lambda _: False,
) -> BestRows:
    """Return the rows with the best values per data set, the best first; more than `most` if the last are equal.

    Rows that pool data sets are separate sets. Rows without the metric are omitted.

    Args:
        results: Results of a run.
        metric: Name of a column of numbers.
        low: Whether lower values are better.
        most: Number of rows per data set.
        is_incomplete: Returns whether a row is a trial that lacks a job.

    Raises:
        UsageError: the column does not exist.
    """
    name = results.metric(metric)
    flaws = Counter(
        flaw or Flaw.INCOMPLETE
        for row in results.rows
        if (number := read_metric(row.get(name))) is not None
        and ((flaw := _flaw(row, number)) is not None or is_incomplete(row))
    )
    rows: list[Row] = []
    for group in by_data((row for row in results.rows if not is_incomplete(row)), name):
        ordered = sorted(group, key=itemgetter(0), reverse=not low)
        last = ordered[:most][-1][0]
        rows += [row for value, row in ordered if (value <= last if low else value >= last)]
    left_out = {flaw: flaws[flaw] for flaw in Flaw if flaws[flaw]}
    return BestRows(results._replace(rows=rows), left_out)


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
    return Flaw.LACKS_VALUES if lacks_ended_jobs(number) else None
