"""The size limit of logs: real programs that print too much, on a file system with holes and on one without."""

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, State
from launcher.queue.store.queue import Store
from launcher.queue.workers import log_limit
from launcher.queue.workers.log_limit import LogLimit, head_bytes, offset_after_move
from launcher.queue.workers.progress.attempt_progress import read_last_metrics, start_time
from launcher.system.files import LOG_RESERVE_BYTES
from launcher.system.process_trees import send_signal
from tests.build import (
    a_spec,
    an_attempt,
    enqueue,
    finished,
    in_state,
    shell,
    supervisor_of,
    until,
)
from tests.launcher.conftest import Launcher
from tests.launcher.queued import serve
from tests.shortened import QUICK_KILLS, shortened
from tests.terminal import COMMAND

LIMIT = 1 << 20
NOTE = re.compile(
    rb"\n\[launcher left out ([0-9,]+) bytes here: log_limit of config.toml is 1 MiB\] *\n"
)


QUICK_CHECKS = {
    "launcher.queue.workers.log_limit.FIRST_S": 0.2,
    "launcher.queue.workers.log_limit.BUSY_S": 0.1,
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """The length of a log is looked at more often, and a killed supervisor is missed sooner."""
    with shortened(QUICK_CHECKS | QUICK_KILLS):
        yield


@pytest.fixture
def limited(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A queue whose logs have at most a MiB."""
    config = tmp_path / "config.toml"
    config.write_text('log_limit = "1MiB"\n')
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    return home


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %09d\n" % number for number in range(first, last))


def used_bytes(log: Path) -> int:
    """Return the bytes that a log takes on the disk, with its reserve."""
    return log.stat().st_blocks * 512


MOST_BYTES = LIMIT + LOG_RESERVE_BYTES + log_limit.BLOCK_BYTES


def test_long_log_keeps_its_first_and_last_part_and_says_what_is_missing(
    limited: Home, store: Store
) -> None:
    script = 'import sys\nfor n in range(600_000): sys.stdout.write(f"line {n:09}\\n")'
    (job,) = enqueue(store, a_spec("python3", "-c", script))
    serve(limited)
    until(lambda: in_state(store, job, State.DONE), "the job is done")
    text = limited.attempt(job, 1).log.read_bytes()
    whole = lines(0, 600_000)
    note = NOTE.search(text)
    assert note is not None
    left_out = int(note[1].replace(b",", b""))
    assert whole.startswith(text[: note.start()])
    assert whole.endswith(text[note.end() :])
    assert len(text) - len(note[0]) + left_out == len(whole)
    assert LIMIT - 2 * log_limit.BLOCK_BYTES < len(text) <= LIMIT + log_limit.BLOCK_BYTES


def test_running_program_neither_fills_the_disk_nor_is_blocked(
    limited: Home, store: Store, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    script = (
        f"head -c 300M /dev/zero | tr '\\0' x\nuntil [ -e {flag} ]\ndo sleep 0.05\ndone\necho end"
    )
    (job,) = enqueue(store, a_spec(*shell(script)))
    serve(limited)
    log = limited.attempt(job, 1).log
    until(lambda: log.exists() and log.stat().st_size == 300 << 20, "all was printed")
    until(lambda: used_bytes(log) <= MOST_BYTES, "the middle was freed")
    printed = subprocess.check_output([*COMMAND, "logs", str(job), "--raw"])
    assert b"\0" not in printed
    assert NOTE.search(printed)
    assert len(printed) <= LIMIT + log_limit.BLOCK_BYTES
    flag.touch()
    until(lambda: in_state(store, job, State.DONE), "the job is done")
    assert log.read_bytes().endswith(b"xend\n")
    assert log.stat().st_size <= LIMIT + log_limit.BLOCK_BYTES


def test_follower_prints_the_end_of_a_long_log_once(
    limited: Home, store: Store, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    script = f"seq 100000 700000\nuntil [ -e {flag} ]\ndo sleep 0.05\ndone\necho the end"
    (job,) = enqueue(store, a_spec(*shell(script)))
    serve(limited)
    log = limited.attempt(job, 1).log
    until(lambda: in_state(store, job, State.RUNNING) and log.exists(), "it runs")
    command = [*COMMAND, "logs", str(job), "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as follower:
        until(lambda: log.stat().st_size == 7 * 600_001, "all was printed")
        until(lambda: used_bytes(log) <= MOST_BYTES, "the middle was freed")
        time.sleep(0.5)  # the follower has read what is there
        flag.touch()
        printed = follower.communicate()[0]
    assert printed.endswith(b"\n700000\nthe end\n")
    assert printed.count(b"the end") == printed.count(b"\n700000\n") == 1
    numbers = [int(word) for word in re.findall(rb"^[0-9]{6}$", printed, re.MULTILINE)]
    assert numbers == sorted(set(numbers))  # nothing is printed twice


def test_log_of_a_killed_supervisor_is_readable(
    limited: Home, store: Store, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    script = (
        "seq 100000 500000\necho launcher: acc=0.9\nseq 500001 700000\n"
        f"until [ -e {flag} ]\ndo sleep 0.05\ndone\necho loss=0.5"
    )
    (job,) = enqueue(store, a_spec(*shell(script)))
    serve(limited)
    attempt = limited.attempt(job, 1)
    size = 7 * 600_001 + len("launcher: acc=0.9\n")
    until(lambda: attempt.log.exists() and attempt.log.stat().st_size == size, "all")
    until(lambda: used_bytes(attempt.log) <= MOST_BYTES, "the hole")
    send_signal(supervisor_of(attempt), signal.SIGKILL)
    flag.touch()
    until(lambda: in_state(store, job, State.DONE), "the job is done")
    assert store.read.result_of(job) == {"acc": 0.9}
    printed = subprocess.check_output([*COMMAND, "logs", str(job), "--raw"])
    assert b"\0" not in printed
    assert printed.endswith(b"\n700000\nloss=0.5\n")


def grown(log: Path, kept: LogLimit, pieces: list[bytes]) -> None:
    """Append pieces to a log; it is checked after each."""
    for number, piece in enumerate(pieces):
        with log.open("ab") as file:
            file.write(piece)
        kept.check(100.0 * (number + 1))
    kept.finish()


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_no_byte_is_lost_that_is_not_counted(
    home: Home, monkeypatch: pytest.MonkeyPatch, pieces: int, *, holes: bool
) -> None:
    if not holes:

        def refuse(*_: int) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(log_limit, "punch_hole", refuse)
    attempt = an_attempt(home, a_spec())
    reports = (b"launcher: early=1 middle=2\n", b"launcher: middle=3\n", b"launcher: late=2\n")
    whole = b"".join(
        lines(begin, begin + 100_000) + report
        for begin, report in zip(range(0, 300_000, 100_000), reports, strict=True)
    )
    whole += lines(300_000, 400_000)
    size = -(-len(whole) // pieces)
    attempt.log.touch()
    before = start_time(attempt)
    grown(
        attempt.log,
        LogLimit(attempt.log, LIMIT, 0.0),
        [whole[at : at + size] for at in range(0, len(whole), size)],
    )
    text = attempt.log.read_bytes()
    note = NOTE.search(text)
    assert note is not None
    assert whole.startswith(text[: note.start()])
    assert whole.endswith(text[note.end() :])
    left_out = int(note[1].replace(b",", b""))
    assert len(text) - len(note[0]) + left_out == len(whole)
    assert len(text) <= LIMIT * 5 // 4 + log_limit.BLOCK_BYTES
    assert read_last_metrics(attempt) == {"early": 1.0, "late": 2.0, "middle": 3.0}
    assert start_time(attempt) == before


def test_short_log_and_log_without_a_limit_are_left_alone(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    for limit, size in ((LIMIT, LIMIT), (0, 4 * LIMIT)):
        attempt.log.write_bytes(b"x" * size)
        kept = LogLimit(attempt.log, limit, 0.0)
        kept.check(100.0)
        kept.finish()
        assert attempt.log.read_bytes() == b"x" * size


def test_deleted_log_is_no_error(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    kept = LogLimit(attempt.log, LIMIT, 0.0)
    kept.check(100.0)
    kept.finish()
    assert not attempt.log.exists()


def test_log_that_its_program_has_cut_is_read_from_its_beginning(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.log.write_bytes(b"new\n")
    assert offset_after_move(attempt.log, 1000, 0) == (0, 0)
    os.truncate(attempt.log, head_bytes(1 << 30))
    assert offset_after_move(attempt.log, 1000, 0) == (0, 0)


def test_last_lines_of_a_shortened_log_are_printed(
    launcher: Launcher, home: Home, store: Store
) -> None:
    (job,) = enqueue(store, a_spec())
    attempt = an_attempt(home, a_spec(), job=job)
    finished(store, job, Done(at=2.0))
    attempt.log.write_bytes(lines(0, 400_000))
    kept = LogLimit(attempt.log, LIMIT, 0.0)
    kept.check(100.0)
    assert launcher.well("logs", str(job), "-n", "1").out == "line 000399999\n"
    # more lines than the last part has: the hole is skipped
    record = launcher.json("logs", str(job), "-n", "100000")
    assert "\0" not in record["text"]
    assert record["text"].startswith("line 000000000\n")
    assert record["text"].endswith("line 000399999\n")
