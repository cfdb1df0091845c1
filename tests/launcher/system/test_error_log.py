"""Errors that a scheduler survives, and their limited number of log lines."""

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import restart_scheduler, scheduler_pid, wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.loop import Scheduler
from launcher.queue.store.queue import Store
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.system.error_log import ErrorThrottle
from tests.build import Clock, a_spec, enqueue, reaches, shell, until
from tests.shortened import shortened

UNTIL = 'until [ -e "$1" ]; do sleep 0.01; done'


def running(home: Home, store: Store) -> int:
    """Have a job run that ends when its home has a file `gate`."""
    (job,) = enqueue(store, a_spec(*shell(UNTIL, str(home.folder / "gate"))))
    ensure_scheduler(home)
    wake(home)
    reaches(store, job, State.RUNNING)
    return job


def woken(home: Home) -> bool:
    """Wake the scheduler while something is waited for."""
    wake(home)
    return True


def log_of(home: Home) -> str:
    return home.scheduler_log.read_text()


def test_failed_lock_creation_stops_nothing(home: Home, store: Store) -> None:
    job = running(home, store)
    home.scheduler_lock.unlink()
    home.scheduler_lock.mkdir()
    (home.folder / "gate").touch()
    reaches(store, job, State.DONE)
    (later,) = enqueue(store, "command/2")
    wake(home)
    reaches(store, later, State.DONE)
    assert log_of(home).count("trouble=") == 1
    home.scheduler_lock.rmdir()
    until(lambda: woken(home) and scheduler_pid(home) is not None, "it locks a new file")


def test_scheduler_with_failing_turns_neither_spins_nor_floods_its_log(
    home: Home, store: Store
) -> None:
    with shortened({"launcher.queue.scheduler.loop.RETRY_S": 0.2}):
        job = running(home, store)
    home.stop_record.mkdir()  # requests of people cannot be read
    until(lambda: woken(home) and "trouble=" in log_of(home), "it is in trouble")
    (home.folder / "gate").touch()
    until(lambda: read_recorded_outcome(home.attempt(job, 1)), "the program has ended")
    time.sleep(0.5)  # several turns
    assert log_of(home).count("trouble=") == 1
    home.stop_record.rmdir()
    reaches(store, job, State.DONE)


def test_unexpected_error_does_not_end_the_scheduler(
    home: Home, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def housekeeping() -> None:
        looks.append(time.monotonic())
        if len(looks) == 1:
            raise TypeError("a fault of ours")
        scheduler.leave()

    scheduler = Scheduler(home, store, snapshot=tuple, cpus=1, housekeeping=housekeeping)
    scheduler.run()
    assert len(looks) == 2
    (told,) = [one for one in caplog.records if "a fault of ours" in one.getMessage()]
    assert told.exc_info, "it is told where it arose"


def test_persistent_error_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    troubles = ErrorThrottle(clock)
    caplog.set_level(logging.WARNING)
    for number in range(3):  # errors of one kind, in other words each time
        troubles.log_error(OSError(28, "No space left on device", f"/home/.{number}.tmp"))
    troubles.log_error(OSError(13, "Permission denied"))
    troubles.log_error(sqlite3.OperationalError("disk I/O error"))
    assert len(caplog.records) == 3
    clock.now += 61
    troubles.log_error(OSError(28, "No space left on device", "/home/.9.tmp"))
    assert len(caplog.records) == 4
    assert not any(record.exc_info for record in caplog.records)
    troubles.log_error(TypeError("a fault"))
    assert caplog.records[-1].exc_info


def test_home_replaced_by_a_file_does_not_end_the_helper(home: Home) -> None:
    home.folder.rename(home.folder.with_name("away"))
    home.folder.touch()
    restart_scheduler(home)
    home.folder.unlink()


WRITING = """
import sys
from pathlib import Path
from launcher.system.error_log import rotate_long_log
print("before", flush=True)
rotate_long_log(Path(sys.argv[1]), 10)
print("after", flush=True)
print("an error", file=sys.stderr, flush=True)
"""


def written(log: Path) -> str:
    """Have a process write to a log that it sets aside where it has more than 10 bytes."""
    with log.open("ab") as file:
        words = [sys.executable, "-c", WRITING, str(log)]
        subprocess.run(words, stdout=file, stderr=file, check=True)
    return log.read_text()


def test_long_log_is_rotated_and_the_process_writes_to_a_new_one(tmp_path: Path) -> None:
    log, older = tmp_path / "notify.log", tmp_path / "notify.log.1"
    assert written(log) == "before\nafter\nan error\n"
    assert written(log) == "after\nan error\n"
    assert older.read_text() == "before\nafter\nan error\nbefore\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    written(log)
    assert older.read_text() == "after\nan error\nbefore\n"
    assert sorted(tmp_path.iterdir()) == [log, older]


def test_log_that_cannot_be_rotated_is_continued(tmp_path: Path) -> None:
    log = tmp_path / "notify.log"
    log.write_text("a line before\n")
    (tmp_path / "notify.log.1").mkdir()
    assert written(log) == "a line before\nbefore\nafter\nan error\n"
    assert {file.name for file in tmp_path.iterdir()} == {"notify.log", "notify.log.1"}


def test_log_is_continued_on_a_disk_without_free_inodes(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        log = place / "notify.log"
        log.write_text("a line before\n")
        with pytest.raises(OSError, match="No space left"):
            (place / "another").touch()
        assert written(log) == "a line before\nbefore\nafter\nan error\n"
        assert list(place.iterdir()) == [log]
    finally:
        subprocess.run(["umount", str(place)], check=True)
