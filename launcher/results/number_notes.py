"""Notes about numbers of jobs that do not count, although they were to be read."""

from collections.abc import Iterable

from launcher.errors import pluralize
from launcher.results.returned_rows import ReturnedValues

MOST_NOTES = 5  # sentences that are printed; `launcher show` has those of each job


def number_notes(returned: Iterable[ReturnedValues]) -> list[str]:
    """Return why numbers of jobs do not count: each sentence once, with its job or the number of its jobs."""
    jobs: dict[str, list[str]] = {}
    for each in returned:
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
