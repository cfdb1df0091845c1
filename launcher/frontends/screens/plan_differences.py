"""Differences between a plan and the queue: other code, other options, results in another folder."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.experiments.planning.comparison import (
    ACCEPT_CODE,
    ADOPT,
    ComparedJob,
    Comparison,
    open_jobs,
)
from launcher.system.errors import pluralize

MOST_DEFINITIONS = 3  # named, of those with other code


def other_code(compared_jobs: Iterable[ComparedJob], *, dry_run: bool = True) -> str:
    """Return how many jobs were done with other code, and what happens to these jobs; "" if there are no such jobs.

    Args:
        compared_jobs: comparisons of a plan's jobs.
        dry_run: whether nothing is queued; otherwise they are queued next.
    """
    changed = [compared for compared in compared_jobs if compared.is_other_code]
    again = open_jobs(changed)
    jobs = again or changed
    if not jobs:
        return ""
    was = f"{pluralize(len(jobs), 'job')} {'was' if len(jobs) == 1 else 'were'} done with other code"  # prose: ok, a job is done
    was += _describe_code(jobs)
    if not again:
        return f"{was}. {'Its' if len(jobs) == 1 else 'Their'} results are kept"  # by --accept-code
    run = "would run" if dry_run else "runs" if len(jobs) == 1 else "run"
    same = f"{was}, with the same settings and inputs, and {run} again"
    return f"{same}. To keep the results: {ACCEPT_CODE}"


def _describe_code(jobs: Sequence[ComparedJob]) -> str:
    """Return in parentheses which code differs, if it is known."""
    names = sorted({name for compared in jobs for name in compared.other_definitions})
    more = len(names) - MOST_DEFINITIONS
    which = ", ".join(names[:MOST_DEFINITIONS]) + (f" and {more} more" if more > 0 else "")
    return f" ({which})" if which else ""


def other_options(compared_jobs: Iterable[ComparedJob]) -> str:
    """Return how many jobs wait with other options than the plan's, and what to do; '' if none does."""
    jobs = [compared for compared in compared_jobs if compared.options]
    if not jobs:
        return ""
    names = ", ".join(dict.fromkeys(name for compared in jobs for name in compared.options))
    single = len(jobs) == 1
    keeps = (
        "keeps the options with which it was" if single else "keep the options with which they were"
    )
    return (
        f"{pluralize(len(jobs), 'waiting job')} {keeps} queued (different: {names}). "
        f"To use those of the file, cancel {'it' if single else 'them'} and run the file again"
    )


def other_folder(comparison: Comparison, *, is_queued: bool) -> str:
    """Return which results of another folder are taken over, or could be; '' if there are none.

    Args:
        comparison: comparison of a plan with the queue.
        is_queued: its jobs are in the queue by now.
    """
    adoption = comparison.adoption
    if adoption is not None:
        number = len(adoption.rows)
        are = "would be" if not is_queued else "is" if number == 1 else "are"
        text = f"{pluralize(number, 'result')} of {adoption.root} {are} adopted"
        if adoption.waiting:
            jobs = " ".join(map(str, adoption.waiting))
            text += f". Jobs of this file also wait there: `launcher cancel {jobs}` ends them"
        return text
    if not comparison.adoptable_roots:
        return ""
    root, number = comparison.adoptable_roots[0]
    done = "1 new job is" if number == 1 else f"{number:,} new jobs are"
    gone = "which no longer exists" if not Path(root).exists() else "the same folder"
    file = shlex.quote(comparison.plan.file)
    return f"{done} done in {root}, {gone}. To take over the results: launcher run {file} {ADOPT} {shlex.quote(root)}"
