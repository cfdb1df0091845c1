"""How the trials of a search ended, from the jobs in the queue."""

import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from itertools import groupby
from typing import NamedTuple

from launcher.experiments.results.averages import mean_of
from launcher.experiments.results.pivot import metrics_of_result
from launcher.experiments.search.definition import Objective, SearchDefinition
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode, State
from launcher.queue.store.searches import TrialRow
from launcher.system.files import Json

MOST_KILLED = 3  # attempts of a job that was killed from outside, before its trial counts as failed
MOST_EQUAL = 5  # equal results of the first trials that are worth a note
MOST_FAILED = 5  # failures of the first trials that end the search
_KILLS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
# failures that say nothing about the values of a trial
_NOT_ITS_FAULT = frozenset(
    {
        *(ReasonCode.LOST, ReasonCode.STOPPED, ReasonCode.GPU_FAULT),
        *(ReasonCode.CANNOT_START, ReasonCode.UNREADABLE),
    }
)


class TrialOutcome(Enum):
    """How the seeds of a trial ended together."""

    COMPLETE = auto()  # each has a finite number
    UNSTABLE = auto()  # some failed by themselves or have no finite number, others have one
    FAILED = auto()  # none has a finite number, and one failed by itself
    PRUNED = auto()
    UNKNOWN = auto()  # one was cancelled or lost, or has other settings, and none failed by itself


class JobResult(NamedTuple):
    """The numbers of a job of a trial."""

    values: tuple[float, ...] | None  # one per metric; None if one is missing or not a number
    printed: tuple[str, ...] = ()  # names of all the job's numbers
    missing: str = ""  # a metric that the job did not report


class EndedTrial(NamedTuple):
    """A trial that has ended."""

    number: int
    outcome: TrialOutcome
    results: tuple[float, ...] = ()  # means over the seeds with a finite number; empty if none has
    missing: str = ""  # a metric that was not reported
    ended: float = 0.0  # seconds since 1970


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


def read_result(objectives: Sequence[Objective], result: Mapping[str, Json]) -> JobResult:
    """Return what counts among the stored numbers of a job."""
    metrics = metrics_of_result("", "", "", result).metrics
    return read_values(objectives, {name: float(each.value) for name, each in metrics.items()})


def group_by_number(rows: Sequence[TrialRow]) -> dict[int, list[TrialRow]]:
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
    known = [each.values for row in rows if (each := results.get(row.job)) and each.values]
    missing = next((each.missing for each in results.values() if each.missing), "")
    means = tuple(mean_of(column) for column in zip(*known, strict=True))
    ended = max(row.ended or 0.0 for row in rows)
    return EndedTrial(rows[0].number, _outcome(rows, known), means, missing, ended)


def _outcome(rows: Sequence[TrialRow], known_values: Sequence[Sequence[float]]) -> TrialOutcome:
    """Return how the jobs of a trial ended together.

    Args:
        rows: Its jobs, which have ended.
        known_values: Numbers of the jobs that have finite ones.
    """
    if any(map(is_pruned, rows)):
        return TrialOutcome.PRUNED
    if len(known_values) == len(rows):
        return TrialOutcome.UNKNOWN if is_mixed(rows) else TrialOutcome.COMPLETE
    lacking = len(rows) - len(known_values)
    if lacking == sum(map(_ended_for_another_reason, rows)):
        return TrialOutcome.UNKNOWN
    return TrialOutcome.UNSTABLE if known_values else TrialOutcome.FAILED


def _ended_for_another_reason(row: TrialRow) -> bool:
    """Return whether a job ended without a number for a reason that its values did not cause."""
    return row.state in {State.CANCELLED, State.SKIPPED} or has_lost_its_machine(row)


def has_lost_its_machine(row: TrialRow) -> bool:
    """Return whether a job failed because of its machine."""
    return row.state is State.FAILED and row.code in _NOT_ITS_FAULT


def is_complete(rows: Sequence[TrialRow], definition: SearchDefinition) -> bool:
    """Return whether all jobs of a trial are done and none was ended early."""
    done = {row.repeat for row in rows if row.state is State.DONE and not is_pruned(row)}
    return len(done) == len(definition.repeats) and not is_mixed(rows)


def is_mixed(rows: Sequence[TrialRow]) -> bool:
    """Return whether the owner gave some seeds of a trial other settings than the others."""
    return len({row.settings for row in rows}) > 1


def steps_for_study(values: Mapping[int, object], *, lower: bool) -> list[tuple[int, float]]:
    """Return the steps of a trial by which a pruner compares it, in order.

    NaN is the worst value. An infinite value in the better direction is left out.

    Args:
        values: Step → the value of the metric.
        lower: Whether low values are better.
    """
    worst = math.inf if lower else -math.inf
    return [
        (step, worst if math.isnan(value) else float(value))
        for step, value in sorted(values.items())
        if isinstance(value, int | float) and value != -worst
    ]


def results_for_study(
    end: EndedTrial, others: Iterable[EndedTrial], objectives: Sequence[Objective]
) -> tuple[float, ...]:
    """Return the numbers by which the next values are chosen; empty if there are none.

    If some seeds failed, these are the worst ones of the complete trials until then, or its own if they are worse.
    Without a complete trial, it has none.

    Args:
        end: An ended trial.
        others: Ended trials of the same search.
        objectives: Its metrics.
    """
    if end.outcome is TrialOutcome.UNKNOWN:
        return ()
    if end.outcome is not TrialOutcome.UNSTABLE:
        return end.results
    until = [
        each.results
        for each in others
        if each.outcome is TrialOutcome.COMPLETE and each.ended <= end.ended
    ]
    return tuple(
        (max if objective.lower else min)(column)
        for objective, column in zip(objectives, zip(end.results, *until, strict=True), strict=True)
        if until
    )


def was_killed(outcome: Mapping[str, object] | None) -> bool:
    """Return whether something outside the queue killed the program of an attempt."""
    known = outcome or {}
    return known.get("ending") == "failed" and known.get("signal") in _KILLS
