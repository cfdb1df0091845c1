"""What a verb needs of this machine: the home, the store, the scheduler's side of things."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.errors import MachineError, UsageError
from launcher.handover import ensure_scheduler, scheduler_pid
from launcher.paths import Home, find_home, make_home
from launcher.progress import Step, latest
from launcher.states import State
from launcher.store.rows import JobRow
from launcher.store.store import Store


@contextmanager
def open_queue(*, make: bool = False) -> Iterator[tuple[Home, Store]]:
    """Open the caller's queue.

    Args:
        make: create the home where there is none; otherwise that is an error.

    Raises:
        UsageError: there is no queue yet.
    """
    home = find_home(os.environ)
    if make:
        make_home(home)
    elif not home.exists():
        raise UsageError(
            f"there is no queue in {home.folder} yet; `launcher run TASKFILE` begins one"
        )
    store = Store(home)
    try:
        yield home, store
    finally:
        store.close()


def keep_going(home: Home) -> bool:
    """Replace a scheduler that was killed; False when the queue was stopped and nothing runs."""
    if home.stop.exists():
        return scheduler_pid(home) is not None
    ensure_scheduler(home)
    return True


def stopped() -> MachineError:
    """Return what to raise to someone who waits for jobs of a stopped queue."""
    return MachineError(
        "the queue is stopped, so these jobs wait; `launcher run` or `launcher add` goes on"
    )


def step_of(home: Home, job: JobRow) -> Step | None:
    """Return how far a running job is."""
    if job.state is not State.RUNNING:
        return None
    return latest(home.attempt(job.id, job.attempts).progress)
