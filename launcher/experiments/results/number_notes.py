"""Notes about numbers of jobs that do not count: some were to be read, others are no results."""

from collections.abc import Collection, Iterable

from launcher.experiments.results.metric_range import count_shares
from launcher.experiments.results.returned_rows import ReturnedValues
from launcher.system.errors import pluralize

MOST_NAMES = 8  # printed names of a note
MOST_NOTES = 5  # sentences that are printed; `launcher show` has those of each job


def left_out_note(returned_values: Collection[ReturnedValues]) -> str:
    """Return how many printed names of jobs are no results, or which, if no job has a number; '' if there are none."""
    names = list(dict.fromkeys(name for each in returned_values for name in each.left_out))
    if not names:
        return ""
    cure = "To count one: launcher add --numbers NAME"
    if any(each.numbers.metrics for each in returned_values):
        verb = "is" if len(names) == 1 else "are"
        counted = pluralize(len(names), "printed name")
        return f"{counted} {verb} left out of the results. To see why: launcher show JOB. {cure}"
    listed = ", ".join(names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (
        f"the logs have numbers, but their names are not names of results: {listed}{more}. {cure}"
    )


def mixed_unit_notes(returned_values: Iterable[ReturnedValues]) -> list[str]:
    """Return which metrics some jobs report in per cent and others as shares."""
    values: dict[str, list[float]] = {}
    for each in returned_values:
        for name, metric in each.numbers.metrics.items():
            values.setdefault(name, []).append(metric.value)
    return [
        f"{name} is below 1 in {shares} of {pluralize(len(numbers), 'job')} and above 1 in others. "
        "Compare only jobs with one unit: per cent, or shares"
        for name, numbers in values.items()
        if (shares := count_shares(name, numbers))
    ]


def number_notes(returned_values: Iterable[ReturnedValues]) -> list[str]:
    """Return why numbers of jobs do not count: each sentence once, with its job or the number of its jobs."""
    jobs: dict[str, list[str]] = {}
    for each in returned_values:
        for fault in each.faults:
            jobs.setdefault(fault, []).append(each.job.name)
    # faults of many jobs first
    ordered = sorted(jobs.items(), key=lambda item: -len(item[1]))
    notes = [
        f"{names[0] if len(names) == 1 else pluralize(len(names), 'job')}: {fault}"
        for fault, names in ordered[:MOST_NOTES]
    ]
    if left := {name for _, names in ordered[MOST_NOTES:] for name in names}:
        verb = "lacks" if len(left) == 1 else "lack"
        notes.append(
            f"{pluralize(len(left), 'more job')} {verb} numbers. To see why: launcher show JOB"
        )
    return notes
