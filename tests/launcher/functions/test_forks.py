"""Functions that fork: what the fork does is not what the job came to."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from launcher.api import JobError, submit
from launcher.system.paths import Home
from tests.build import DEADLINE_S, until

pytestmark = pytest.mark.usefixtures("one_queue", "queue")


def test_a_fork_that_is_left_behind_dies_and_the_value_of_its_parent_stays() -> None:
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


def test_a_fork_that_returns_ends_there_and_its_parent_returns_the_value(home: Home) -> None:
    def returns_twice() -> tuple[str, int]:
        pid = os.fork()
        if pid == 0:
            sys.stdout.write("of the fork")  # no line: it must be flushed
            return "fork", 0
        return "parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    answer = submit(returns_twice)
    assert answer.result(DEADLINE_S) == ("parent", 0)
    assert answer.log() == "of the fork"


def test_a_fork_that_raises_tells_its_log_and_its_parent_returns_the_value() -> None:
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


def test_a_fork_whose_parent_raises_does_not_change_what_was_raised() -> None:
    def raises() -> None:
        if os.fork() == 0:
            time.sleep(300)
        raise KeyError("parent")

    with pytest.raises(KeyError, match="parent"):
        submit(raises).result(DEADLINE_S)


def test_the_forks_of_multiprocessing_end_as_they_do_elsewhere() -> None:
    def pooled() -> tuple[list[int], list[int | None]]:
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            values = pool.map(abs, [-1, -2, -3])
        sleeper = context.Process(target=time.sleep, args=(300,))
        leaver = context.Process(target=sys.exit, args=(4,))
        sleeper.start()
        leaver.start()
        sleeper.terminate()
        sleeper.join()
        leaver.join()
        return values, [sleeper.exitcode, leaver.exitcode]

    assert submit(pooled).result(DEADLINE_S) == ([1, 2, 3], [-signal.SIGTERM, 4])


def test_a_fork_dies_of_a_signal_that_comes_at_once() -> None:
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


def test_a_function_with_forks_is_interrupted_at_its_time_limit(tmp_path: Path) -> None:
    cleaned, forks = tmp_path / "cleaned", tmp_path / "fork"

    def waits() -> None:
        pid = os.fork()
        if pid:
            forks.write_text(str(pid), encoding="utf-8")
        try:
            time.sleep(300)
        finally:
            cleaned.write_text("parent" if pid else "fork", encoding="utf-8")

    answer = submit(waits, time_limit=1.0)
    with pytest.raises(JobError, match="reached its time limit"):
        answer.result(DEADLINE_S)
    assert cleaned.read_text(encoding="utf-8") == "parent"
    until(lambda: not Path("/proc", forks.read_text(encoding="utf-8")).exists(), "the fork is gone")
