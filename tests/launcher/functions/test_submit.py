"""Functions through the whole queue: real schedulers, real workers, the futures of this process."""

import asyncio
import concurrent.futures
import functools
import operator
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, assert_type

import pytest

from launcher.api import Future, JobError, UsageError, future, submit, submit_many
from launcher.experiments.functions.call_results import RemoteTraceback
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.queue import Store
from tests.build import DEADLINE_S, finished, until
from tests.launcher.conftest import Launcher

pytestmark = pytest.mark.usefixtures("one_queue", "queue")


def test_function_runs_as_a_job_and_its_future_has_the_returned_value() -> None:
    answer = submit(lambda a, b: a + b, 1, kwargs={"b": 2})
    assert answer.result(DEADLINE_S) == 3
    assert (answer.exception(), answer.done(), answer.cancelled()) == (None, True, False)
    assert answer.state == "done"


def test_exception_comes_back_as_raised_with_the_traceback_of_the_job() -> None:
    class Odd(Exception):
        """Of this process alone."""

    def refuse(x: int) -> None:
        raise Odd(f"{x} is odd", x)

    answer = submit(refuse, 3)
    with pytest.raises(Odd) as caught:
        answer.result(DEADLINE_S)
    assert caught.value.args == ("3 is odd", 3)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in refuse" in str(caught.value.__cause__)
    assert answer.exception() is caught.value
    assert answer.state == "failed"


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_in_a_function_does_not_end_the_waiting_process(code: int) -> None:
    answer = submit(sys.exit, code)
    with pytest.raises(JobError, match=f"failed: SystemExit: {code}") as caught:
        answer.result(DEADLINE_S)
    assert isinstance(caught.value.__cause__, SystemExit)
    assert isinstance(answer.exception(), JobError)


def test_exception_that_cannot_be_recreated_comes_back_as_text() -> None:
    class Picky(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first} and {second}")

    def refuse() -> None:
        raise Picky(1, 2)

    error = submit(refuse).exception(DEADLINE_S)
    assert isinstance(error, JobError)
    assert "Picky: 1 and 2" in str(error)
    assert "in refuse" in str(error.__cause__)


def test_killed_job_reports_how_it_ended_and_where_its_log_is() -> None:
    def die() -> None:
        os.kill(os.getpid(), 9)

    answer = submit(die)
    with pytest.raises(JobError, match=f"launcher logs {answer.job}"):
        answer.result(DEADLINE_S)


class _Unloadable:
    """Calls something that fails when it is loaded."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[object, ...]:
        return eval, (self._code,)


def test_unloadable_value_is_distinguished_from_an_exception_of_the_function() -> None:
    divided, absent = submit_many(_Unloadable, ["1/0", "open('/none')"])
    error = divided.exception(DEADLINE_S)
    words = "cannot be loaded here: ZeroDivisionError: division by zero"
    assert str(error) == f"the return value of {divided.name} {words}"
    assert isinstance(error, JobError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    with pytest.raises(JobError, match="cannot be loaded here: FileNotFoundError"):
        absent.result(DEADLINE_S)  # and not that it was cleaned


def test_value_can_be_loaded_once_its_module_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "later_found.py").write_text("class Model:\n    size = 3\n", encoding="utf-8")

    def made(folder: str) -> object:
        sys.path.append(folder)
        from later_found import Model  # type: ignore[import-not-found]

        return Model()

    answer = submit(made, str(tmp_path))
    with pytest.raises(JobError, match="cannot be loaded here: ModuleNotFoundError"):
        answer.result(DEADLINE_S)
    monkeypatch.syspath_prepend(tmp_path)
    assert answer.result(DEADLINE_S).size == 3  # type: ignore[attr-defined]


def test_call_that_cannot_be_loaded_in_its_job_fails_with_a_message() -> None:
    broken, unloadable = _Unloadable("1/0"), _Unloadable("open('/none')")

    def unused() -> object:
        return broken

    of_argument = submit(print, unloadable)
    of_function = submit(unused).exception(DEADLINE_S)
    error = of_argument.exception(DEADLINE_S)
    words = "cannot be loaded in the job"
    assert f"an argument of print(<_Unloadable>) {words}: FileNotFoundError" in str(error)
    assert f"the function of unused() {words}: ZeroDivisionError" in str(of_function)
    assert isinstance(error, JobError)
    assert isinstance(of_function, JobError)
    assert "Traceback" in of_argument.log()


@pytest.mark.usefixtures("alone")
def test_invalid_keywords_are_refused_at_once(store: Store) -> None:
    wrong: list[Any] = [[1], {1: 2}, "lr", 0]
    for kwargs in wrong:
        with pytest.raises(UsageError, match="kwargs: expected a mapping with strings as keys"):
            submit(print, kwargs=kwargs)
    assert store.read.jobs() == []


@pytest.mark.usefixtures("alone")
def test_unpicklable_argument_is_refused_by_name_and_nothing_is_queued(
    home: Home, store: Store
) -> None:
    lock = threading.Lock()

    def locked() -> object:
        return lock

    with pytest.raises(UsageError, match="function locked cannot be pickled: lock is of type"):
        submit(locked)
    with pytest.raises(UsageError, match=r"argument 2\['a'\]\[0\] is of type _thread.lock"):
        submit(print, 1, {"a": [lock]})
    assert store.read.jobs() == []
    assert [*(home.folder / "functions").iterdir()] == []


def test_cancelled_running_function_gets_a_keyboard_interrupt(tmp_path: Path) -> None:
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"

    def wait_for_ever() -> None:
        try:
            begun.touch()
            threading.Event().wait()
        finally:
            cleaned.touch()

    answer = submit(wait_for_ever)
    until(begun.exists, "it runs")
    until(answer.running, "its future knows")
    assert not answer.done()
    assert not answer.cancel()
    assert answer.state == "running"
    assert answer.terminate()
    with pytest.raises(concurrent.futures.CancelledError):
        answer.result(DEADLINE_S)
    assert answer.cancelled()
    assert cleaned.exists()
    assert answer.cancel()  # as concurrent.futures has it
    assert answer.terminate()


def test_cancelled_waiting_function_ends_at_once_and_its_dependents_are_skipped() -> None:
    first = submit(int, hold=True)
    second = submit(int, after=[first, first.job])
    assert not first.running()
    assert first.cancel()
    assert first.cancelled()
    with pytest.raises(JobError, match="skipped"):
        second.result(DEADLINE_S)


def test_timeout_of_a_held_job_names_the_release_command(
    launcher: Launcher, tmp_path: Path
) -> None:
    held = submit(int, hold=True)
    with pytest.raises(TimeoutError, match=f"is held. To release it: launcher release {held.job}"):
        held.result(timeout=0.01)
    assert held.state == "held"
    paused = submit(_waits_for, tmp_path / "gate")
    until(paused.running, "it runs")
    launcher.well("pause", str(paused.job))
    until(lambda: f"launcher resume {paused.job}" in _timeout_of(paused), "its future knows")
    launcher.well("resume", str(paused.job))
    until(lambda: "The job continues" in _timeout_of(paused), "its future knows")


def _waits_for(gate: Path) -> str:
    while not gate.exists():
        time.sleep(0.01)
    return "done"


def _timeout_of(answer: Future[str]) -> str:
    with pytest.raises(TimeoutError) as caught:
        answer.result(timeout=0.01)
    return str(caught.value)


def test_wait_functions_for_futures_accept_these_futures() -> None:
    numbers = submit_many(operator.neg, range(3))
    done, waiting = concurrent.futures.wait(numbers, timeout=DEADLINE_S)
    assert (len(done), len(waiting)) == (3, 0)
    completed = concurrent.futures.as_completed(numbers, timeout=DEADLINE_S)
    assert sorted(each.result() for each in completed) == [-2, -1, 0]

    async def awaited() -> int:
        return await asyncio.wrap_future(submit(abs, -7))

    assert asyncio.run(awaited()) == 7


def cube(x: float, data: object = None) -> float:
    return x**3


@pytest.mark.usefixtures("alone")
def test_calls_that_are_queued_again_replace_equal_ones(home: Home, store: Store) -> None:
    home.stop_record.write_text("{}")  # nothing starts

    def queue(*calls: tuple[object, ...], function: Any = cube, **options: Any) -> None:
        for answer in submit_many(function, *zip(*calls, strict=True), **options):
            finished(store, answer.job)

    first = submit(cube, 1).job  # a row of its own
    finished(store, first)
    queue((1, [7]), (2, [8]))
    queue((1, [7]), (2, [9]))
    queue((1, [7]), name="other")
    queue((1, [7]), kwargs={})
    for factor in (1, 2):  # two functions of one name with different values
        queue((1, 1), function=lambda x, _, factor=factor: x * factor)
        queue((1, 1), function=functools.partial(pow, mod=factor))
    assert newest_by_superseded(store.database.execute, store.read.jobs()) == {
        first + 1: first + 6,
        first + 3: first + 6,
    }


def test_pickles_are_private_to_their_owner(home: Home) -> None:
    answer = submit(lambda: 1)
    answer.result(DEADLINE_S)
    folder = home.attempt(answer.job, 1).folder
    files = [*(home.folder / "functions").iterdir(), folder / "value.pickle"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(file.parent.stat().st_mode) for file in files} == {0o700}


@pytest.mark.usefixtures("alone")
def test_worker_does_not_load_files_writable_by_others(home: Home, launcher: Launcher) -> None:
    answer = submit(lambda: 1, hold=True)
    (file,) = (home.folder / "functions").iterdir()
    file.chmod(0o666)
    launcher.well("release", str(answer.job))
    error = answer.exception(DEADLINE_S)
    assert error is not None
    assert "other users may write" in str(error)


def test_another_process_gets_the_future_of_a_job_by_its_number(home: Home) -> None:
    job = submit(lambda: {"n": 41}).job
    code = f"from launcher.api import future; print(future({job}).result(60)['n'] + 1)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert process.stdout == "42\n"
    with pytest.raises(UsageError, match="job 999 does not exist"):
        future(999)


def test_future_passed_to_a_function_is_the_future_there() -> None:
    first = submit(lambda: 20)
    second = submit(lambda before: before.result() + 1, first, after=[first])
    assert second.result(DEADLINE_S) == 21


@pytest.mark.usefixtures("alone")
def test_impossible_request_and_unknown_option_are_refused(store: Store) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "this machine can never run it": {"cpus": 99_999},
        r"kwargs=\{'lr': …\}": {"lr": 0.1},
        "group 'nights' does not exist": {"group": "nights"},
        "job 12 does not exist": {"after": 12},
        "after: expected futures, runs or job numbers, got 'x'": {"after": "x"},
        "name: .* is not valid UTF-8": {"name": "a\udcff"},
    }
    for said, options in wrong.items():
        with pytest.raises(UsageError, match=said):
            submit(int, **options)
    assert store.read.jobs() == []


@pytest.mark.usefixtures("alone")
def test_function_that_requests_a_gpu_on_a_machine_without_one_warns(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    home.stop_record.write_text("{}")  # no scheduler polls the GPUs
    submit(int, hold=True)
    assert "GPU" not in capfd.readouterr().err
    submit_many(int, ["1", "2"], gpus=1, hold=True)
    warning = capfd.readouterr().err
    assert "warning: no GPU is visible on this machine: " in warning
    assert "2 jobs wait for a GPU. Remove gpus, vram, exclusive and device" in warning


@pytest.mark.usefixtures("alone")
def test_cleaning_a_job_deletes_its_call_unless_another_job_needs_it(
    home: Home, store: Store, launcher: Launcher
) -> None:
    home.stop_record.write_text("{}")  # nothing starts
    first, second = submit_many(abs, [-1, -2])
    for answer in (first, second):
        finished(store, answer.job)
    launcher.well("clean", str(first.job), "--yes")
    assert len([*(home.folder / "functions").iterdir()]) == 1
    launcher.well("clean", str(second.job), "--yes")
    assert [*(home.folder / "functions").iterdir()] == []
    concurrent.futures.wait(
        [first, second], DEADLINE_S
    )  # also if its end was deleted before it was read


def test_callback_may_submit_and_wait_for_the_next_function() -> None:
    values: list[int] = []

    def go_on(before: concurrent.futures.Future[int]) -> None:
        values.append(submit(abs, -before.result() - 1).result(DEADLINE_S))

    submit(abs, -1).add_done_callback(go_on)
    until(lambda: values == [2], "the second one is done")


def test_fork_waits_for_futures_of_its_parent_and_of_its_own(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom launcher.api import submit\n"
        "def look(path):\n    import time\n    while not os.path.exists(path):\n        time.sleep(0.02)\n    return 7\n"
        "held, answer = submit(int, hold=True), submit(look, sys.argv[1])\n"
        "if os.fork() == 0:\n    open(sys.argv[1], 'w').close()\n"
        "    os._exit(answer.result(100) + submit(int, '2').result(100))\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]), held.done())\n"
    )
    argv = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "go")]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100)
    assert ended.stdout == "9 False\n"


def test_types_are_known_where_mypy_reads_a_script() -> None:
    def half(x: int) -> float:
        return x / 2

    single = submit(half, 1, hold=True, time_limit="1h")
    many = submit_many(half, [1, 2], hold=True, cpus=1)
    assert_type(single, Future[float])
    assert_type(many, list[Future[float]])
    if single.done():
        assert_type(single.result(), float)


def test_future_outlives_the_scheduler_of_its_job(
    queue: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.queue.store.feed.CHECK_EVERY_S", 0.1)
    gate = tmp_path / "gate"
    answer = submit(_waits_for, gate)
    until(answer.running, "it runs")
    pid = scheduler_pid(queue)
    assert pid
    os.kill(pid, signal.SIGKILL)
    gate.touch()
    assert answer.result(DEADLINE_S) == "done"
    assert scheduler_pid(queue) != pid


def test_editing_a_function_is_refused_with_a_reason(launcher: Launcher) -> None:
    held = submit(int, hold=True)
    assert "calls a Python function" in launcher.refused("edit", str(held.job))
