"""The groups of a queue: their limits and jobs."""

from collections import Counter
from collections.abc import Sequence

from launcher.store.queue import Store
from launcher.store.rows import JobRow

Row = dict[str, str | int]


def groups_of(store: Store, running: Sequence[JobRow]) -> list[Row]:
    """Return the groups that have a limit, and how many of the running jobs are theirs."""
    at_work = Counter(job.spec.terms.group for job in running)
    return [
        {"name": group.name, "limit": group.slots, "running": at_work[group.name]}
        for group in store.read.groups()
    ]
