"""Jobs of one lane that follow each other without a whole decision, on a real scheduler."""

import os
import re
from collections.abc import Iterable, Mapping

from launcher.job import Spec
from launcher.states import ENDED, State
from launcher.store.queue import Store
from launcher.system.daemon_control import ensure_scheduler, wake
from launcher.system.paths import Home
from tests.build import a_spec, enqueue, in_state, job_row, shell, until

CORES = len(os.sched_getaffinity(0))  # one job at a time


def ended(
    home: Home, store: Store, *specs: Spec, needs: Mapping[str, Iterable[str]] | None = None
) -> list[int]:
    """Queue jobs and wait until all of them have ended; return their numbers."""
    jobs = enqueue(store, *specs, needs=needs)
    ensure_scheduler(home)
    wake(home)
    until(lambda: all(in_state(store, job, *ENDED) for job in jobs), "all have ended")
    return jobs


def starts(home: Home) -> list[int]:
    """Return the jobs in the order in which they started."""
    log = home.scheduler_log.read_text()
    return [int(job) for job in re.findall(r"job=(\d+) attempt=1 start", log)]


def test_the_next_job_of_a_lane_starts_before_the_end_of_the_last_is_stored(
    home: Home, store: Store
) -> None:
    jobs = ended(home, store, *(a_spec(name=f"command/{n}", cpus=CORES) for n in range(12)))
    assert starts(home) == jobs
    log = home.scheduler_log.read_text()

    def early(job: int, after: int) -> bool:
        return log.index(f"job={after} attempt=1 start") < log.index(f"job={job} attempt=1 state=")

    assert any(early(job, job + 1) for job in jobs[:-1])


def test_a_more_urgent_job_that_an_end_lets_go_takes_the_place(home: Home, store: Store) -> None:
    specs = [a_spec(name=f"command/{n}", cpus=CORES) for n in range(8)]
    urgent = a_spec(name="command/urgent", cpus=CORES, priority=10)
    jobs = ended(home, store, *specs, urgent, needs={"command/urgent": ["command/3"]})
    order = starts(home)
    assert order.index(jobs[-1]) == order.index(jobs[3]) + 1


def test_a_lane_that_never_pauses_hides_no_other(home: Home, store: Store) -> None:
    flood = [a_spec(name=f"command/{n}", cpus=CORES) for n in range(40)]
    jobs = enqueue(store, *flood)
    ensure_scheduler(home)
    wake(home)
    urgent = a_spec(name="command/urgent", cpus=max(1, CORES - 1), priority=10)
    (late,) = ended(home, store, urgent)
    until(lambda: all(in_state(store, job, State.DONE) for job in jobs), "all are done")
    assert starts(home).index(late) < len(jobs)


def test_a_failure_is_followed_by_a_whole_decision(home: Home, store: Store) -> None:
    specs = [a_spec(*shell(f"exit {n % 2}"), name=f"command/{n}", cpus=CORES) for n in range(6)]
    jobs = ended(home, store, *specs)
    assert [job_row(store, job).state for job in jobs] == [State.DONE, State.FAILED] * 3
    assert starts(home) == jobs
