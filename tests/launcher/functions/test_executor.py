"""`launcher.api.Executor`: calls as jobs, a limit of calls that run, the end of the process, the tests of CPython."""

import asyncio
import concurrent.futures
import operator
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from launcher.api import Executor, JobError, UsageError, future
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from tests.build import DEADLINE_S, until
from tests.shortened import VARIABLE, shorten

CHECKS = ("queue.store.executors", "queue.scheduler.loop")
pytestmark = pytest.mark.usefixtures("checked_soon", "one_queue", "queue")


@pytest.fixture(autouse=True)
def checked_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a scheduler that starts in this file see within 0.2 s that a process has died."""
    environment: dict[str, str] = {}
    shorten(environment, {f"launcher.{name}.CHECK_S": 0.2 for name in CHECKS})
    monkeypatch.setenv(VARIABLE, environment[VARIABLE])


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file for which calls of `at_gate` wait; it appears in the end."""
    path = tmp_path / "open"
    yield path
    path.touch()


def at_gate(gate: Path, value: int = 0) -> int:
    while not gate.exists():
        time.sleep(0.01)
    return value


def traces(store: Store) -> list[Any]:
    """Return what the queue has of executors."""
    questions = (
        "SELECT name FROM groups WHERE name GLOB 'executor/*'",
        "SELECT key FROM lanes WHERE key GLOB '*executor/*'",
        'SELECT id FROM jobs WHERE spec GLOB \'*"group": "executor/*\' AND ended IS NOT NULL',
    )
    found: list[Any] = [row for sql in questions for row in store.database.execute(sql)]
    folder = store.home.executors
    return [*found, *(folder.iterdir() if folder.exists() else ())]


def test_executor_calls_functions_in_the_order_of_their_arguments(store: Store) -> None:
    with Executor(cpus=1, run="study", note="first") as executor:
        assert [*executor.map(pow, [2, 3, 4], [5, 2, 1])] == [32, 9, 4]
        assert [*executor.map(pow, [2, 3, 4], [5, 2, 1], chunksize=2)] == [32, 9, 4]
        assert [*executor.map(str.upper, "a")] == ["A"]
        answer = executor.submit(int, "12", base=8)
    assert answer.result() == 10
    jobs = store.read.jobs()
    assert len(jobs) == 7
    assert {(job.run, job.owner_note, job.state) for job in jobs} == {("study", "first", "done")}
    assert traces(store) == []


def test_no_more_calls_run_at_once_than_workers(store: Store, gate: Path) -> None:
    executor = Executor(max_workers=1, cpus=1)
    answers = [executor.submit(at_gate, gate, n) for n in range(3)]
    until(lambda: answers[0].running(), "the first call runs")
    counts = [row[0] for row in store.database.execute("SELECT slots FROM groups")]
    assert (counts, [answer.running() for answer in answers[1:]]) == ([1], [False, False])
    gate.touch()
    executor.shutdown()
    assert [answer.result() for answer in answers] == [0, 1, 2]
    assert traces(store) == []
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_shutdown_cancels_calls_that_have_not_started(store: Store, gate: Path) -> None:
    executor = Executor(max_workers=1, cpus=1)
    answers = [executor.submit(at_gate, gate, 7) for _ in range(3)]
    until(lambda: answers[0].running(), "the first call runs")
    executor.shutdown(wait=False, cancel_futures=True)
    assert [answer.cancelled() for answer in answers] == [False, True, True]
    gate.touch()
    assert answers[0].result(DEADLINE_S) == 7
    until(lambda: traces(store) == [], "the scheduler has removed the limit")


def leave_the_loop(executor: Executor, calls: list[Any]) -> None:
    values = executor.map(operator.call, calls)
    assert next(values) == 1
    calls[1].wait_until_it_runs()
    values.close()  # type: ignore[attr-defined]  # a generator


def let_a_call_fail(executor: Executor, calls: list[Any]) -> None:
    values = executor.map(operator.call, [partial(operator.truediv, 1, 0), *calls[1:]])
    calls[1].wait_until_it_runs()
    with pytest.raises(ZeroDivisionError):
        next(values)


def reach_the_timeout(executor: Executor, calls: list[Any]) -> None:
    values = executor.map(operator.call, calls, timeout=0.0)
    calls[1].wait_until_it_runs()
    assert next(values) == 1
    with pytest.raises(TimeoutError):
        next(values)


def cancel_what_is_awaited(executor: Executor, calls: list[Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, *left = [loop.run_in_executor(executor, call) for call in calls]
        assert await first == 1
        await asyncio.to_thread(calls[1].wait_until_it_runs)
        for each in left:
            each.cancel()
        assert await asyncio.gather(*left, return_exceptions=True)

    asyncio.run(main())


def interrupt_the_block(executor: Executor, calls: list[Any]) -> None:
    def block() -> None:
        with executor:
            futures = [executor.submit(call) for call in calls]
            calls[1].wait_until_it_runs()
            assert not futures[1].cancel()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()


def interrupt_the_end_of_the_block(executor: Executor, calls: list[Any]) -> None:
    def block() -> None:
        with executor:
            for call in calls:
                executor.submit(call)
            calls[1].wait_until_it_runs()
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        block()


class CallAtGate(NamedTuple):
    """A call that creates a file and waits for another one."""

    begun: Path
    gate: Path

    def __call__(self) -> int:
        self.begun.touch()
        return at_gate(self.gate)

    def wait_until_it_runs(self) -> None:
        until(self.begun.exists, "the call runs")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "leave",
    [
        leave_the_loop,
        let_a_call_fail,
        reach_the_timeout,
        cancel_what_is_awaited,
        interrupt_the_block,
        interrupt_the_end_of_the_block,
    ],
)
def test_calls_that_wait_are_cancelled_and_running_ones_end_by_themselves(
    store: Store,
    gate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    leave: Callable[[Executor, list[Any]], None],
) -> None:
    executor = Executor(max_workers=1, cpus=1)
    leave(executor, [partial(int, "1"), *(CallAtGate(tmp_path / name, gate) for name in "ab")])
    gate.touch()
    executor.shutdown()
    until(lambda: not store.read.open_jobs(), "all calls have ended")
    first = "failed" if leave is let_a_call_fail else "done"
    assert [row.state for row in store.read.jobs()] == [first, "done", "cancelled"]
    interrupted = leave in (interrupt_the_block, interrupt_the_end_of_the_block)
    note = "note: 1 job continues. To cancel: launcher cancel 2\n"
    assert (note in capsys.readouterr().err) is interrupted


def test_interrupted_block_ends_running_calls_if_the_executor_says_so(gate: Path) -> None:
    executor = Executor(cpus=1, at_exit="cancel")
    answer = executor.submit(at_gate, gate)
    until(answer.running, "the call runs")
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    with pytest.raises(concurrent.futures.CancelledError):
        answer.result(DEADLINE_S)


PARENT = (
    "import sys, time",
    "from pathlib import Path",
    "from launcher.api import Executor",
    "def at_gate(path):",
    "    while not path.exists():",
    "        time.sleep(0.01)",
    "    return 7",
    "executor = Executor(max_workers=1, at_exit=sys.argv[2], cpus=1)",
    "answers = [executor.submit(at_gate, Path(sys.argv[1])) for _ in range(2)]",
    "print(*[answer.job for answer in answers], flush=True)",
    "time.sleep(100)",
)


@pytest.mark.parametrize("at_exit", ["continue", "cancel"])
def test_death_of_the_process_ends_its_calls_or_not(
    store: Store, gate: Path, home: Home, at_exit: str
) -> None:
    words = [sys.executable, "-c", "\n".join(PARENT), str(gate), at_exit]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        first, second = map(future, map(int, parent.stdout.readline().split()))
        until(lambda: first.running(), "the first call runs")
        parent.send_signal(signal.SIGKILL)
    if at_exit == "continue":
        gate.touch()
        assert [first.result(DEADLINE_S), second.result(DEADLINE_S)] == [7, 7]
    else:
        for each in (first, second):
            with pytest.raises(concurrent.futures.CancelledError):
                each.result(DEADLINE_S)
    until(lambda: traces(store) == [], "nothing of the executor remains in the queue")


def test_calls_that_fail_raise_in_their_turn() -> None:
    with Executor(cpus=1) as executor:
        answers = executor.map(lambda value: 1 // value, [1, 0])
        assert next(answers) == 1
        with pytest.raises(ZeroDivisionError):
            next(answers)
        killed = executor.submit(os.kill, 0, signal.SIGKILL)
        with pytest.raises(JobError, match="SIGKILL"):
            killed.result(DEADLINE_S)
        with pytest.raises(UsageError, match="argument 1 is of type"):
            executor.submit(print, sys.stdout)
        with pytest.raises(UsageError, match="a call of print cannot be pickled: argument 1 is of"):
            executor.map(print, [1, sys.stdout], chunksize=2)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"at_exit": "die"}, ValueError, "expected 'continue' or 'cancel', got 'die'"),
        ({"max_workers": "2"}, TypeError, "max_workers: expected a whole number, got '2'"),
        ({"max_worker": 2}, UsageError, "unknown option 'max_worker'.*'max_workers'"),
        ({"cpu": 1}, UsageError, "unknown option 'cpu'.*cpus"),
        ({"run": "a/b"}, UsageError, "run: 'a/b' contains '/'"),
        ({"max_workers": 1, "group": "night"}, UsageError, "max_workers cannot be combined with"),
    ],
)
def test_invalid_option_is_refused_before_a_call(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Executor(**options)


CPYTHON = """
import importlib.util, sys, time, unittest
from launcher.api import Executor

spec = importlib.util.spec_from_file_location("cpython_tests", sys.argv.pop(1))
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)

class OnTheQueue(tests.ExecutorMixin):
    executor_type = Executor

    def setUp(self):
        tests.BaseTestCase.setUp(self)
        self.t1 = time.monotonic()
        self.executor = Executor(max_workers=self.worker_count, cpus=1)

    def tearDown(self):
        self.executor.shutdown(wait=True)
        self.executor = None
        tests.BaseTestCase.tearDown(self)

class Executors(OnTheQueue, tests.ExecutorTest, tests.BaseTestCase): pass
class Waits(OnTheQueue, tests.WaitTests, tests.BaseTestCase): pass
class Completed(OnTheQueue, tests.AsCompletedTests, tests.BaseTestCase): pass

unittest.main()
"""
ONE_FILE = "test_concurrent_futures.py"  # a file of Python 3.11


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(["Executors.test_map_exception"], id="one"),
        pytest.param([], id="all", marks=pytest.mark.night),
    ],
)
def test_tests_of_cpython_for_executors_pass(tmp_path: Path, chosen: list[str]) -> None:
    folders = Path(sysconfig.get_path("stdlib")), Path("/usr/lib/python3.11")
    files = [file for folder in folders if (file := folder / "test" / ONE_FILE).exists()]
    if sys.version_info[:2] != (3, 11) or not files:
        pytest.skip("the tests of CPython 3.11 are not installed: libpython3.11-testsuite")
    (tmp_path / "executors.py").write_text(CPYTHON)
    words = [sys.executable, "executors.py", str(files[0]), *chosen]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "OK" in ended.stderr
