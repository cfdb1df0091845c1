"""The cluster `launcher` of submitit: arrays, parameters, checkpoints, states, output and errors."""

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.api import UsageError
from launcher.experiments.functions.pickling import CannotPickle
from launcher.queue.home.paths import Home
from launcher.queue.job_options.registry import job_options
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import until
from tests.launcher.plugins.peer_environments import passed, run_suite

submitit: Any = pytest.importorskip("submitit")
pytestmark = pytest.mark.usefixtures("one_queue", "queue")
CONFTEST = """
from submitit.local import local
from launcher.frontends.plugins.submitit.executor import LauncherExecutor, LauncherJob
local.LocalExecutor, local.LocalJob = type("LocalExecutor", (LauncherExecutor,), {}), LauncherJob
"""
# They look into `job._process`, the process of submitit's own local executor; the tests here take their places.
LEFT_OUT = "not test_local_job and not test_killed and not test_cancel"
GIB = 1 << 30

Make = Callable[..., Any]


@pytest.fixture
def executor(tmp_path: Path) -> Any:
    """The cluster, as submitit finds it."""
    return submitit.AutoExecutor(tmp_path / "jobs", cluster="launcher")


def test_array_is_queued_at_once_and_its_output_is_in_the_folder_and_in_the_log(
    executor: Any, tmp_path: Path, store: Store, home: Home
) -> None:
    def prints(number: int) -> int:
        sys.stdout.write(f"number {number}\n")
        return number * 2

    jobs = executor.map_array(prints, [1, 2])
    assert [job.result() for job in jobs] == [2, 4]
    assert [job.state for job in jobs] == ["COMPLETED", "COMPLETED"]
    first, second = (int(job.job_id) for job in jobs)
    assert second == first + 1
    row = store.read.jobs_by_id([first])[0]
    assert row.name == f"function/prints#{first}"
    assert jobs[0].paths.stdout == tmp_path / "jobs" / f"{first}_0_log.out"
    for text in (jobs[0].stdout(), row.attempt_in(home).log.read_text()):
        assert "number 1\n" in text
    assert {path.suffix for path in (tmp_path / "jobs").iterdir()} == {".pkl", ".out", ".err"}
    assert not [path for path in (tmp_path / "jobs").iterdir() if "_" not in path.name]


def test_parameters_are_options_of_the_job(executor: Any, store: Store) -> None:
    executor.update_parameters(name="fit", timeout_min=60, mem_gb=0.5, cpus_per_task=1)
    executor.update_parameters(launcher_hold=True, launcher_priority=3)
    first = executor.submit(pow, 2, 3)
    executor.update_parameters(launcher_after=[first], launcher_warn="5m", launcher_signal="USR1")
    with executor.batch():
        second = executor.submit(pow, 2, 4)
    rows = store.read.jobs_by_id([int(first.job_id), int(second.job_id)])
    assert [row.name for row in rows] == [f"function/fit#{row.id}" for row in rows]
    spec = rows[0].spec
    assert (spec.resources.cpus, spec.resources.ram, rows[0].priority) == (1, GIB // 2, 3)
    assert [row.spec.terms.time_limit_s for row in rows] == [3600, 3600]
    assert [row.spec.terms.warn_s for row in rows] == [90, 300]
    assert [row.spec.terms.warn_signal for row in rows] == ["SIGUSR2", "SIGUSR1"]
    assert first.state == "PENDING"
    assert {*job_options()} <= executor._executor._valid_parameters()


def test_parameters_of_slurm_that_have_no_effect_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = submitit.AutoExecutor(tmp_path, cluster="launcher", slurm_max_num_timeout=30)
    start = "note: the cluster 'launcher' ignores "
    timeouts = f"{start}slurm_max_num_timeout. Use launcher_max_num_timeout\n"
    assert capsys.readouterr().err == timeouts
    for parameters, note in (
        ({"slurm_partition": "gpu"}, "slurm_partition"),
        (
            {"slurm_signal_delay_s": 120, "slurm_time": 60, "slurm_partition": "gpu", "name": "a"},
            "slurm_signal_delay_s, slurm_time. Use launcher_signal_delay_s, launcher_timeout_min",
        ),
    ):
        executor.update_parameters(**parameters)
        assert capsys.readouterr().err == f"{start}{note}\n"
    executor.update_parameters(slurm_time=90, launcher_signal_delay_s=120, timeout_min=60)
    assert capsys.readouterr().err == ""


def test_tasks_of_a_job_have_their_ranks_and_the_first_error_is_raised(executor: Any) -> None:
    def rank() -> str:
        place = submitit.JobEnvironment()
        if place.global_rank:
            raise RuntimeError(f"rank {place.global_rank} of {place.num_tasks}")
        return str(place.job_id)

    executor.update_parameters(tasks_per_node=2, stderr_to_stdout=True)
    job = executor.submit(rank)
    assert job.task(0).result() == job.job_id
    with pytest.raises(submitit.core.utils.FailedJobError, match="RuntimeError: rank 1 of 2"):
        job.task(1).result()
    assert "rank 1 of 2" in str(pickle.loads(pickle.dumps(job)).exception())
    assert (job.state, job.done()) == ("FAILED", True)


def test_job_continues_from_its_checkpoint_after_its_time_limit(
    executor: Any, store: Store
) -> None:
    class Slow(submitit.helpers.Checkpointable):  # type: ignore[misc]  # of an optional package
        def __call__(self, again: bool) -> str:
            if not again:
                time.sleep(60)
            return "continued"

        def checkpoint(self, again: bool) -> Any:
            return submitit.helpers.DelayedSubmission(self, True)

    executor.update_parameters(launcher_time_limit="60s", launcher_signal_delay_s=58)
    job = executor.submit(Slow(), False)
    assert job.result() == "continued"
    (row,) = store.read.jobs_by_id([int(job.job_id)])
    assert (row.attempts, row.failures, job.state) == (2, 1, "COMPLETED")


def test_cancelled_job_saves_a_checkpoint_and_has_no_result(executor: Any, tmp_path: Path) -> None:
    started, saved = tmp_path / "started", tmp_path / "saved"

    class Saves(submitit.helpers.Checkpointable):  # type: ignore[misc]  # likewise
        def __call__(self) -> None:
            started.touch()
            time.sleep(60)

        def checkpoint(self) -> Any:
            saved.touch()
            return submitit.helpers.DelayedSubmission(self)

    job = executor.submit(Saves())
    until(started.exists, "the function runs")
    assert (job.done(), job.state) == (False, "RUNNING")
    job.cancel()
    with pytest.raises(submitit.core.utils.UncompletedJobError, match="cancelled by its owner"):
        job.result()
    assert (saved.exists(), job.state) == (True, "CANCELLED")


def test_job_is_cancelled_when_its_object_is_deleted(executor: Any, store: Store) -> None:
    job = executor.submit(time.sleep, 60).cancel_at_deletion()
    number = int(job.job_id)
    del job
    until(
        lambda: store.read.jobs_by_id([number])[0].state is State.CANCELLED, "the job is cancelled"
    )


def test_killed_job_is_reported_with_the_command_that_shows_it(executor: Any) -> None:
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    job = executor.submit(dies)
    error = job.exception()
    assert isinstance(error, submitit.core.utils.UncompletedJobError)
    assert "killed by signal: Killed" in str(error)
    assert f"launcher show {job.job_id}" in str(error)


def test_mistakes_are_reported_and_nothing_is_queued(
    executor: Any, tmp_path: Path, store: Store
) -> None:
    before = store.read.counts()
    with pytest.raises(CannotPickle, match=r"a call of len cannot be pickled: argument 1"):
        executor.map_array(len, ["ab", (letter for letter in "ab")])
    executor.update_parameters(launcher_cpus=100_000)
    with pytest.raises(UsageError, match="never run it"):
        executor.submit(pow, 2, 2)
    with pytest.raises(UsageError, match="nodes=1"):
        executor.update_parameters(nodes=2)
    with pytest.raises(UsageError, match="Did you mean 'gpus_per_node'"):
        executor._executor.update_parameters(gpu_per_node=2)
    with pytest.raises(NameError, match="Unknown argument 'gpu' for executor 'launcher'"):
        executor.update_parameters(launcher_gpu=2)
    with pytest.raises(UsageError, match="time_limit: "):
        executor.update_parameters(launcher_time_limit="soon")
    assert (store.read.counts(), [*(tmp_path / "jobs").iterdir()]) == (before, [])


def test_test_of_submitit_passes(tmp_path: Path, home: Home) -> None:
    test = "submitit.local.test_local::test_local_error"
    assert passed(run_suite(test, CONFTEST, tmp_path, ())) == 1


@pytest.mark.night
def test_tests_of_submitit_pass(tmp_path: Path, home: Home) -> None:
    line = run_suite("submitit.local.test_local", CONFTEST, tmp_path, ("-k", LEFT_OUT))
    assert passed(line) == 18
