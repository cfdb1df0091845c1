"""Orders written ahead, the record of a start, the time that counts, and how a program ended."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from launcher.job import Terms
from launcher.states import Done, Failed, OutOfMemory, outcome_record, read_outcome
from launcher.system.files import write_json
from launcher.system.paths import Attempt, Home
from launcher.workers.exit_outcome import Circumstances, judge
from launcher.workers.order import OrderWriter, is_untouched
from launcher.workers.started_file import (
    outcome_line,
    record_outcome,
    recorded_outcome,
    restore,
    take_right,
)
from launcher.workers.supervisor import KILL_AGAIN_S, LOOK_S, Pause, RunningTime, Step

# --- orders that are written before their attempts are claimed


@pytest.fixture
def orders(home: Home) -> OrderWriter:
    """A writer that has written an order ahead."""
    orders = OrderWriter(home)
    orders.prepare(7, 1, "first\n")
    return orders


def test_an_order_that_was_written_ahead_is_not_written_again(
    home: Home, orders: OrderWriter
) -> None:
    spec = home.attempt(7, 1).spec
    before = spec.stat()
    assert orders.holds(7, 1)
    assert not orders.holds(7, 2)
    orders.write(7, 1, "first\n")
    assert (spec.stat().st_ino, spec.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not orders.holds(7, 1), "it is the attempt's now"


def test_an_order_for_another_place_replaces_the_one_that_was_written_ahead(
    home: Home, orders: OrderWriter
) -> None:
    orders.write(7, 1, "2nd\n")
    assert home.attempt(7, 1).spec.read_text() == "2nd\n"


def test_what_was_deleted_meanwhile_is_written_anew(home: Home, orders: OrderWriter) -> None:
    attempt = home.attempt(7, 1)
    shutil.rmtree(attempt.folder)
    assert not orders.holds(7, 1)
    orders.write(7, 1, "first\n")
    assert attempt.spec.read_text() == "first\n"


@pytest.mark.parametrize("number", [1, 2])
def test_the_folder_of_an_attempt_that_was_claimed_is_never_discarded(
    number: int, home: Home, orders: OrderWriter
) -> None:
    orders.write(7, number, "claimed\n")
    orders.discard()
    assert home.attempt(7, number).spec.exists()


def test_what_nobody_claimed_is_discarded_and_a_folder_in_which_anything_else_lies_stays(
    home: Home, orders: OrderWriter
) -> None:
    orders.discard()
    assert not home.attempt(7, 1).folder.exists()
    begun = orders.prepare(8, 1, "first\n")
    begun.started.touch()
    orders.discard()
    assert begun.spec.exists()


def test_a_log_lies_beside_an_order_that_is_written_ahead_and_stays_once_anything_is_in_it(
    home: Home, orders: OrderWriter
) -> None:
    attempt = home.attempt(7, 1)
    assert attempt.log.read_bytes() == b""
    assert is_untouched(attempt)
    attempt.log.write_text("a program's")
    assert not is_untouched(attempt)
    orders.discard()
    assert attempt.log.exists()


# --- the record of an attempt where no file can have two names


ORDER = b'{"schema": 1}\n'


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """An attempt on such a file system."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    attempt = Attempt(tmp_path / "1-1")
    attempt.folder.mkdir()
    attempt.spec.write_bytes(ORDER)
    return attempt


def test_without_links_the_right_to_start_is_given_once(attempt: Attempt) -> None:
    record = take_right(attempt)
    assert record is not None
    with open(record, "rb") as file:  # noqa: PTH123  # a descriptor
        assert file.read() == ORDER
    assert take_right(attempt) is None


def test_without_links_a_deleted_record_is_made_again(attempt: Attempt) -> None:
    shutil.rmtree(attempt.folder)
    restore(attempt, ORDER)
    record_outcome(attempt, outcome_line(Done(at=1.0)))
    assert recorded_outcome(attempt) == Done(at=1.0)
    assert attempt.spec.read_bytes() == ORDER


# --- running time


LIMITED = Terms(time_limit_s=100.0, warn_s=10.0, grace_s=5.0)


def test_a_program_is_warned_then_asked_to_end_then_killed_until_it_is_gone() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    due = [times.due(at, asked=False, paused=False) for at in (1089, 1090, 1091, 1100, 1104, 1105)]
    assert due == [None, Step.WARN, None, Step.END, None, Step.KILL]
    assert (times.over, times.stopped, times.insisted) == (True, False, True)
    assert times.next(paused=False) == 1105 + KILL_AGAIN_S


def test_who_asks_for_its_end_comes_before_its_limit() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    assert times.due(1010, asked=True, paused=False) is Step.END
    assert times.due(1011, asked=True, paused=False) is None
    assert times.next(paused=False) == 1015
    assert (times.over, times.stopped) == (False, True)


def test_what_its_limit_has_ended_is_not_asked_again() -> None:
    times = RunningTime.of(Terms(time_limit_s=1.0, grace_s=5.0), 0.0)
    assert times.due(1, asked=False, paused=False) is Step.END
    assert times.due(2, asked=True, paused=False) is None
    assert (times.over, times.stopped) == (True, False)


def test_a_program_whose_end_is_due_earlier_is_killed_then_and_never_later() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    times.kill_by(1001.0)  # it is not ending
    assert times.due(1010, asked=True, paused=False) is Step.END
    times.kill_by(2000.0)
    assert times.next(paused=False) == 1015
    times.kill_by(900.0)  # its node was frozen past its grace
    assert times.due(1010, asked=True, paused=False) is Step.KILL
    times.kill_by(900.0)
    assert times.next(paused=False) == 1010 + KILL_AGAIN_S


def test_a_pause_moves_what_is_still_to_come() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    assert times.due(1095, asked=False, paused=True) is None
    assert times.next(paused=True) is None
    times.move(50.0)
    assert (times.warn, times.limit) == (1140, 1150)
    assert RunningTime.of(Terms(), 0.0).next(paused=False) is None


def test_a_program_without_processes_is_paused_as_long_as_its_folder_says(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    pause = Pause(attempt, list)
    assert (pause.look(1.0), pause.lasts) == (0.0, False)
    attempt.paused.touch()
    assert (pause.look(2.0), pause.lasts) == (0.0, True)
    assert (pause.look(3.0), pause.again_at) == (0.0, 3.0 + LOOK_S)  # asked twice
    assert [pause.due(at) for at in (3.0, 3.0 + LOOK_S)] == [False, True]
    attempt.paused.unlink()
    assert (pause.look(7.0), pause.lasts) == (5.0, False)
    assert pause.end(9.0) == 0.0


# --- how a program ended, from its exit status, its own word and its log: the exception that it tells of


EXIT_1 = 1 << 8


@pytest.mark.parametrize(
    ("last", "exception"),
    [
        ("FileNotFoundError: [Errno 2] No such file", "FileNotFoundError: [Errno 2] No such file"),
        ("yaml.constructor.ConstructorError: no tag", "ConstructorError: no tag"),
        ("line 7: yaml.constructor.ConstructorError: no tag", "line 7: ConstructorError: no tag"),
        ("KeyError", "KeyError"),
        ("KeyErrors: 7", ""),
        ("all is well", ""),
        ("", ""),
    ],
)
def test_an_exception_in_a_programs_last_line_is_told_without_its_module(
    tmp_path: Path, last: str, exception: str
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(f"begun\n{last}\n" if last else "")
    outcome = judge(EXIT_1, attempt, Circumstances(), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.exception == exception
    assert outcome.error == f"ended with exit code 1: {last}" if last else "ended with exit code 1"
    assert read_outcome(outcome_record(outcome)) == outcome


def test_a_worker_that_lacked_memory_tells_its_exception_and_what_it_used(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    error, shortage = "MemoryError: no room", {"where": "ram"}
    write_json(attempt.result, {"schema": 1, "ok": False, "error": error, "shortage": {**shortage}})
    outcome = judge(EXIT_1, attempt, Circumstances(max_rss=1 << 30), 5.0)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.exception == outcome.error == "MemoryError: no room (used 1 GiB of main memory)"
    assert read_outcome(outcome_record(outcome)) == outcome


def test_a_program_that_reached_its_time_limit_has_that_on_record(tmp_path: Path) -> None:
    outcome = judge(EXIT_1, Attempt(tmp_path), Circumstances(over_limit_s=3.0), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.over_limit
    assert read_outcome(outcome_record(outcome)) == outcome
