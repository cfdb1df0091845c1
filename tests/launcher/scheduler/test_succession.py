"""Which job follows which on a real scheduler, within a lane and between runs."""

import json
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Resources, Spec
from launcher.queue.jobs.states import ENDED_STATES, Done, State
from launcher.queue.scheduler.chosen_policy import set_policy
from launcher.queue.scheduler.loop import Scheduler
from launcher.queue.scheduler.policy.disciplines import FIFO
from launcher.queue.scheduler.succession import find_only_job_class
from launcher.queue.scheduler.waiting_line import NEW_RUN_CREDIT_S
from launcher.queue.store.lanes import Lane
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import ReadyJob
from tests.build import a_spec, enqueue, in_state, job_row, shell, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import end, put, seated, serve, until_done, until_in, waits_for

# --- jobs of one lane that follow each other without a whole decision, on a real scheduler


CORES = len(os.sched_getaffinity(0))  # one job at a time


def enqueue_and_wait(
    home: Home, store: Store, *specs: Spec, needs: Mapping[str, Iterable[str]] | None = None
) -> list[int]:
    """Queue jobs and wait until all of them have ended; return their numbers."""
    jobs = enqueue(store, *specs, needs=needs)
    serve(home)
    until(lambda: all(in_state(store, job, *ENDED_STATES) for job in jobs), "all have ended")
    return jobs


def specs_with_all_cores(count: int) -> list[Spec]:
    return [a_spec(name=f"command/{n}", cpus=CORES) for n in range(count)]


def started_jobs(home: Home) -> list[int]:
    """Return the jobs in the order in which they started."""
    log = home.scheduler_log.read_text()
    return [int(job) for job in re.findall(r"job=(\d+) attempt=1 start", log)]


def start_precedes_end(store: Store, job: int) -> bool:
    """Whether the start of the next job was stored before the end of this one."""
    rows = store.database.execute("SELECT job, state FROM events ORDER BY id").fetchall()
    order = [tuple(row) for row in rows]
    return order.index((job + 1, State.RUNNING)) < order.index((job, job_row(store, job).state))


def test_the_next_job_of_a_lane_starts_before_the_end_of_the_last_is_stored(
    home: Home, store: Store
) -> None:
    jobs = enqueue_and_wait(home, store, *specs_with_all_cores(12))
    assert started_jobs(home) == jobs
    assert any(start_precedes_end(store, job) for job in jobs[:-1])


def test_urgent_job_released_by_an_end_starts_first(home: Home, store: Store) -> None:
    specs = specs_with_all_cores(8)
    urgent = a_spec(name="command/urgent", cpus=CORES, priority=10)
    jobs = enqueue_and_wait(home, store, *specs, urgent, needs={"command/urgent": ["command/3"]})
    order = started_jobs(home)
    assert order.index(jobs[-1]) == order.index(jobs[3]) + 1


def test_continuous_lane_does_not_starve_another(home: Home, store: Store) -> None:
    jobs = enqueue(store, *specs_with_all_cores(40))
    serve(home)
    urgent = a_spec(name="command/urgent", cpus=max(1, CORES - 1), priority=10)
    (late,) = enqueue_and_wait(home, store, urgent)
    until_done(store, *jobs)
    assert started_jobs(home).index(late) < len(jobs)


def test_failure_triggers_a_full_decision(home: Home, store: Store) -> None:
    specs = [a_spec(*shell(f"exit {n % 2}"), name=f"command/{n}", cpus=CORES) for n in range(6)]
    jobs = enqueue_and_wait(home, store, *specs)
    assert [job_row(store, job).state for job in jobs] == [State.DONE, State.FAILED] * 3
    assert started_jobs(home) == jobs
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
    assert find_only_job_class([plain, plain], ()) == (0, 0, 1)
    assert find_only_job_class([], ()) is None
    assert find_only_job_class([plain, other], ()) is None
    assert find_only_job_class([plain], (foreign,)) is None
    assert find_only_job_class([a_ready_job(1, group="night")], ()) is None
    assert find_only_job_class([a_ready_job(1, ram=1 << 30)], ()) is None
    assert find_only_job_class([a_ready_job(1, device="gpu", accelerated=True)], ()) is None


def enqueue_behind_gate(store: Store, gate: Path, names: str = "", run: str = "test") -> list[int]:
    """Queue a job that ends when it is let go, and others behind it."""
    (first,) = enqueue(store, a_spec(*waits_for(gate), cpus=CORES), run=run)
    return [first, *put(store, names, cpus=CORES, run=run)]


def wait_for_prewritten_order(home: Home, store: Store, job: int) -> None:
    """Wait until a job's order is written, and see that nothing is claimed by that."""
    attempt = home.attempt(job, 1)
    until(attempt.spec.exists, f"the order of job {job} is written")
    until(attempt.log.exists, "its log lies beside it")
    assert {*attempt.folder.iterdir()} == {attempt.spec, attempt.log}
    assert attempt.log.stat().st_size == 0
    assert job_row(store, job).state is State.QUEUED
    assert job_row(store, job).attempts == 0


def test_prewritten_order_is_deleted_if_another_job_follows(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first, second, third = enqueue_behind_gate(store, gate, "23")
    serve(home)
    wait_for_prewritten_order(home, store, second)
    store.job_control.cancel([second], time.time())
    wake(home)
    wait_for_prewritten_order(home, store, third)
    assert not home.attempt(second, 1).folder.exists()
    gate.touch()
    until_done(store, third)
    assert started_jobs(home) == [first, third]


def test_prewritten_order_of_a_killed_scheduler_is_used_by_the_next(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    jobs = enqueue_behind_gate(store, gate, "23")
    pid = serve(home)
    wait_for_prewritten_order(home, store, jobs[1])
    os.kill(pid, signal.SIGKILL)
    until(lambda: ensure_scheduler(home) != pid, "another scheduler serves")
    gate.touch()
    until_done(store, *jobs)
    assert [job_row(store, job).attempts for job in jobs] == [1, 1, 1]


# --- the order of runs, as printed by `launcher show` and `launcher share`; and the order of a
# real scheduler


HOURS = 3600.0


def on_gpu(name: str) -> Spec:
    return a_spec(name=name, resources=Resources(device="cuda"))


@pytest.fixture
def sweep(store: Store) -> list[int]:
    """A run with one job done after ten hours on two GPUs, and five waiting ones."""
    jobs = enqueue(store, *(on_gpu(f"command/{n}") for n in range(6)), run="sweep")
    now = job_row(store, jobs[0]).submitted
    claim = seated(store, jobs[0], now - 10 * HOURS, device="GPU-1,GPU-2")
    end(store, claim, Done(at=now), now=now)
    return jobs[1:]


def test_reason_states_the_position_in_the_run_and_the_first_run(
    launcher: Launcher, store: Store, sweep: list[int]
) -> None:
    quick = enqueue(store, on_gpu("command/1"), run="quick")
    assert (
        "\nthird by age in run sweep (share 1, used 20.0 GPU-hours lately); run quick (share 1, used 0.0"
        " GPU-hours lately) comes before this run: it used 20.0 GPU-hours less for each unit of share\n"
    ) in launcher("show", str(sweep[2])).out
    assert (
        "\nfirst by age in run quick (share 1, used 0.0 GPU-hours lately); this run comes next, before run"
        " sweep (share 1, used 20.0 GPU-hours lately)\n"
    ) in launcher("show", str(quick[0])).out
    record = json.loads(launcher("show", str(sweep[0]), "--json").out)
    assert record["turn"].startswith("first by age in run sweep")
    assert record["share"] == 1


def test_reason_states_that_a_run_is_first_by_priority(
    launcher: Launcher, store: Store, sweep: list[int]
) -> None:
    (job, _) = enqueue(
        store, a_spec(name="command/1"), a_spec(name="command/2", cpus=2), run="plain"
    )
    store.job_control.set_priority(sweep, 2)
    answer = launcher("show", str(job)).out
    assert (
        "first by age in run plain (share 1, used 0.0 core-hours lately); run sweep (share 1"
        in answer
    )
    assert "lately) comes before this run: it has a job with priority 2\n" in answer


def test_reason_of_a_single_run_does_not_mention_other_runs(
    launcher: Launcher, store: Store, sweep: list[int]
) -> None:
    (held,) = enqueue(store, on_gpu("command/1"), run="quick")
    store.job_control.hold([held], 1.0)
    assert "of run" not in launcher("show", str(sweep[2])).out
    assert json.loads(launcher("show", str(held), "--json").out)["turn"] is None


def test_status_lists_waiting_jobs_in_the_order_of_their_turns(
    launcher: Launcher, store: Store, sweep: list[int]
) -> None:
    quick = enqueue(store, *(on_gpu(f"command/{n}") for n in range(2)), run="quick")
    answer = json.loads(launcher("status", "--json").out)
    listed = [job["id"] for job in answer["jobs"] if job["state"] == "queued"]
    assert listed == [*quick, *sweep]
    assert {job["share"] for job in answer["jobs"]} == {1}


def test_shares_are_listed_and_changed(launcher: Launcher, store: Store, sweep: list[int]) -> None:
    assert launcher("share", "sweep", "3", "-n").out == "sweep\twould have share 3\n"
    assert launcher("share").out == "sweep\t1\t20.0\t0\t5\n"
    assert launcher("share", "run:sweep", "3").out == "sweep\tshare 3\n"
    assert job_row(store, sweep[0]).share == 3
    assert "share 3" in " ".join(launcher("show", str(sweep[0])).out.split())
    assert json.loads(launcher("share", "sweep", "--json").out) == {
        "schema": 1,
        "runs": [{"run": "sweep", "share": 3, "gpu_hours": pytest.approx(20, abs=0.1),
                  "running": 0, "waiting": 5}],
    }  # fmt: skip
    assert "Did you mean 'sweep'?" in launcher("share", "swep", "2").err
    store.job_control.cancel(sweep, 1.0)
    assert launcher("share", "sweep").err == "run sweep has no running or waiting jobs\n"


def test_added_programs_have_a_share_as_one_run(launcher: Launcher, store: Store) -> None:
    ensure = launcher("add", "--hold", "--share", "0.5", "--", "true")
    assert ensure.code == 0
    launcher("add", "--hold", "--", "true")
    assert [job.share for job in store.read.jobs()] == [0.5, 0.5]


def test_short_run_starts_at_the_next_ends_while_a_sweep_waits(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    (first,) = enqueue_behind_gate(store, gate, run="sweep")
    store.database.execute("UPDATE runs SET vtime = 1000")  # however slow this machine is
    serve(home)
    until_in(store, State.RUNNING, first)
    with store.database.writing():  # no decision sees the sweep alone
        sweep = put(store, map(str, range(2, 22)), cpus=CORES, run="sweep")
        quick = put(store, "123", cpus=CORES, run="quick")
    gate.touch()
    wake(home)
    until_done(store, *sweep, *quick)
    order = started_jobs(home)
    assert order == [first, *quick, *sweep]


def test_other_policies_do_not_alternate_runs(
    home: Home, launcher: Launcher, store: Store, sweep: list[int], tmp_path: Path
) -> None:
    quick = enqueue(store, on_gpu("command/1"), run="quick")
    set_policy(home, FIFO)
    assert "of run" not in launcher("show", str(quick[0])).out
    answer = json.loads(launcher("status", "--json").out)
    waiting = [job["id"] for job in answer["jobs"] if job["state"] == "queued"]
    assert waiting == [*sweep, *quick]
    store.job_control.hold([*waiting], 1.0)

    gate = tmp_path / "gate"
    first, *earlier = enqueue_behind_gate(store, gate, "ab", run="sweep")
    later = put(store, "ab", cpus=CORES, run="quick")
    serve(home)
    until_in(store, State.RUNNING, first)
    gate.touch()
    wake(home)
    until_done(store, *earlier, *later)
    assert started_jobs(home) == [first, *earlier, *later]


def test_virtual_time_of_a_new_run_is_kept_after_a_full_disk(
    home: Home, store: Store, sweep: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.job_control.hold(sweep[1:], 1.0)
    store.database.execute("UPDATE runs SET vtime = 1e6")
    store_vtimes, asked, looks = store.ready_jobs.set_vtimes, list[int](), list[int]()

    def vtimes() -> dict[str, float]:
        return dict(store.database.execute("SELECT name, vtime FROM runs").fetchall())

    def set_vtimes(changed: Mapping[str, float]) -> None:
        asked.append(len(changed))
        if len(asked) == 1:
            raise OSError(28, "No space left on device")
        store_vtimes(changed)

    def housekeeping() -> None:
        looks.append(len(asked))
        if len(looks) == 3:
            enqueue(store, on_gpu("command/1"), run="quick")
        if len(asked) > 1 or len(looks) > 30:
            scheduler.leave()

    monkeypatch.setattr(store.ready_jobs, "set_vtimes", set_vtimes)
    scheduler = Scheduler(home, store, snapshot=tuple, cpus=1, housekeeping=housekeeping)
    scheduler.run()
    assert asked, "it came beside others"
    assert 0 < vtimes()["sweep"] - vtimes()["quick"] <= NEW_RUN_CREDIT_S
