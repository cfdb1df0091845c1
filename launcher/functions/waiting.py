"""`wait`: come back when jobs have ended, with a bar that shows how far they are."""

import time
from collections.abc import Iterable
from typing import Any

from launcher.errors import UsageError
from launcher.functions.future import Future
from launcher.functions.job_states import JobStates
from launcher.functions.progress_bar import bar
from launcher.functions.task_files import Run
from launcher.store.client import newest_run, open_queue, stopped
from launcher.store.queue import Store

LOOK_EVERY_S = 0.05

Jobs = Future[Any] | Run | int | str


def wait(
    jobs: Jobs | Iterable[Jobs], timeout: float | None = None, *, progress: bool = True
) -> dict[int, str]:
    """Wait until jobs have ended, done or not; return the state of each by its number: {12: "done"}.

    Args:
        jobs: futures, runs, names of runs, numbers of jobs, or several of these.
        timeout: seconds; then the states are returned as they are. None: as long as it takes.
        progress: show a bar, in a terminal or a notebook; elsewhere nothing is printed.

    Raises:
        UsageError: there is no such job or run, or it is something else.
        MachineError: the queue is stopped, or gone.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with open_queue() as (home, store):
        numbers = _numbers(store, jobs)
        states = JobStates(home, store)
        known = {row.id for row in states.add(numbers)}
        for number in numbers:
            if number not in known:
                raise UsageError(f"there is no job {number} in the queue")
        with bar(show=progress) as show:
            show(states.known)
            while not states.all_ended:
                if deadline is not None and time.monotonic() >= deadline:
                    break
                if states.stopped:
                    raise stopped()
                time.sleep(LOOK_EVERY_S)
                if states.changes():
                    show(states.known)
        return {number: str(states.known[number]) for number in numbers}


def _numbers(store: Store, jobs: Jobs | Iterable[Jobs]) -> list[int]:
    """Return the numbers of jobs, each once.

    Raises:
        UsageError: they are something else, or there is no such run.
    """
    match jobs:
        case Future():
            return [jobs.job]
        case Run():
            return [*jobs.jobs]
        case int() if not isinstance(jobs, bool):
            return [jobs]
        case str():
            return [row.id for row in newest_run(store, jobs)]
        case Iterable():
            return [*dict.fromkeys(number for each in jobs for number in _numbers(store, each))]
    raise UsageError(
        f"wait: expected futures, runs, names of runs or numbers of jobs, got {jobs!r:.80}"
    )
