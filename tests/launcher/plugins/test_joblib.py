"""The backend of joblib: batches are jobs, with their limit, their exceptions and their end."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.api import JobError, MachineError, UsageError, register_joblib
from launcher.experiments.functions.pickling import CannotPickle
from launcher.frontends.plugins.joblib import batches
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.installation import install_command
from tests.build import until
from tests.launcher.conftest import Launcher
from tests.launcher.plugins.peer_environments import passed, run_suite

joblib: Any = pytest.importorskip("joblib")
pytestmark = pytest.mark.usefixtures("one_queue", "queue", "registered")
CONFTEST = """
from launcher.api import register_joblib
register_joblib()
"""
# loky starts processes in which nobody has registered the backend
LEFT_OUT = (
    "not test_nested_loop[loky-launcher] and not test_nested_loop[back_compat_backend-launcher]"
)


@pytest.fixture
def registered() -> Iterator[None]:
    """The backend `launcher` of joblib."""
    register_joblib()
    yield
    joblib.parallel.BACKENDS.pop(batches.NAME, None)


def parallel(*calls: Any, n_jobs: int = 2, **options: Any) -> Any:
    """Return the values of calls, each a job."""
    return joblib.Parallel(n_jobs=n_jobs, backend="launcher", batch_size=1, **options)(
        joblib.delayed(function)(*arguments) for function, *arguments in calls
    )


def test_values_come_in_order_and_jobs_have_the_options_of_parallel_config(store: Store) -> None:
    with joblib.parallel_config(backend="launcher", n_jobs=2, note="squares", cpus=1):
        values = joblib.Parallel()(joblib.delayed(pow)(number, 2) for number in range(4))
    jobs = [job for job in store.read.jobs() if job.spec.terms.note == "squares"]
    assert (values, {job.state for job in jobs}) == ([0, 1, 4, 9], {State.DONE})
    assert all(job.name.startswith("function/pow#") for job in jobs)


def test_at_most_n_jobs_run_at_once(store: Store) -> None:
    values = joblib.Parallel(n_jobs=2, backend="launcher", return_as="generator")(
        joblib.delayed(pow)(number, 2) for number in range(3)
    )
    groups = {job.spec.terms.group for job in store.read.open_jobs()}
    limits = [each.slots for each in store.read.group_limits() if each.name in groups]
    assert (limits, [*values]) == ([2], [0, 1, 4])


def test_exception_of_a_function_is_raised_as_itself_and_the_other_jobs_are_cancelled(
    store: Store,
) -> None:
    def fails() -> None:
        raise KeyError("left")

    with pytest.raises(KeyError, match="left"):
        parallel((fails,), (time.sleep, 60))
    until(lambda: not store.read.open_jobs(), "the other job is cancelled")


def test_nested_calls_run_inside_the_job() -> None:
    def outer(backend: str | None) -> set[int]:
        call = joblib.Parallel(n_jobs=2, backend=backend)
        return {*call(joblib.delayed(os.getpid)() for _ in range(2)), os.getpid()}

    counts = [len(pids) for pids in parallel((outer, None), (outer, "launcher"))]
    assert counts == [1, 1]


def test_killed_job_and_argument_that_cannot_be_pickled_are_reported() -> None:
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(JobError, match="SIGKILL"):
        parallel((dies,), (pow, 2, 2))
    with pytest.raises(CannotPickle, match="a call of len cannot be pickled: argument 1 is"):
        parallel((len, (n for n in "ab")), (pow, 2, 2))


def test_wrong_options_are_refused() -> None:
    for options, message in (
        ({"gpu": 1}, "Did you mean 'gpus'"),
        ({"cpus": 0}, "cpus: "),
        ({"group": "g"}, "group cannot be combined with n_jobs"),
        ({"cpus": 100_000}, "this machine can never run it"),
    ):
        with pytest.raises(UsageError, match=message):
            parallel((pow, 2, 2), (pow, 2, 3), **options)


@pytest.mark.usefixtures("alone")
def test_stopped_queue_is_an_error(launcher: Launcher) -> None:
    parallel((pow, 2, 2), (pow, 2, 3))
    launcher.well("stop", "--now")
    with pytest.raises(MachineError, match="queue is stopped"):
        parallel((pow, 2, 2), (pow, 2, 3))


def test_missing_package_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib.parallel", None)
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MachineError, match=re.escape(install_command("joblib"))):
        register_joblib()


def test_test_of_joblib_passes(tmp_path: Path, home: Home) -> None:
    test = "joblib.test.test_parallel::test_main_thread_renamed_no_warning"
    assert passed(run_suite(test, CONFTEST, tmp_path, ("-k", "launcher"))) == 1


@pytest.mark.night
def test_tests_of_joblib_pass(tmp_path: Path, home: Home) -> None:
    chosen = ("-k", f"launcher and {LEFT_OUT}")
    assert passed(run_suite("joblib.test.test_parallel", CONFTEST, tmp_path, chosen)) >= 70
