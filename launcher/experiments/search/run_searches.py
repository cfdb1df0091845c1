"""The searches of a run beside its results: better directions, trials, and the trials that are not complete."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from launcher.experiments.results.metric_direction import Direction
from launcher.experiments.results.result_jobs import WAITING
from launcher.experiments.results.returned_rows import FAILED, INCOMPLETE, PRUNED
from launcher.experiments.search.definition import SearchDefinition, read_definition
from launcher.experiments.search.run_trials import RunSearches, UnqueuedSeeds
from launcher.experiments.search.trials import (
    JobResult,
    TrialOutcome,
    end_of,
    group_by_number,
    has_ended,
    is_complete,
    is_pruned,
    read_result,
)
from launcher.experiments.taskfile.domains import text_of
from launcher.queue.jobs.params import to_param_value
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow, TrialRow
from launcher.system.stored_fields import Unreadable

NOT_QUEUED = "not queued"  # a seed of a trial that ended with another seed
OTHER_SETTINGS = "with other settings"  # a seed of a trial that was retried with others


def read_searches(store: Store, searches: Iterable[SearchRow]) -> RunSearches:
    """Return the directions and trials of the searches of a run."""
    directions: dict[str, Direction | None] = {}
    trials, marks, unqueued = set[int](), dict[int, str](), dict[int, UnqueuedSeeds]()
    has_front = False
    for search in searches:
        definition = read_definition(search.body)
        has_front |= len(definition.objectives) > 1
        for objective in definition.objectives:
            known = directions.setdefault(objective.metric, objective.direction)
            if known is not objective.direction:
                directions[objective.metric] = None
        trial_rows = store.searches.trials(search.id)
        stored = store.read.results(row.job for row in trial_rows)
        results = {
            row.job: read_result(definition.objectives, stored.get(row.job, {}))
            for row in trial_rows
            if row.state is State.DONE
        }
        for rows in group_by_number(trial_rows).values():
            trials |= {row.job for row in rows}
            if mark := _mark(rows, definition, results):
                marks |= dict.fromkeys((row.job for row in rows), mark)
                if mark != PRUNED:
                    unqueued |= _unqueued_seeds(search, definition, rows)
    return RunSearches(directions, frozenset(trials), marks, unqueued, has_front)


def read_trial_marks(store: Store, run: int) -> Mapping[int, str]:
    """Return the marks of the trials of a run that are not complete, none if a newer launcher wrote its searches."""
    with suppress(Unreadable):
        return read_searches(store, store.searches.all([run])).marks
    return {}


def _mark(
    rows: Sequence[TrialRow], definition: SearchDefinition, results: Mapping[int, JobResult]
) -> str:
    """Return the value of a trial in the column of trials that are not complete, empty if it is complete.

    Args:
        rows: Its jobs.
        definition: Its search.
        results: Job → its numbers, for done jobs.
    """
    if any(map(is_pruned, rows)):
        return PRUNED
    if not has_ended(rows, definition):
        return INCOMPLETE
    ends = {row.job: results[row.job] for row in rows if row.job in results}
    match end_of(rows, ends).outcome:
        case TrialOutcome.FAILED:
            return FAILED
        case TrialOutcome.COMPLETE if is_complete(rows, definition):
            return ""
    return INCOMPLETE


def _unqueued_seeds(
    search: SearchRow, definition: SearchDefinition, rows: Sequence[TrialRow]
) -> dict[int, UnqueuedSeeds]:
    """Return the seeds without a job, by a job of each group of the jobs of a trial with the same settings."""
    repeat = definition.repeat
    if repeat is None:
        return {}
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        groups.setdefault(row.settings, []).append(row)
    has_stopped = any(row.state not in {*OPEN_STATES, State.DONE} for row in rows)
    why = NOT_QUEUED if has_stopped or not search.is_open else WAITING
    found = {}
    for group in groups.values():
        there = {row.repeat for row in group}
        values = [value for index, value in enumerate(repeat.values) if index not in there]
        if values:
            texts = [to_param_value(text_of(value)) for value in values]
            is_mixed = len(groups) > 1
            done = next((row for row in group if row.state is State.DONE), group[0])
            found[done.job] = UnqueuedSeeds(repeat.name, texts, OTHER_SETTINGS if is_mixed else why)
    return found
