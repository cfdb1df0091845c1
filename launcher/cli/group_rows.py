"""The groups of a queue: their limits and jobs, and whether a group that a job names is there."""

from collections import Counter
from collections.abc import Iterable, Sequence

from launcher.errors import UsageError, nearest
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


def check_groups(store: Store | None, names: Iterable[str]) -> None:
    """Refuse groups that are not there: a name that is mistyped would limit nothing.

    Raises:
        UsageError: a group is not there; says how to make it.
    """
    for reason in absent_groups(store, names):
        raise UsageError(reason)


def absent_groups(store: Store | None, names: Iterable[str]) -> list[str]:
    """Return for each group that is not there how to make it.

    Args:
        store: the queue; None: there is none, and no group.
        names: the groups that jobs name; an empty one is none.
    """
    groups = [group.name for group in store.read.groups()] if store else []
    reasons = []
    for name in names:
        if name and name not in groups:
            close = nearest(name, groups)
            hint = f"; did you mean {close!r}?" if close else ";"
            way = f"`launcher group {name} --limit N` makes one"
            reasons.append(f"there is no group {name!r}{hint} {way}")
    return reasons
