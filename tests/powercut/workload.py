"""Recorded workload: jobs are queued, run and end. A note records when this became visible.

python -m tests.powercut.workload DISK JOBS, with `Recorder.environment`.
"""

import os
import sys
import time
from pathlib import Path

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.queue import Store
from tests.build import a_spec, end_everything, enqueue, shell
from tests.powercut.recording import note

HOME, STAMPS = "home", "stamps"  # in the folder that is recorded
ONCE = "once"  # in the name of a job that must never run twice
DEADLINE_S = 120.0
PORTION = 12  # jobs that one transaction queues


def main(disk: Path, jobs: int) -> None:
    """Queue jobs, note of each when it is seen to be queued and when to be done, and end everything."""
    home = Home(disk / HOME)
    make_home(home)
    store = Store(home)
    try:
        for first in range(0, jobs, PORTION):
            names = [name_of(1 + job) for job in range(first, min(first + PORTION, jobs))]
            enqueue(store, *(_spec(name, disk / STAMPS) for name in names))
            for name in names:
                note(f"queued {name}")
            ensure_scheduler(home)
            wake(home)
            _watch(store)
    finally:
        end_everything(home)


def name_of(job: int) -> str:
    """Return the name of the job with a number, from 1."""
    return f"command/{ONCE if job % 2 else 'again'}-{job}"


def _spec(name: str, stamps: Path) -> Spec:
    terms = Terms(rerun="never" if ONCE in name else "again")
    return a_spec(*shell('echo "$1" >> "$2"', name, str(stamps)), name=name, terms=terms)


def _watch(store: Store) -> None:
    """Note each job that is done, until none is open."""
    seen: set[str] = set()
    deadline = time.monotonic() + DEADLINE_S
    while True:
        rows = store.database.execute("SELECT name, state FROM jobs").fetchall()
        for name, state in rows:
            if state == State.DONE and name not in seen:
                note(f"done {name}")
                seen.add(name)
        if not any(state in OPEN_STATES for _, state in rows):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"jobs are still open after {DEADLINE_S:.0f} s: {rows}")


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), int(sys.argv[2]))
