"""Which jobs a person means: by number, name, beginning, glob, `run:NAME`, or `tag:NAME`; and the groups of a queue."""

from collections import Counter
from collections.abc import Sequence

from launcher.errors import UsageError, known_words, nearest
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.selection import RUN_PREFIX, TAG_PREFIX

HELP = (
    "a job's number, its name (for programs also without `command/`), a prefix ('train/'), a glob "
    "('train/*'), run:NAME, or tag:NAME."
)


def select(store: Store, patterns: Sequence[str], *, newest: bool = False) -> list[JobRow]:
    """Return the jobs that match any of the patterns, in the order in which they were queued.

    Args:
        store: the queue.
        patterns: as in `HELP`.
        newest: a whole name means the newest job of that name, not those of all runs.

    Raises:
        UsageError: a pattern matches nothing; the nearest name is suggested.
    """
    chosen: dict[int, JobRow] = {}
    for pattern in patterns:
        matching = store.read.named(pattern)
        if not matching:
            raise UsageError(_nothing(store, pattern))
        if newest and all(job.name in {pattern, f"command/{pattern}"} for job in matching):
            matching = matching[-1:]
        chosen.update({job.id: job for job in matching})
    return sorted(chosen.values(), key=lambda job: job.id)


def only_job(store: Store, pattern: str) -> JobRow:
    """Return the newest job that a pattern names exactly.

    Raises:
        UsageError: none, or a pattern that matches several.
    """
    jobs = select(store, [pattern])
    names = list(dict.fromkeys(job.name for job in jobs))
    if len(names) > 1:
        shown = ", ".join(sorted(names[:5])) + (", …" if len(names) > 5 else "")
        raise UsageError(f"{pattern!r} matches {len(jobs)} jobs ({shown}); name one of them")
    return jobs[-1]


def _nothing(store: Store, pattern: str) -> str:
    if pattern.startswith(RUN_PREFIX):
        runs = sorted(store.read.runs())
        name = pattern.removeprefix(RUN_PREFIX)
        close = nearest(name, runs)
        hint = f", did you mean run:{close}?" if close else f" ({known_words(name, runs)})"
        return f"there is no run {name!r}{hint}"
    if pattern.startswith(TAG_PREFIX):
        tags = [*store.steering.all_tags()]
        name = pattern.removeprefix(TAG_PREFIX)
        close = nearest(name, tags)
        hint = f", did you mean tag:{close}?" if close else f" ({known_words(name, tags)})"
        return f"no job has the tag {name!r}{hint}"
    close = None if pattern.isdecimal() else nearest(pattern, store.read.names())
    hint = f", did you mean {close!r}?" if close else "; `launcher status --all` lists every job"
    return f"no job is called {pattern!r}{hint}"


Row = dict[str, str | int]


def groups_of(store: Store, running: Sequence[JobRow]) -> list[Row]:
    """Return the groups that have a limit, and how many of the running jobs are theirs."""
    at_work = Counter(job.spec.terms.group for job in running)
    return [
        {"name": group.name, "limit": group.slots, "running": at_work[group.name]}
        for group in store.read.groups()
    ]
