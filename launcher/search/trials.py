"""How the trials of a search ended, from the jobs in the queue."""

import math
import signal
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from launcher.search.definition import Objective, SearchDefinition
from launcher.states import OPEN_STATES, ReasonCode, State
from launcher.store.searches import TrialRow

MOST_KILLED = 3  # attempts of a job that was killed from outside, before its trial counts as failed
MOST_EQUAL = 5  # equal results of the first trials that are worth a note
MOST_FAILED = 5  # failures of the first trials that end the search
_KILLS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class JobResult(NamedTuple):
    """The numbers of a job of a trial."""

    values: tuple[float, ...] | None  # one per metric; None if one is missing or not a number
    printed: tuple[str, ...] = ()  # names of all its numbers
    missing: str = ""  # a metric that it did not report


class EndedTrial(NamedTuple):
    """A trial that has ended."""

    number: int
    pruned: bool
    results: tuple[float, ...] = ()  # means over the seeds; empty if it failed
    missing: str = ""  # a metric that was not reported
    is_partial: bool = False  # a seed failed or has no finite number


def read_values(objectives: Sequence[Objective], numbers: Mapping[str, float]) -> JobResult:
    """Return what counts among the numbers of a job."""
    values = []
    for objective in objectives:
        value = numbers.get(objective.metric)
        if value is None:
            return JobResult(None, tuple(numbers), objective.metric)
        if not math.isfinite(value):
            return JobResult(None, tuple(numbers))
        values.append(float(value))
    return JobResult(tuple(values), tuple(numbers))


def by_number(rows: Sequence[TrialRow]) -> dict[int, list[TrialRow]]:
    """Return the jobs of each trial."""
    return {number: [*group] for number, group in groupby(rows, lambda row: row.number)}


def is_pruned(row: TrialRow) -> bool:
    """Whether a job was ended early by its search."""
    return row.code == ReasonCode.PRUNED


def has_ended(rows: Sequence[TrialRow], definition: SearchDefinition) -> bool:
    """Return whether a trial needs no further job and none of its jobs is open."""
    if any(row.state in OPEN_STATES for row in rows):
        return False
    return not missing_repeats(rows, definition)


def missing_repeats(rows: Sequence[TrialRow], definition: SearchDefinition) -> Sequence[int]:
    """Return which seeds of a trial can be queued now.

    If trials are ended early, the first seed decides, and the others follow when it is done.
    """
    if rows and any(is_pruned(row) for row in rows):
        return ()
    ended = [row for row in rows if row.state not in OPEN_STATES]
    if any(row.state is not State.DONE for row in ended):
        return ()  # the values fail, or a person cancelled them
    there = {row.repeat for row in rows}
    if definition.prunes and rows and not any(row.repeat == 0 for row in ended):
        return ()
    return [index for index in range(len(definition.repeats)) if index not in there]


def end_of(rows: Sequence[TrialRow], results: Mapping[int, JobResult]) -> EndedTrial:
    """Return how a trial ended.

    Args:
        rows: Its jobs, which have ended.
        results: Job → its numbers, for done jobs.
    """
    number = rows[0].number
    known = [each.values for row in rows if (each := results.get(row.job)) and each.values]
    missing = next((each.missing for each in results.values() if each.missing), "")
    means = tuple(sum(column) / len(column) for column in zip(*known, strict=True))
    return EndedTrial(number, any(map(is_pruned, rows)), means, missing, len(known) < len(rows))


def is_complete(rows: Sequence[TrialRow], definition: SearchDefinition) -> bool:
    """Return whether all jobs of a trial are done and none was ended early."""
    done = {row.repeat for row in rows if row.state is State.DONE and not is_pruned(row)}
    return len(done) == len(definition.repeats)


def was_killed(outcome: Mapping[str, object] | None) -> bool:
    """Return whether something outside the queue killed the program of an attempt."""
    known = outcome or {}
    return known.get("ending") == "failed" and known.get("signal") in _KILLS
