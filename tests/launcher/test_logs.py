import io
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.paths import Home
from launcher.records import write_json
from launcher.states import Done
from launcher.store.store import Store
from launcher.tails import MOST_BYTES, tail_offset
from tests.build import (
    a_spec,
    an_attempt,
    claimed,
    enqueue,
    shell,
)
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND, in_a_terminal


def with_a_log(home: Home, store: Store, log: bytes, name: str = "command/1") -> int:
    """A job that is done and left a log."""
    (job,) = enqueue(store, a_spec(name=name))
    attempt = an_attempt(home, a_spec(name=name), job=job)
    store.scheduling.finish(claimed(store, job), Done(at=2.0), outputs={}, now=2.0)
    attempt.log.write_bytes(log)
    return job


@pytest.mark.parametrize(
    "log", [b"", b"one\n\ttwo\\three \xc3\xbc\r\nno end", b"\x1b[31mred\x00\xff\xfe\r1 %\r2 %\n"]
)
def test_a_pipe_gets_every_byte_as_the_program_wrote_it(
    home: Home, store: Store, log: bytes
) -> None:
    with_a_log(home, store, log)
    for words in (("logs", "1"), ("logs", "1", "-n", "9")):
        assert subprocess.check_output([*COMMAND, *words]) == log


def test_a_terminal_gets_no_control_characters(home: Home, store: Store) -> None:
    with_a_log(
        home, store, "one\n\ttwo ü\r\n\x1b[31mred\x07\x9b\n10 %\r20 %\n".encode() + b"\xff\n"
    )
    drawn = in_a_terminal("logs", "1")
    assert drawn == "one\n\ttwo ü\n\\x1b[31mred\\x07\\x9b\n10 %\n20 %\n\ufffd\n"


def test_a_character_may_lie_where_two_readings_meet(
    launcher: Launcher, home: Home, store: Store
) -> None:
    text = "x" + "ü" * 70_000 + "\n"
    with_a_log(home, store, text.encode())
    assert "\ufffd" not in in_a_terminal("logs", "1")
    assert launcher("logs", "1").out == text


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines_of_a_long_log_are_found_from_its_end(
    launcher: Launcher, home: Home, store: Store, end: str
) -> None:
    lines = [f"line {number} {'x' * 90}" for number in range(5000)]
    with_a_log(home, store, ("\n".join(lines) + end).encode())
    assert launcher("logs", "1", "-n", "3").out == "\n".join(lines[-3:]) + end
    assert launcher("logs", "1", "-n", "9999").out == "\n".join(lines) + end


def test_a_job_that_has_not_run_has_no_log(launcher: Launcher, home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    answer = launcher("logs", "1")
    assert answer.code == 2
    assert "command/1 has not run yet: new" in answer.err
    with_a_log(home, store, b"", name="command/2")
    assert "has 1 attempt, and you ask for number 7" in launcher("logs", "2", "--attempt", "7").err
    home.attempt(2, 1).log.unlink()
    assert "there is no log at" in launcher("logs", "2").err
    assert "there is no log at" in launcher("logs", "2", "-f").err


def test_following_a_log_ends_with_its_job(launcher: Launcher, tmp_path: Path) -> None:
    script = 'echo one; until [ -e "$1" ]; do sleep 0.01; done; echo two'
    launcher("add", "--", *shell(script, str(tmp_path / "flag")))
    follower = subprocess.Popen([*COMMAND, "logs", "1", "-f"], stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    with follower:
        assert follower.stdout.readline() == "one\n"
        (tmp_path / "flag").touch()
        assert follower.stdout.read() == "two\n"
    assert follower.returncode == 0


def test_a_reader_who_has_seen_enough_is_no_error(home: Home, store: Store) -> None:
    with_a_log(home, store, b"line\n" * 100_000)
    client = subprocess.Popen(
        [*COMMAND, "logs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    assert client.stderr is not None
    with client:
        assert client.stdout.readline() == "line\n"
        client.stdout.close()
        assert client.stderr.read() == ""
    assert client.returncode == 141


@pytest.mark.parametrize("lines", [1, 1000])
def test_the_end_of_a_huge_log_without_lines_is_found_without_reading_it(
    home: Home, store: Store, lines: int
) -> None:
    job = with_a_log(home, store, b"")
    log = home.attempt(job, 1).log
    with log.open("wb") as file:
        file.truncate(10 << 30)  # nothing is on the disk: all of it is a hole
    with BytesRead(log.open("rb", buffering=0)) as read:
        assert tail_offset(read, lines) == (10 << 30) - MOST_BYTES
    assert read.total <= MOST_BYTES


class BytesRead(io.BufferedReader):
    """A file that counts what is read of it."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self.total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


@settings(max_examples=100, deadline=None)
@given(log=st.lists(st.sampled_from([b"\n", b"a", b"b\n", b"x" * 70_000])), lines=st.integers(1, 9))
def test_the_last_lines_are_those_that_splitting_gives(log: list[bytes], lines: int) -> None:
    whole = b"".join(log)
    tail = whole[tail_offset(io.BytesIO(whole), lines) :]
    assert tail == b"".join(whole.splitlines(keepends=True)[-lines:])


def test_logs_for_machines_are_one_object(launcher: Launcher, home: Home, store: Store) -> None:
    job = with_a_log(home, store, b"one\ntwo \xff\x1b\n")
    record = json.loads(launcher("logs", "1", "--json", "-n", "1").out)
    assert record == {
        "schema": 1,
        "job": job,
        "name": "command/1",
        "attempt": 1,
        "path": str(home.attempt(job, 1).log),
        "bytes": 11,
        "text": "two \ufffd\x1b\n",
    }
    assert json.loads(launcher("logs", "1", "--json").out)["text"].startswith("one\n")
    answer = launcher("logs", "1", "--json", "-f")
    assert answer.code == 2
    assert "cannot follow" in answer.err


def test_following_waits_for_a_job_that_has_not_started(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--hold", "--", "echo", "here")
    follower = subprocess.Popen(
        [*COMMAND, "logs", "1", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stderr is not None
    with follower:
        said = follower.stderr.readline()
        assert said == "command/1 has not run yet: held by its owner\n"
        launcher("release", "1")
        assert follower.stdout.read() == "here\n"
    assert follower.returncode == 0


def test_following_a_job_that_never_starts_ends_with_it(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--hold", "--", "true")
    follower = subprocess.Popen([*COMMAND, "logs", "1", "-f"], stderr=subprocess.PIPE, text=True)
    assert follower.stderr is not None
    with follower:
        follower.stderr.readline()
        launcher("cancel", "1")
        assert "has not run yet: cancelled by its owner" in follower.stderr.read()
    assert follower.returncode == 2


def test_following_goes_on_with_a_retry(launcher: Launcher, tmp_path: Path) -> None:
    script = 'echo try; [ -e "$1" ] || { touch "$1"; exit 1; }; echo done'
    launcher(
        "add",
        "--retries",
        "1",
        "--backoff",
        "0s",
        "--hold",
        "--",
        *shell(script, str(tmp_path / "flag")),
    )
    follower = subprocess.Popen(
        [*COMMAND, "logs", "1", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stderr is not None
    with follower:
        follower.stderr.readline()
        launcher("release", "1")
        assert follower.stdout.read() == "try\ntry\ndone\n"
    assert follower.returncode == 0


def test_following_in_a_stopped_queue_says_so(launcher: Launcher, home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    write_json(home.stop, {"schema": 1, "now": False, "at": 0.0})
    answer = launcher("logs", "1", "-f")
    assert answer.code == 3
    assert "the queue is stopped" in answer.err
