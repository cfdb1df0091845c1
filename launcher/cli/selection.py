"""Which jobs a person means: by number, name, glob, or `run:NAME`."""

import os
from collections.abc import Sequence

from launcher.errors import UsageError, nearest
from launcher.store.rows import JobRow
from launcher.store.store import Store

RUN_PREFIX = "run:"
HELP = "A job's number, its name, a glob ('train/*'), or run:NAME."


def select(store: Store, patterns: Sequence[str]) -> list[JobRow]:
    """Return the jobs that match any of the patterns, in the order in which they were queued.

    Raises:
        UsageError: a pattern matches nothing; the nearest name is suggested.
    """
    found: dict[int, JobRow] = {}
    for pattern in patterns:
        matching = _matching(store, pattern)
        if not matching:
            raise UsageError(_nothing(store, pattern))
        found.update({job.id: job for job in matching})
    return sorted(found.values(), key=lambda job: job.id)


def only_job(store: Store, pattern: str) -> JobRow:
    """Return the newest job that a pattern names exactly.

    Raises:
        UsageError: none, or a glob that matches several.
    """
    found = select(store, [pattern])
    names = {job.name for job in found}
    if len(names) > 1:
        shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
        raise UsageError(f"{pattern!r} matches {len(found)} jobs ({shown}); name one of them")
    return found[-1]


def _matching(store: Store, pattern: str) -> list[JobRow]:
    if pattern != os.fsencode(pattern).decode(errors="replace"):
        return []  # no name is made of such bytes
    if pattern.startswith(RUN_PREFIX):
        return store.read.jobs("runs.name = ?", (pattern.removeprefix(RUN_PREFIX),))
    if pattern.isdecimal():
        return store.read.jobs("jobs.id = CAST(? AS INTEGER)", (pattern,))
    return store.read.jobs("jobs.name = ?1 OR jobs.name GLOB ?1", (pattern,))


def _nothing(store: Store, pattern: str) -> str:
    jobs = store.read.jobs()
    if pattern.startswith(RUN_PREFIX):
        runs = sorted({job.run for job in jobs})
        close = nearest(pattern.removeprefix(RUN_PREFIX), runs)
        hint = f", did you mean run:{close}?" if close else f" (known: {', '.join(runs) or 'none'})"
        return f"there is no run {pattern.removeprefix(RUN_PREFIX)!r}{hint}"
    close = nearest(pattern, (job.name for job in jobs))
    hint = f", did you mean {close!r}?" if close else "; `launcher status` lists them"
    return f"no job is called {pattern!r}{hint}"
