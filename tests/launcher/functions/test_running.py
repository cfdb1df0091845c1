"""Functions that run: forks, waiting, results, interrupts, pilots."""

import atexit
import gzip
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest

from launcher.api import (
    Executor,
    Future,
    JobError,
    MachineError,
    TaskFileError,
    UsageError,
    future,
    load,
    plan,
    results,
    submit,
    submit_many,
    wait,
)
from launcher.experiments.functions.call_results import VALUE
from launcher.experiments.functions.calls import FOLDER
from launcher.experiments.functions.task_files import Run, flat
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import NewJob, Store
from launcher.system.processes import usable_cores
from tests.build import DEADLINE_S, a_context, a_spec, until
from tests.launcher.conftest import Launcher
from tests.shortened import shortened

pytestmark = pytest.mark.usefixtures("one_queue", "queue")
QUICK_NOTES = {"launcher.queue.workers.process_end._NOTE_AFTER_S": 0.5}
kept: list[Any] = []  # until the end of a job


@pytest.fixture(scope="module", autouse=True)
def quick_notes() -> Iterator[None]:
    """The note about a process that does not end is written sooner."""
    with shortened(QUICK_NOTES):
        yield


def test_fork_that_outlives_the_function_dies_and_the_value_of_its_parent_stays() -> None:
    def leaves_a_fork() -> int:
        pid = os.fork()
        if pid == 0:
            time.sleep(300)
            os._exit(0)
        return pid

    answer = submit(leaves_a_fork)
    pid = answer.result(DEADLINE_S)
    assert answer.state == "done"
    assert not Path(f"/proc/{pid}").exists()
    assert "Traceback" not in answer.log()


def test_reason_for_a_missing_value_is_reported(home: Home) -> None:
    answers = submit_many(int, range(2))
    folders = [home.attempt(answer.job, 1).folder for answer in answers]
    assert wait(answers, DEADLINE_S) == {answer.job: "done" for answer in answers}
    (folders[0] / VALUE).unlink()
    shutil.rmtree(folders[1])
    causes = ["its file in .* was deleted", "by `launcher clean`"]
    for answer, cause in zip(answers, causes, strict=True):
        with pytest.raises(MachineError, match=f"{cause}. Submit it again"):
            answer.result(DEADLINE_S)


@pytest.mark.parametrize("raises", [False, True])
def test_function_ends_as_a_program_of_python_ends(tmp_path: Path, *, raises: bool) -> None:
    def write_later(name: str) -> None:
        time.sleep(0.1)
        (tmp_path / name).write_text("whole")

    def leaves_everything() -> str:
        global kept
        kept = [(tmp_path / "open").open("w"), gzip.open(tmp_path / "packed", "wt")]  # noqa: SIM115
        for file in kept:
            file.write("whole")
        threading.Thread(target=write_later, args=["thread"]).start()
        kept += [pool := ThreadPoolExecutor(1), folder := TemporaryDirectory(dir=tmp_path)]
        pool.submit(write_later, "pool")
        multiprocessing.get_context("fork").Process(target=write_later, args=["process"]).start()
        atexit.register(write_later, "handler")
        weakref.finalize(pool, write_later, "finalizer")
        if raises:
            raise KeyError("parent")
        return folder.name

    answer = submit(leaves_everything)
    if raises:
        with pytest.raises(KeyError, match="parent"):
            answer.result(DEADLINE_S)
    else:
        assert not Path(answer.result(DEADLINE_S)).exists()
    names = ["thread", "pool", "process", "handler", "finalizer", "open"]
    found = {path.name: path for path in tmp_path.iterdir()}
    with gzip.open(found.pop("packed"), "rt") as packed:
        assert packed.read() == "whole"
    assert {name: path.read_text() for name, path in found.items()} == dict.fromkeys(names, "whole")


@pytest.mark.parametrize("time_limit", [3600.0, 1.0])
def test_function_with_an_endless_thread_ends_by_its_time_limit_or_a_cancellation(
    tmp_path: Path, time_limit: float
) -> None:
    def leaves_a_thread() -> int:
        atexit.register((tmp_path / "handler").write_text, "called")
        threading.Thread(target=time.sleep, args=[300], name="endless").start()
        (tmp_path / "returned").touch()
        return 1

    answer = submit(leaves_a_thread, time_limit=time_limit)
    until((tmp_path / "returned").exists, "the function has returned")
    if time_limit > DEADLINE_S:
        until(lambda: "its process waits for thread endless" in answer.log(), "it waits")
        assert answer.state == "running"
        answer.terminate()
        with pytest.raises(CancelledError):
            answer.result(DEADLINE_S)
    else:
        with pytest.raises(
            JobError,
            match=r"reached its time limit of 1 s: the function had returned, and its process waited for thread endless",
        ):
            answer.result(DEADLINE_S)
    until((tmp_path / "handler").exists, "the handlers are called")


def test_log_and_status_name_what_the_end_of_a_function_waits_for(launcher: Launcher) -> None:
    def leaves_much(*, raises: bool) -> None:
        context = multiprocessing.get_context("fork")
        context.Process(target=os._exit, args=(0,)).start()
        context.Process(target=time.sleep, args=[300]).start()
        for name in "abc":
            threading.Thread(target=time.sleep, args=[300], name=name).start()
        if raises:
            raise KeyError("parent")

    answers = {
        end: submit(leaves_much, kwargs={"raises": end == "failed"})
        for end in ("failed", "returned")
    }
    waits = "its process waits for thread a, thread b, thread c and 1 more"
    for end, answer in answers.items():
        until(lambda answer=answer: "note" in answer.log(), "the wait is noted")  # type: ignore[misc]
        assert answer.log(1).strip() == f"note: the function has {end}; {waits}"
        assert launcher("status", str(answer.job)).out.split("\t")[5].endswith(waits)
        answer.terminate()


def test_fork_that_returns_ends_there_and_its_parent_returns_the_value(home: Home) -> None:
    def returns_twice() -> tuple[str, int]:
        pid = os.fork()
        if pid == 0:
            sys.stdout.write("of the fork")  # no line: it must be flushed
            return "fork", 0
        return "parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    answer = submit(returns_twice)
    assert answer.result(DEADLINE_S) == ("parent", 0)
    assert answer.log() == "of the fork"


def test_fork_that_raises_writes_to_its_log_and_its_parent_returns_the_value() -> None:
    def forks(*codes: object) -> list[int]:
        ended = []
        for code in codes:
            pid = os.fork()
            if pid == 0:
                if code is None:
                    raise ValueError("of the fork")
                sys.exit(code)  # type: ignore[arg-type]
            ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return ended

    answer = submit(forks, None, 3, "of the exit")
    assert answer.result(DEADLINE_S) == [1, 3, 1]
    assert "ValueError: of the fork" in answer.log()
    assert answer.log().endswith("of the exit")


def test_fork_dies_of_an_immediate_signal() -> None:
    def ends_forks() -> set[int]:
        ended = set()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                time.sleep(300)
            os.kill(pid, signal.SIGTERM)
            ended.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return ended

    assert submit(ends_forks).result(DEADLINE_S) == {-signal.SIGTERM}


# --- Waiting for jobs from Python: by future, number, run, and several of them


@pytest.mark.usefixtures("alone")
def test_states_of_all_jobs_are_returned_when_they_have_ended(
    home: Home, capfd: pytest.CaptureFixture[str]
) -> None:
    good, bad = submit(int, "3"), submit(int, "x")
    capfd.readouterr()
    states = wait([good, bad.job, "functions"])
    assert capfd.readouterr() == ("", ""), "there is no terminal"
    assert states == {good.job: "done", bad.job: "failed"}
    run = Run(name="functions", folder=home.folder, jobs=(bad.job,), queued=1, joined=0, cached=0)
    assert run.wait() == {bad.job: "failed"}


def test_current_states_are_returned_after_the_timeout() -> None:
    held = submit(int, hold=True)
    assert wait(held, timeout=0.05) == {held.job: "held"}


@pytest.mark.usefixtures("alone")
def test_missing_job_or_run_is_refused() -> None:
    submit(int, hold=True)
    with pytest.raises(UsageError, match="job 7 does not exist"):
        wait(7)
    with pytest.raises(
        UsageError, match=r"run 'function' does not exist\. Did you mean 'functions'\?"
    ):
        wait("function")


@pytest.mark.parametrize("wrong", [3.5, None, True, [[3.5]]])
def test_invalid_job_argument_is_refused_with_the_expected_types(wrong: Any) -> None:
    submit(int, hold=True)
    with pytest.raises(UsageError, match="expected futures, runs, names of runs or job numbers"):
        wait(wrong)


def test_call_reports_a_stopped_queue_and_waits_after_its_start(
    launcher: Launcher, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.queue.store.feed.CHECK_EVERY_S", 0.0)
    held = submit(int, hold=True)
    launcher.well("stop")
    until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    with pytest.raises(MachineError, match="launcher start"):
        wait(held)
    with pytest.raises(MachineError, match="launcher start"):
        held.result()
    launcher.well("start")
    launcher.well("release", str(held.job))
    assert held.result(DEADLINE_S) == 0


def test_newest_of_runs_with_one_name_is_used(store: Store) -> None:
    numbers = []
    for age, root in enumerate(("/old", "/new")):
        with store.database.writing():
            run = store.ensure_run(Path(root), "study")
            new = NewJob(spec=a_spec("true", run="study", root=root))
            numbers.append(store.insert_or_replace(run, a_context(), new, float(age)))
    assert [*wait("study", timeout=0)] == numbers[1:]


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(usable_cores() < 2, reason="two functions run at once")
def test_functions_waiting_for_their_own_jobs_on_a_full_machine_are_named_as_reason(
    launcher: Launcher, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"

    def outer() -> object:
        while not flag.exists():
            time.sleep(0.01)
        return submit(abs, -3, cpus=1).result(DEADLINE_S)

    outers = [
        submit(outer, cpus=cpus)
        for cpus in (usable_cores() // 2, usable_cores() - usable_cores() // 2)
    ]
    until(lambda: all(each.state == "running" for each in outers), "both functions run")
    flag.touch()
    held = f"jobs 1, 2, which queued other jobs, hold {usable_cores()} cores"
    until(lambda: launcher("status").out.count(held) == 2, "both children name both functions")
    assert outers[0].terminate()
    assert outers[1].result(DEADLINE_S) == 3


def result_of_executor(child: Future[int]) -> None:
    with Executor(cpus=1) as executor:
        executor.submit(abs, child.job)


@pytest.mark.usefixtures("alone")
def test_wait_for_a_job_that_can_never_start_ends_with_the_reason() -> None:
    def tries_all_waits() -> list[str]:
        child = submit(abs, -3, cpus=1)
        errors = []
        for wait_for in (Future.result, wait, result_of_executor):
            with pytest.raises(MachineError) as caught:
                wait_for(child)
            errors.append(str(caught.value))
        return errors

    with shortened({"launcher.queue.scheduler.job_wait.CHECK_EVERY_S": 0.2}):
        parent = submit(tries_all_waits, cpus=usable_cores())
    held = f"and job 1, which waits for queued jobs, holds {usable_cores()} of {usable_cores()}. "
    for number, error in zip((2, 2, 3), parent.result(DEADLINE_S), strict=True):
        start = f"job {number} cannot start while this program waits for it: it needs 1 CPU core, "
        assert error.startswith(f"{start}{held}Queue it with after=[")
    assert future(2).result(DEADLINE_S) == 3


# --- Task files and plans into the queue from Python


TASK = """
name: two
command:
  - {name: first, argv: [echo, "launcher: n=1"]}
  - {name: second, argv: [echo, "launcher: n=2"]}
"""


@pytest.fixture
def task(queue: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task file in the working directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "two.yaml"
    file.write_text(TASK, encoding="utf-8")
    return file


def test_jobs_of_a_task_file_run_and_a_second_submission_finds_them_done(task: Path) -> None:
    run = submit(task)
    assert (run.name, run.queued, run.cached) == ("two", 2, 0)
    assert set(run.wait().values()) == {"done"}
    again = submit(str(task))
    assert (again.queued, again.cached, again.jobs) == (0, 2, run.jobs)
    rows = [{"job": "command/first", "n": 1.0}, {"job": "command/second", "n": 2.0}]
    assert results(run, frame=False) == results("two", frame=False) == rows
    assert len(run.results()) == 2


def test_plan_is_submitted_into_its_own_folder(task: Path, tmp_path: Path) -> None:
    made = plan(load(task), root=tmp_path)
    run = submit(made)
    assert run.folder == tmp_path / "runs/two"
    assert set(wait(run).values()) == {"done"}
    with pytest.raises(UsageError, match="cannot change a finished plan"):
        submit(made, settings=["name=other"])


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("planned", [False, True])
def test_task_file_that_requests_a_gpu_on_a_machine_without_one_warns(
    task: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    planned: bool,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    task.write_text(TASK + "resources: {gpus: 1}\n", encoding="utf-8")
    submit(plan(load(task)) if planned else task)
    warning = capfd.readouterr().err
    assert warning.startswith("warning: no GPU is visible on this machine: ")
    assert "2 jobs wait for a GPU. Remove gpus, vram, exclusive and device" in warning


@pytest.mark.usefixtures("alone")
def test_errors_of_a_task_file_are_reported_and_nothing_is_queued(task: Path, store: Store) -> None:
    task.write_text(TASK + "  - {nam: third}\n", encoding="utf-8")
    with pytest.raises(TaskFileError, match="nam"):
        submit(task)
    with pytest.raises(UsageError, match=r"task file 'absent\.yaml' does not exist"):
        submit("absent.yaml")
    task.write_text(TASK, encoding="utf-8")
    with pytest.raises(UsageError, match="can never start here"):
        submit(task, settings=["resources.cpus=99999"])
    assert store.read.jobs() == []


def test_neither_function_nor_task_file_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="got int"):
        submit(3)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="does not take arguments"):
        submit("a.yaml", 3)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"unknown option 'cpus'.*resources\.cpus=4"):
        submit("a.yaml", cpus=3)  # type: ignore[call-overload]


# --- Results of a run in Python


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_rows_are_a_data_frame_if_pandas_is_installed() -> None:
    wait(submit_many(abs, [-1, -2]))
    frame = results("functions")
    assert list(frame["value"]) == [1, 2]
    assert list(frame["job"]) == ["function/abs#1", "function/abs#2"]


def print_score(score: float) -> str:
    sys.stdout.write(f"lr=0.1\nval_acc: {score}\n")
    return "saved"


def test_function_without_a_number_has_those_of_its_log() -> None:
    wait(submit_many(print_score, [0.93]))
    rows = results("functions", frame=False)
    row = next(each for each in rows if "print_score" in each["job"])
    assert (row["val_acc"], row["value"], row["read_from"]) == (0.93, "saved", "log")
    with pytest.raises(UsageError, match="run 'nights' does not exist"):
        results("nights")


def test_number_with_an_interval_makes_three_columns() -> None:
    row = {"model": "a", "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "x": {"y": {"z": 1}}}
    assert flat(row) == {
        "model": "a",
        "accuracy": 0.9,
        "accuracy_low": 0.8,
        "accuracy_high": 0.95,
        "x.y.z": 1,
    }


# --- Functions on pilots: the call lies where they see it


PATIENCE_S = 3 * DEADLINE_S  # a pilot has to start first


CONFIG = """
[backends.near]
kind = "local"
idle = "1s"
[backends.far]
kind = "local"
folder = "FAR"
"""


@pytest.fixture
def far(queue: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two backends that are processes of this machine; the folder of the second one's pilots."""
    folder, config, project = (tmp_path / name for name in ("far", "config.toml", "project"))
    config.write_text(CONFIG.replace("FAR", str(folder)), encoding="utf-8")
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    project.mkdir()
    monkeypatch.chdir(project)
    return folder


@pytest.mark.usefixtures("alone")
def test_function_runs_on_a_pilot_and_its_value_or_exception_comes_back(
    far: Path, home: Home
) -> None:
    bias, here = 2, os.getpid()

    def work(x: int) -> int:
        assert os.getpid() != here
        return x // bias

    def refuse() -> None:
        raise ValueError("not here")

    answer, refusal = submit(work, 10, on="near"), submit(refuse, on=["near"])
    assert answer.result(PATIENCE_S) == 5
    with pytest.raises(ValueError, match="not here"):
        refusal.result(PATIENCE_S)
    assert home.attempt(answer.job, 1).folder.is_symlink()  # into the folder of its pilot
    assert not far.exists()


@pytest.mark.usefixtures("alone")
def test_function_is_refused_if_the_pilots_share_no_folder(far: Path) -> None:
    with pytest.raises(UsageError, match="near, far have no common folder"):
        submit(int, on="near,far")
    submit(int, on="local,far", hold=True)
    assert [path.parent for path in far.rglob("*.calls")] == [far / "functions"]


# --- Ctrl-C while functions are submitted: the queue and the files of calls stay in step


def interrupted_at(called: str, callers: set[str], work: Callable[[], object]) -> None:
    """Do some work, and interrupt it as Ctrl-C does where one function calls another."""

    def look(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back
        if event != "call" or frame.f_code.co_name != called or caller is None:
            return
        if caller.f_code.co_name in callers:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(look)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        sys.setprofile(None)


@pytest.mark.usefixtures("alone")
def test_interrupt_after_submission_keeps_the_calls_of_the_jobs(store: Store) -> None:
    interrupted_at("jobs_by_id", {"queue_calls"}, lambda: submit(pow, 2, 5))
    (row,) = store.read.open_jobs()
    assert future(row.id).result(DEADLINE_S) == 32


@pytest.mark.usefixtures("alone")
def test_failed_submission_leaves_no_file(home: Home) -> None:
    assert submit_many(pow, [], []) == []
    assert [*Path(home.folder, FOLDER).iterdir()] == []
