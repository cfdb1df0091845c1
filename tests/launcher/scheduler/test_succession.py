"""Jobs of one lane that follow each other without a whole decision, on a real scheduler."""

import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from launcher.context import WorkerEnvironment
from launcher.gpu.snapshot import ForeignReservation
from launcher.job import Resources, Spec
from launcher.scheduler.start_jobs import sole_flow
from launcher.states import ENDED, State
from launcher.store.queue import Store
from launcher.store.rows import Lane, ReadyJob
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


def start_precedes_end(store: Store, job: int) -> bool:
    """Tell whether the start of the next job was stored before the end of this one."""
    rows = store.database.execute("SELECT job, state FROM events ORDER BY id").fetchall()
    order = [tuple(row) for row in rows]
    return order.index((job + 1, State.RUNNING)) < order.index((job, job_row(store, job).state))


def test_the_next_job_of_a_lane_starts_before_the_end_of_the_last_is_stored(
    home: Home, store: Store
) -> None:
    jobs = ended(home, store, *(a_spec(name=f"command/{n}", cpus=CORES) for n in range(12)))
    assert starts(home) == jobs
    assert any(start_precedes_end(store, job) for job in jobs[:-1])


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
    assert not any(start_precedes_end(store, job) for job in jobs[1:-1:2])


def a_ready_job(lane: int, *, group: str = "", **resources: object) -> ReadyJob:
    asked = Resources(device="cpu")._replace(**resources)  # type: ignore[arg-type]
    environment = WorkerEnvironment()
    return ReadyJob(
        id=lane, rank=0.0, lane_id=lane,
        lane=Lane(group=group, resources=asked, environment=environment),
    )  # fmt: skip


def test_only_jobs_of_one_lane_that_need_nothing_but_cores_follow_each_other() -> None:
    plain, other = a_ready_job(1), a_ready_job(2)
    foreign = ForeignReservation(device="cores", amount=1, user="another")
    assert sole_flow([plain, plain], ()) == (0, 0, 1)
    assert sole_flow([], ()) is None
    assert sole_flow([plain, other], ()) is None
    assert sole_flow([plain], (foreign,)) is None
    assert sole_flow([a_ready_job(1, group="night")], ()) is None
    assert sole_flow([a_ready_job(1, ram=1 << 30)], ()) is None
    assert sole_flow([a_ready_job(1, device="gpu", accelerated=True)], ()) is None


def lie_ahead(home: Home, store: Store, job: int) -> None:
    """Wait until a job's order is written, and see that nothing is claimed by that."""
    attempt = home.attempt(job, 1)
    until(attempt.spec.exists, f"the order of job {job} is written")
    until(attempt.log.exists, "its log lies beside it")
    assert {*attempt.folder.iterdir()} == {attempt.spec, attempt.log}
    assert attempt.log.stat().st_size == 0
    assert job_row(store, job).state is State.QUEUED
    assert job_row(store, job).attempts == 0


def test_the_order_of_the_next_job_is_written_ahead_and_deleted_where_another_one_follows(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waits = shell(f"until [ -e {gate} ]; do sleep 0.01; done")
    first, second, third = enqueue(
        store,
        a_spec(*waits, name="command/1", cpus=CORES),
        *(a_spec(name=f"command/{n}", cpus=CORES) for n in (2, 3)),
    )
    ensure_scheduler(home)
    wake(home)
    lie_ahead(home, store, second)
    store.steering.cancel([second], time.time())
    wake(home)
    lie_ahead(home, store, third)
    assert not home.attempt(second, 1).folder.exists()
    gate.touch()
    until(lambda: in_state(store, third, State.DONE), "the third is done")
    assert starts(home) == [first, third]


def test_a_killed_scheduler_leaves_an_order_that_its_successor_uses(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waits = shell(f"until [ -e {gate} ]; do sleep 0.01; done")
    jobs = enqueue(
        store,
        a_spec(*waits, name="command/1", cpus=CORES),
        *(a_spec(name=f"command/{n}", cpus=CORES) for n in (2, 3)),
    )
    pid = ensure_scheduler(home)
    wake(home)
    lie_ahead(home, store, jobs[1])
    os.kill(pid, signal.SIGKILL)
    until(lambda: ensure_scheduler(home) != pid, "another scheduler serves")
    gate.touch()
    until(lambda: all(in_state(store, job, State.DONE) for job in jobs), "all are done")
    assert [job_row(store, job).attempts for job in jobs] == [1, 1, 1]
