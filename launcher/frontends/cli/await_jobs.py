"""Waiting for jobs: `launcher wait`, and `launcher add` with --wait or --follow."""

import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum

from launcher.frontends.cli.job_selection import EXIT_ABORTED, print_failed_jobs
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import ENDED_STATES, OPEN_STATES, State
from launcher.queue.scheduler.job_wait import JobWait
from launcher.queue.store.feed import DELETED, JobTracker
from launcher.queue.store.job_selection import MOST_NUMBERS, SHARED_RUN, words_for_jobs
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import SearchRow, SearchState, end_text
from launcher.queue.texts import format_job_names
from launcher.system.errors import MachineError, UsageError, pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_seconds

FAILED_STATES = ENDED_STATES - {State.DONE}


class WaitGoal(StrEnum):
    """The condition that ends `launcher wait`."""

    ENDED = "ended"
    RUNNING = "running"  # or ended


def wait_until(
    tracker: JobTracker,
    goal: WaitGoal = WaitGoal.ENDED,
    *,
    first_failure: bool = False,
    timeout_s: float | None = None,
) -> None:
    """Come back when all jobs have reached a goal, except those that are held because others failed.

    Args:
        tracker: The jobs.
        goal: What to wait for.
        first_failure: Also come back when a job has ended and is not done.
        timeout_s: Longest wait in seconds.

    Raises:
        MachineError: it takes longer, the queue is stopped, or, inside a job, the awaited jobs can never start
            (see `JobWait`).
    """
    may_return_early = first_failure or goal is not WaitGoal.ENDED or bool(tracker.open_searches)
    is_limited = timeout_s is not None or may_return_early
    with (
        _shown_progress(tracker) as show,
        JobWait(tracker.home, tracker.open_jobs, is_limited=is_limited) as wait,
    ):
        _wait_until(tracker, goal, wait, show, first_failure=first_failure, timeout_s=timeout_s)


@contextmanager
def _shown_progress(tracker: JobTracker) -> Iterator[Callable[[str], None]]:
    """Draw how many jobs have ended, in a terminal. The context is a function that prints a message if there is one."""
    if not sys.stderr.isatty():
        yield lambda message: print_stderr(message) if message else None
        return
    # the screens, which a script never needs
    from launcher.frontends.cli.wait_line import wait_line

    with wait_line(tracker) as draw:
        yield draw


def _wait_until(
    tracker: JobTracker,
    goal: WaitGoal,
    wait: JobWait,
    show: Callable[[str], None],
    *,
    first_failure: bool,
    timeout_s: float | None,
) -> None:
    began = time.monotonic()
    held = {job for job in tracker.open_jobs if tracker.rows[job].state is State.HELD}
    show(_held_note(tracker, held))
    for poll, changes in enumerate(tracker.events_until_ended()):
        wait.check()
        if not held:
            held = {change.job for change in changes if change.state is State.HELD}
            held &= tracker.open_jobs
            show(_held_note(tracker, held))
        show("")
        if changes or not poll:
            jobs = tracker.rows.values()
            states = {job.state for job in jobs if not job.is_held_by_failures}
            if goal is WaitGoal.RUNNING and jobs and states <= {State.RUNNING, *ENDED_STATES}:
                return
            if first_failure and states & FAILED_STATES:
                return
        is_open = tracker.open_jobs or tracker.open_searches
        if timeout_s is not None and is_open and time.monotonic() - began > timeout_s:
            wanted = "ended" if goal is WaitGoal.ENDED else "started"
            raise MachineError(
                f"the jobs have not {wanted} after {format_seconds(timeout_s)} (--timeout). They continue. "
                "List them: launcher status"
            )


def print_paused_searches(searches: Iterable[SearchRow]) -> None:
    """Print which searches are paused, which is why the wait lasts."""
    for run in sorted({each.run for each in searches if each.state is SearchState.PAUSED}):
        resume = shlex.join(["launcher", "release", f"run:{run}"])
        print_stderr(
            sanitize_terminal(
                f"note: the search of run {run!r} is paused. To continue it: {resume}"
            )
        )


def print_failed_searches(store: Store, searches: Iterable[int]) -> bool:
    """Print which of some searches ended because something is wrong. Return whether there are any."""
    rows = [row for number in searches if (row := store.searches.read(number)) is not None]
    failed = [row for row in rows if row.failed]
    for row in failed:
        print_stderr(end_text(row))
    return bool(failed)


def await_search(home: Home, store: Store, search_number: int) -> int:
    """Wait until a search has ended. Return the exit code of the command.

    Raises:
        MachineError: the queue was stopped.
    """
    jobs = store.read.jobs_by_id(row.job for row in store.searches.trials(search_number))
    tracker = JobTracker(home, store, jobs, is_scheduler_alive=False, searches=[search_number])
    try:
        wait_until(tracker)
    except KeyboardInterrupt:
        print_stderr("\nThe search continues.")
        return EXIT_ABORTED
    ended = [*tracker.rows.values()]
    print_failed_jobs(ended)
    search = store.searches.read(search_number)
    if search is not None and not search.failed:
        # the screens, which `launcher wait` and most jobs never need
        from launcher.frontends.screens.search_view import best_text

        text = f"the search of run {search.run!r} ended: {search.reason}. Best trial: {best_text(search)}"
        print_stderr(sanitize_terminal(text))
    failed = print_failed_searches(store, [search_number])
    return 1 if failed or any(row.state in FAILED_STATES for row in ended) else 0


def print_paused_groups(store: Store, rows: Iterable[JobRow]) -> None:
    """Print which groups of queued jobs are paused, which is why the wait lasts."""
    paused = {each.name for each in store.read.group_limits() if each.paused is not None}
    if paused:
        paused &= {
            row.spec_without_sources.terms.group for row in rows if row.state is State.QUEUED
        }
    for name in sorted(paused):
        resume = shlex.join(["launcher", "group", name, "--resume"])
        print_stderr(
            sanitize_terminal(f"note: group {name!r} is paused. To start its jobs: {resume}")
        )


def _held_note(tracker: JobTracker, jobs: Collection[int]) -> str:
    """Return the note about held jobs; '' if there are none."""
    if not jobs:
        return ""
    does = "does" if len(jobs) == 1 else "do"
    what = f"{pluralize(len(jobs), 'held job')} {does} not start before `launcher release`"
    return f"note: {what}: {format_job_names([tracker.rows[job] for job in jobs])}"


def await_jobs(
    home: Home, store: Store, jobs: Collection[int], first_event: int, *, follow: bool
) -> int:
    """Wait until jobs have ended. Return the exit code of the command.

    Args:
        home: Queue folder.
        store: Its database.
        jobs: Numbers of the jobs.
        first_event: The last event before they were queued.
        follow: Print their output.

    Raises:
        MachineError: the queue was stopped.
        UsageError: a followed job was cleaned.
    """
    rows = store.read.jobs_by_id(jobs)
    try:
        if follow:
            _follow(home, store, rows, first_event)
        else:
            print_paused_groups(store, rows)
            tracker = JobTracker(
                home, store, rows, first_event=first_event, is_scheduler_alive=False
            )
            wait_until(tracker)
    except KeyboardInterrupt:
        _print_remaining(store.read.jobs_by_id(jobs), follow=follow)
        return EXIT_ABORTED
    ended = store.read.jobs_by_id(jobs)
    print_failed_jobs(ended)
    for job in sorted({*jobs} - {row.id for row in ended}):
        print_stderr(f"job {job} {DELETED}")
    return 0 if [row.state for row in ended] == [State.DONE] * len(jobs) else 1


def _follow(home: Home, store: Store, rows: Sequence[JobRow], first_event: int) -> None:
    """Print the output of jobs until they have ended. A job may end before it starts, or before this call."""
    # the screens of logs, which `launcher wait` never needs
    from launcher.frontends.screens.follow_logs import LogFollower

    # a quick job may have had several attempts by now: all of them are printed
    followed = [
        replace(row, attempts=0) for row in rows if row.attempts or row.state in OPEN_STATES
    ]
    try:
        if followed:
            LogFollower(home, store, followed, event=first_event, tail=None).follow()
    except UsageError:
        now = store.read.jobs_by_id(row.id for row in followed)
        if len(now) < len(followed) or any(row.state in OPEN_STATES for row in now):
            raise


def _print_remaining(rows: Sequence[JobRow], *, follow: bool) -> None:
    """Print how many jobs continue after Ctrl-C, and how to come back to them or to cancel them."""
    left = [row for row in rows if row.state in OPEN_STATES]
    if not left:
        print_stderr("")
        return
    chosen = {row.id: row.name for row in left}
    run = SHARED_RUN if len(chosen) <= MOST_NUMBERS else left[0].run  # numbers instead of the run
    those = sanitize_terminal(words_for_jobs(run, chosen))
    back = f"launcher logs {those} -f" if follow else f"launcher wait {those}"
    print_stderr(
        f"\n{pluralize(len(left), 'job')} {'continues' if len(left) == 1 else 'continue'}. "
        f"To come back: {back}. To cancel: launcher cancel {those}"
    )
